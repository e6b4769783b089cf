"""The gates: an engine against torch, a deblurred frame against its raw one."""

import math

import pytest
import torch

from deepblur_live.acquisition.simulated_sample import SimulatedSample
from deepblur_live.blur import family_from_profile
from deepblur_live.optics import NoiseModel
from deepblur_live.profile import Profile
from deepblur_live.runtime.calibration import scale
from deepblur_live.runtime.checks import FrameChecks, Verdict, reblurs
from deepblur_live.runtime.executor import TorchExecutor
from deepblur_live.runtime.parity import LIMIT, compare, trial_frame, trial_spectra

FAMILY = family_from_profile(Profile())


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
        (lambda x: x * 0, "constant"),
        (lambda x: torch.full_like(x, float(x.mean())), "constant"),
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


@pytest.fixture(scope="module", params=[(128, 128), (96, 203)])
def deblurred(request):
    from deepblur_live.runtime.pack import load_pack

    sample = SimulatedSample(shape=request.param)
    image = scale(sample.frame(0.0).pixels).image
    gamma = torch.tensor(sample.coefficients(0.0)).float()
    executor = TorchExecutor(
        load_pack("zernike7"), FAMILY, torch.device("cpu"), half=False
    )
    known = torch.zeros(len(gamma), len(gamma))
    return image, executor.deblur(image, gamma, known, NoiseModel.white(0.01)), gamma


def test_a_good_frame_reblurs_to_itself_at_any_noise_level(deblurred):
    image, sharp, gamma = deblurred
    for sigma in (0.001, 0.01, 0.1):
        assert reblurs(image, sharp, FAMILY, gamma, sigma)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda x: torch.roll(x, 2, 0),
        lambda x: x.flip(1),
        lambda x: torch.full_like(x, float(x.mean())),
        lambda x: x.mean() + 2 * (x - x.mean()),
        lambda x: x * math.nan,
    ],
)
def test_a_wrong_frame_with_the_right_flux_does_not(deblurred, spoil):
    image, sharp, gamma = deblurred
    assert not reblurs(image, spoil(sharp), FAMILY, gamma, 0.01)


def test_the_reblurred_frame_is_checked_regularly_and_always_after_a_failure(deblurred):
    image, sharp, gamma = deblurred
    wrong = sharp.flip(1)
    checks = FrameChecks(FAMILY, reblur_every=3)

    def fault(answer):
        checks.next_frame()
        return checks.verdict(image, answer, gamma, 0.01).reason

    assert fault(sharp) == ""
    assert [bool(fault(wrong)) for _ in range(5)] == [False, False, True, True, True]
    assert "blurred again" in fault(wrong)
    # A second result for the same frame is checked as the first was.
    assert checks.verdict(image, sharp, gamma, 0.01) == Verdict(1.0, "")
    assert [bool(fault(wrong)) for _ in range(3)] == [False, False, True]
    for factor in (1.2, math.nan):
        verdict = checks.verdict(image, sharp * factor, gamma, 0.01)
        assert verdict.strength == 0
        assert "total light" in verdict.reason
