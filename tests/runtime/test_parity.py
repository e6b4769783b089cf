"""An engine against torch."""

import math

import pytest
import torch

from deepblur_live.runtime.parity import LIMIT, compare, trial_frame, trial_spectra


def test_agreement_within_the_limit_passes():
    reference = trial_frame((64, 96))
    near = reference + 0.5 * LIMIT * reference.norm() / 78 * torch.ones(64, 96)
    verdict = compare("frame", near, reference)
    assert verdict.passed
    assert "frame: the engine agrees with torch" in verdict.text


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda x: x * 1.01, "differs from torch, relative error 1.0e-02"),
        (lambda x: x * math.nan, "not finite"),
        (lambda x: torch.where(x == x.max(), math.inf, x), "not finite"),
        (lambda x: x * 0, "differs"),
        (lambda x: torch.full_like(x, float(x.mean())), "differs"),
        (lambda x: x.flip(0), "differs"),
    ],
)
def test_wrong_results_do_not_pass_and_are_named(spoil, said):
    reference = trial_frame((64, 96))
    verdict = compare("frame", spoil(reference), reference)
    assert not verdict.passed
    assert said in verdict.text


def test_trials_are_the_same_every_time_and_not_flat():
    for make, shape in ((trial_frame, (70, 64)), (trial_spectra, (2, 2, 64, 32))):
        first = make(shape)
        assert first.shape == shape
        assert torch.equal(first, make(shape))
        assert first.std() > 0.05
