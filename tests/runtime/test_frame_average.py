"""The mean of frames of a still specimen: its noise, and when it starts again."""

import numpy as np
import pytest
import torch

from deepblur_live.acquisition.simulated_sample import SimulatedSample
from deepblur_live.optics import CameraNoise, psnr
from deepblur_live.profile import Camera, Profile
from deepblur_live.runtime.build import build_pipeline
from deepblur_live.runtime.calibration import scale
from deepblur_live.runtime.frame import Frame, FrameState
from deepblur_live.runtime.frame_average import FrameAverage
from deepblur_live.runtime.frame_noise import FrameNoise

CAMERA = CameraNoise(offset_adu=100.0, gain_e_per_adu=0.5, read_noise_e=1.5)
NOISE = FrameNoise(Camera(offset_adu=100.0, gain_e_per_adu=0.5, read_noise_e=1.5), 0.26)


def scene(shift=0.0, light=1.0):
    """Return electrons (128, 128) of dark and bright parts."""
    row = torch.linspace(0, 12.6, 128) + shift
    return light * (20 + 200 * (1 + torch.sin(row)[:, None] * torch.sin(row)))


def add(average, electrons, seed):
    """Return what the mean is in grey values, the share of variance, and its number."""
    grey = CAMERA.sample(electrons, torch.Generator().manual_seed(seed)).round()
    scaled = scale(grey.numpy().astype(np.uint16))
    mean, share, number = average.add(scaled, NOISE.of(scaled, 0, whole=True).used)
    return mean.low + mean.span * mean.image, share, number


def test_the_mean_has_the_noise_that_it_states():
    average = FrameAverage(8)
    truth = CAMERA.mean(scene())
    sigma = CAMERA.variance(scene()).sqrt()
    numbers = []
    for seed in range(30):
        mean, share, number = add(average, scene(), seed)
        numbers.append(number)
        if seed in (0, 3, 29):
            off = float(((mean - truth) / sigma).square().mean())
            assert off == pytest.approx(share, rel=0.1)
    assert numbers[:9] == [1, 2, 3, 4, 5, 6, 7, 8, 8]
    # An exponential mean of weight 1/8.
    assert share == pytest.approx(1 / 15, rel=0.02)


@pytest.mark.parametrize(
    ("after", "starts_again"),
    [
        (scene(), False),
        (scene(light=0.97), False),
        (scene(light=0.5), True),
        # By one pixel of 128.
        (scene(shift=0.1), True),
        (scene()[:, :100], True),
    ],
)
def test_it_starts_again_when_the_specimen_moves(after, starts_again):
    average = FrameAverage(8)
    for seed in range(4):
        add(average, scene(), seed)
    mean, share, number = add(average, after, 9)
    assert (number == 1) is starts_again
    if starts_again:
        single = CAMERA.sample(after, torch.Generator().manual_seed(9)).round()
        assert share == 1
        assert float((mean - single).abs().median()) < 0.01


def test_a_small_object_that_moves_ends_the_mean():
    """One spot of a few pixels in a still field, which the mean would lose."""
    average, numbers = FrameAverage(8), []
    for seed in range(6):
        light = scene()
        light[40:44, 20 + 6 * seed : 24 + 6 * seed] += 300
        numbers.append(add(average, light, seed)[2])
    assert numbers == [1] * 6


def test_reset_forgets_and_one_frame_is_no_mean():
    average = FrameAverage(4)
    add(average, scene(), 0)
    average.reset()
    assert add(average, scene(), 1)[2] == 1
    off = FrameAverage(1)
    assert [add(off, scene(), seed)[1:] for seed in range(2)] == [(1.0, 1)] * 2


def test_deblurred_frames_of_a_still_specimen_gain_from_their_mean(quick_search):
    sample = SimulatedSample(shape=(128, 128), peak_electrons=300.0)
    scores = {}
    for frames in (1, 8):
        settings = {"model": {"average_frames": frames, "threads": 1}}
        pipeline = build_pipeline(Profile.model_validate(settings))
        for k in range(8):
            # So soon after each other that neither stage nor blur has drifted.
            pixels = sample.frame(0.002 * k, 0.0).pixels
            result = pipeline.submit(Frame(pixels, k, 0.1 * k, "replay")).result()
        pipeline.close()
        assert result.state is FrameState.DEBLURRED, result.reason
        assert result.averaged == frames
        scores[frames] = psnr(result.deblurred, sample.truth_image(0.014))
    assert scores[8] > scores[1] + 1
