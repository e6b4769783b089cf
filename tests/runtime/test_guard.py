"""The guard: right results pass; wrong ones, and frames it cannot judge, do not."""

import pytest
import torch
from torch.nn import functional as F

from deepblur_live.acquisition.specimen import load_specimen
from deepblur_live.blur import Convolution, family_from_profile
from deepblur_live.optics import NoiseModel, measure_noise
from deepblur_live.profile import Profile
from deepblur_live.runtime.guard import FrameGuard, untreatable

FAMILY = family_from_profile(Profile())
SIDE, EDGE = 224, 40
ELECTRONS = 2000.0
SURE = 0.01**2 * torch.eye(FAMILY.n_coefficients)
GAMMA = FAMILY.sample_rms(1, torch.Generator().manual_seed(3))[0]


def noisy(clean: torch.Tensor, seed: int = 0) -> torch.Tensor:
    chance = torch.Generator().manual_seed(seed)
    shot = torch.poisson(clean.clamp(min=0) * ELECTRONS, generator=chance)
    return (shot + 1.5 * torch.randn(clean.shape, generator=chance)) / ELECTRONS


@pytest.fixture(scope="module")
def scene() -> tuple[torch.Tensor, torch.Tensor, NoiseModel]:
    """Return a frame, its true sharp image, and its measured noise."""
    picture = torch.as_tensor(load_specimen()).float()
    side = SIDE + 2 * EDGE
    sharp = picture[:side, :side] / picture.max()
    blurred = Convolution(FAMILY.psf(GAMMA), (side, side)).forward(sharp)
    inner = (slice(EDGE, -EDGE), slice(EDGE, -EDGE))
    frame = noisy(blurred[inner])
    noise = measure_noise(frame, FAMILY.cutoff)
    assert noise is not None
    return frame, sharp[inner], noise


def judge(scene, sharp=None, covariance=SURE, gamma=GAMMA):
    frame, truth, noise = scene
    sharp = truth if sharp is None else sharp
    return FrameGuard(FAMILY).verdict(frame, sharp, gamma, covariance, noise)


def test_the_true_image_passes(scene):
    verdict = judge(scene)
    # At a stated error of 0.01 waves a mode all is shown.
    assert verdict.strength == 1
    assert verdict.reason == ""


def test_the_residual_of_the_true_image_is_noise(scene):
    frame, truth, noise = scene
    found = FrameGuard(FAMILY).evidence(frame, truth, GAMMA, noise)
    assert found.fine == pytest.approx(1, abs=0.1)
    assert found.unexplained < 0.02


@pytest.mark.parametrize(
    "spoil",
    [
        lambda x: x.roll(3, 0),
        lambda x: x.flip(1),
        lambda x: torch.full_like(x, float(x.mean())),
        lambda x: x.mean() + 2.5 * (x - x.mean()),
    ],
)
def test_an_image_that_does_not_explain_the_frame_is_not_shown(scene, spoil):
    verdict = judge(scene, spoil(scene[1]))
    assert verdict.strength == 0
    assert "blurred again, does not match" in verdict.reason


@pytest.mark.parametrize("factor", [1.1, torch.nan, torch.inf])
def test_light_that_appears_is_not_shown(scene, factor):
    verdict = judge(scene, scene[1] * factor)
    assert verdict.strength == 0
    assert "total light" in verdict.reason


def test_a_frame_that_is_sharp_already_stays_raw(scene):
    _, truth, _ = scene
    frame = noisy(truth, 1)
    noise = measure_noise(frame, FAMILY.cutoff)
    verdict = FrameGuard(FAMILY).verdict(frame, truth, GAMMA, SURE, noise)
    assert verdict.strength == 0
    assert "finer detail than this blur passes" in verdict.reason


def test_strength_falls_with_the_stated_error(scene):
    errors = (0.004, 0.02, 0.0525, 0.1, 0.15)
    found = [judge(scene, covariance=s**2 * SURE / 1e-4) for s in errors]
    # Of the range of 0.15 waves 0.35 is the error at which half is shown.
    expected = [1.0, 0.87, 0.5, 0.22, 0.0]
    assert [verdict.strength for verdict in found] == pytest.approx(expected, abs=0.01)
    assert [bool(verdict.reason) for verdict in found] == [False, False, *[True] * 3]
    # 8 modes of 0.0525 waves.
    assert found[2].reason.startswith("50% strength: the blur is uncertain (± ")
    assert "0.15 waves" in found[2].reason or "80 nm" in found[2].reason
    assert "too uncertain" in found[4].reason
    assert judge(scene, covariance=SURE * torch.nan).strength == 0


def test_no_frame_is_deblurred_with_a_blur_that_is_unknown():
    guard = FrameGuard(FAMILY)
    assert guard.refusal(SURE) == ""
    assert "too uncertain" in guard.refusal(SURE * torch.inf)


@pytest.mark.parametrize("side", [64, 96, 128])
def test_chance_refuses_few_true_images_of_small_frames(scene, side):
    frame, truth, noise = scene
    guard, refused, count = FrameGuard(FAMILY), 0, 0
    for row in range(0, SIDE - side + 1, 32):
        for column in range(0, SIDE - side + 1, 32):
            part = (slice(row, row + side), slice(column, column + side))
            found = guard.verdict(frame[part], truth[part], GAMMA, SURE, noise)
            # Light that crosses the border changes the total of a small frame.
            refused += found.strength == 0 and "total light" not in found.reason
            count += 1
    assert refused <= 0.05 * count


def test_a_frame_with_no_inside_is_not_judged(scene):
    frame, truth, noise = scene
    part = (slice(50), slice(200))
    found = FrameGuard(FAMILY).verdict(frame[part], truth[part], GAMMA, SURE, noise)
    assert found.strength == 0
    assert "too small" in found.reason


def test_frames_smaller_and_larger_than_a_window_of_the_spectrum_are_judged(scene):
    frame, truth, noise = scene
    part = (slice(80), slice(97))
    small = (frame[part], truth[part], noise)
    assert FrameGuard(FAMILY).evidence(*small[:2], GAMMA, noise).unexplained < 0.1
    wide, sharp = (
        F.pad(image[None, None], (0, 200, 0, 0), mode="reflect")[0, 0]
        for image in (frame, truth)
    )
    found = FrameGuard(FAMILY).evidence(wide, sharp, GAMMA, noise)
    assert found.fine == pytest.approx(1, abs=0.2)
    assert FrameGuard(FAMILY).evidence(wide, wide, GAMMA, noise).unexplained > 0.1


def test_frames_without_a_known_noise_cannot_be_treated(scene):
    frame, _, noise = scene
    assert untreatable(frame, noise) == ""

    def model(*values: float) -> NoiseModel:
        return NoiseModel(*(torch.tensor([value]) for value in values))

    for wrong in (model(torch.nan, 0, 0), model(0, -1, 0), model(0, torch.inf, 0)):
        assert "zero or not a number" in untreatable(frame, wrong)
    assert untreatable(frame, noise, noise) == ""
    wrong = model(9 / ELECTRONS, 0, 0)
    assert "times lower than" in untreatable(frame, noise, wrong)


def test_clipped_frames_cannot_be_treated(scene):
    frame, _, noise = scene
    grey = (frame * 1000).round() / 1000
    assert untreatable(grey, noise) == ""
    assert "clipped" in untreatable(grey.clamp(max=float(grey.quantile(0.97))), noise)
    # Few grey values are not clipping.
    assert untreatable((frame * 20).round() / 20, noise) == ""
