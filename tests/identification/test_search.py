"""Minima that phases lead to, and when they are looked for."""

import numpy as np
import torch
from specimens import FAMILY, blurred, cells

from deepblur_live.identification import Identifier, Phase, identifier, search
from deepblur_live.identification.fit import Fit
from deepblur_live.identification.minima import best_first, distinct, told_apart
from deepblur_live.optics import psf_snr


def _snr(found, truth):
    return max(
        float(psf_snr(FAMILY.psf(torch.as_tensor(one).float()), FAMILY.psf(truth)))
        for one in (found, np.where(FAMILY.even, found, -found))
    )


def test_phases_lead_to_blurs_that_the_spectrum_alone_leaves(monkeypatch):
    generator = torch.Generator().manual_seed(5)
    truths = [FAMILY.sample(1, generator)[0] for _ in range(4)]
    for seed in (1, 3):
        truth = truths[seed]
        frame = blurred(cells(seed=seed), truth.numpy(), 0.03, seed)
        reached = []
        for breadth in (search.MANY._replace(led=0), search.MANY):
            monkeypatch.setattr(identifier, "MANY", breadth)
            asked = Identifier(FAMILY)
            asked.observe(frame, 0.0)
            reached.append(_snr(asked.estimate(frame).coefficients, truth))
        without, led = reached
        assert without < 7
        assert led > 11


def test_phases_lead_only_while_the_old_blur_has_no_credit(monkeypatch):
    truth = np.array([0.1, 0.05, -0.08, 0.1, -0.05, 0.12, 0.06])
    frame = blurred(cells(seed=2), truth, 0.003)
    looked = []
    led = search.Search._led
    monkeypatch.setattr(
        search.Search, "_led", lambda self, *rest: looked.append(0) or led(self, *rest)
    )
    asked, credits = Identifier(FAMILY, average_s=5.0), []
    for time in (0.0, 0.1, 0.2, 10.5):
        asked.observe(frame, time)
        question = asked.ask(frame, truth)
        before = len(looked)
        asked.accept(asked.answer(question))
        credits.append((question.breadth, question.credit, len(looked) - before))
    # The first frame; the next; one whose average has doubled; one that is due.
    assert credits == [
        (search.FEW, 0, 1),
        (None, search.KEPT, 0),
        (search.FEW, 0, 1),
        (search.FEW, search.KEPT, 0),
    ]


def test_minima_without_a_misfit_are_left_to_the_verdict():
    zero = np.zeros((7, 7))
    truth = torch.tensor([0.1, 0.05, -0.08, 0.1, -0.05, 0.12, 0.06])
    phase = Phase(FAMILY, blurred(cells(seed=2), truth.numpy(), 0.01), 0.01, truth)
    gamma = np.stack([np.full(7, np.nan), truth.numpy()])
    lost = Fit(gamma, np.full(2, np.nan), zero, zero, 0.5)
    assert told_apart(FAMILY, lost, phase) is lost
    partly = Fit(gamma, np.array([np.nan, 3.0]), zero, zero, 0.5)
    found = told_apart(FAMILY, partly, phase)
    np.testing.assert_allclose(np.abs(found.coefficients), np.abs(gamma[1:]), rtol=1e-6)


def test_starts_that_are_near_one_another_count_as_one():
    gamma = torch.zeros(5, 7)
    gamma[:, 0] = torch.tensor([0.0, 0.02, 0.05, 0.07, 0.2])
    assert distinct(gamma, 0.03) == [0, 2, 4]


def test_another_minimum_must_be_better_by_the_firsts_credit():
    zero = np.zeros((7, 7))
    fit = Fit(np.zeros((1, 7)), np.zeros(1), zero, zero, 0.5)
    gamma = torch.stack([torch.full((7,), 0.1), torch.linspace(-0.1, 0.1, 7)])
    for better, first in ((3.0, 0), (8.0, 1)):
        found = best_first(FAMILY, fit, gamma, torch.tensor([0.0, -better]), 4.0)
        np.testing.assert_allclose(found.coefficients[0], gamma[first], atol=1e-6)
        # Its misfit stays what it is.
        assert found.objective[0] == (0.0, -better)[first]
