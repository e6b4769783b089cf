"""Minima of spectrum and phases together, and when they are searched for."""

import numpy as np
import torch
from specimens import ERRORS, FAMILY, LENIENT, blurred, cells, fit_of

from deepblur_live.identification import Identifier, Phase, identifier, search
from deepblur_live.identification.minima import best_first, distinct, rank_by_phase
from deepblur_live.optics import psf_snr


def _snr(found, truth):
    return max(
        float(psf_snr(FAMILY.psf(torch.as_tensor(one).float()), FAMILY.psf(truth)))
        for one in (found, np.where(FAMILY.even, found, -found))
    )


def test_phases_find_blurs_that_are_not_a_minimum_of_the_spectrum(monkeypatch):
    generator = torch.Generator().manual_seed(5)
    truths = [FAMILY.sample(1, generator)[0] for _ in range(4)]
    for seed in (1, 2):
        truth = truths[seed]
        frame = blurred(cells(seed=seed), truth.numpy(), 0.03, seed)
        reached = []
        for config in (search.WIDE._replace(phase_starts=0), search.WIDE):
            monkeypatch.setattr(identifier, "WIDE", config)
            identified = Identifier(FAMILY, ERRORS)
            identified.observe(frame, 0.0)
            reached.append(_snr(identified.estimate(frame).coefficients, truth))
        without, with_phases = reached
        assert without < 7
        assert with_phases > 11


def test_refinement_with_phases_only_while_the_old_blur_is_not_favoured(monkeypatch):
    truth = np.array([0.1, 0.05, -0.08, 0.1, -0.05, 0.12, 0.06])
    frame = blurred(cells(seed=2), truth, 0.003)
    refined = []
    original = search.Search._with_phases
    monkeypatch.setattr(
        search.Search,
        "_with_phases",
        lambda self, *rest: refined.append(0) or original(self, *rest),
    )
    identified, observed = Identifier(FAMILY, LENIENT, average_s=5.0), []
    for time in (0.0, 0.1, 0.2, 10.5):
        identified.observe(frame, time)
        problem = identified.prepare(frame, truth)
        before = len(refined)
        identified.accept(identified.solve(problem))
        observed.append((problem.search, problem.hysteresis, len(refined) - before))
    # The first frame; the next; one whose average has doubled; one that is due.
    assert observed == [
        (search.LOCAL, 0, 1),
        (None, search.HYSTERESIS, 0),
        (search.LOCAL, 0, 1),
        (search.LOCAL, search.HYSTERESIS, 0),
    ]


def test_minima_without_a_finite_misfit_are_left_to_the_verdict():
    zero = np.zeros((7, 7))
    truth = torch.tensor([0.1, 0.05, -0.08, 0.1, -0.05, 0.12, 0.06])
    phase = Phase(FAMILY, blurred(cells(seed=2), truth.numpy(), 0.01), 0.01, truth)
    gamma = np.stack([np.full(7, np.nan), truth.numpy()])
    lost = fit_of(gamma, np.full(2, np.nan), zero, zero, 0.5)
    assert rank_by_phase(FAMILY, lost, phase) is lost
    partly = fit_of(gamma, np.array([np.nan, 3.0]), zero, zero, 0.5)
    found = rank_by_phase(FAMILY, partly, phase)
    np.testing.assert_allclose(np.abs(found.coefficients), np.abs(gamma[1:]), rtol=1e-6)


def test_starts_close_together_count_as_one():
    gamma = torch.zeros(5, 7)
    gamma[:, 0] = torch.tensor([0.0, 0.02, 0.05, 0.07, 0.2])
    assert distinct(gamma, 0.03) == [0, 2, 4]


def test_another_minimum_must_be_better_by_the_hysteresis():
    zero = np.zeros((7, 7))
    fit = fit_of(np.zeros((1, 7)), np.zeros(1), zero, zero, 0.5)
    gamma = torch.stack([torch.full((7,), 0.1), torch.linspace(-0.1, 0.1, 7)])
    for better, first in ((3.0, 0), (8.0, 1)):
        found = best_first(FAMILY, fit, gamma, torch.tensor([0.0, -better]), 4.0)
        np.testing.assert_allclose(found.coefficients[0], gamma[first], atol=1e-6)
        # Its misfit stays what it is.
        assert found.objective[0] == (0.0, -better)[first]
