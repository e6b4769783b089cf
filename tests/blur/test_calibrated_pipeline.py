"""A calibrated family goes the whole way: identified, tracked and deblurred."""

import numpy as np
import pytest
import torch
from calibrated_family import SimulatedCalibration, states

from deepblur_live.acquisition.simulated_sample import SimulatedSample
from deepblur_live.acquisition.trajectory import AberrationTrajectory
from deepblur_live.blur import family_from_profile
from deepblur_live.optics import psf_snr, psnr
from deepblur_live.profile import Drift, Model, Profile
from deepblur_live.runtime.build import build_pipeline
from deepblur_live.runtime.frame import Frame, FrameState

PROFILE = Profile(
    model=Model(family="calibrated_family:SimulatedCalibration", threads=1),
    drift=Drift(warn=0.05, alarm=0.1),
)
DEFOCUS = -0.08


@pytest.fixture(scope="module")
def results():
    """Frames of a microscope in a state that was not among those learned from."""
    family = family_from_profile(PROFILE)
    assert isinstance(family, SimulatedCalibration)
    gamma = states(1, seed=11)[0]
    gamma[0] = DEFOCUS
    truth = family.learned.coefficients(gamma)
    sample = SimulatedSample(
        family=family,
        trajectory=AberrationTrajectory(still=tuple(truth)),
        shape=(256, 256),
        bleaching_s=np.inf,
    )
    pipeline = build_pipeline(PROFILE, asynchronous=False)
    assert pipeline.identifier.network is None
    last = None
    for number in range(3):
        time = 1.2 * number
        frame = Frame(sample.frame(time).pixels, number, time, "test")
        last = pipeline.submit(frame).result()
    return family, truth, sample.truth_image(time), last


def test_it_is_identified(results):
    family, truth, _, last = results
    assert last.estimate.trusted, last.estimate.reason
    psfs = family.psf(torch.from_numpy(np.stack([truth, last.track.coefficients])))
    assert psf_snr(psfs[1], psfs[0]) > 12


def test_the_known_aberrations_tell_the_sign_of_defocus(results):
    """Which no frame tells of the wide family: the prior is no longer symmetric."""
    _, truth, _, last = results
    assert truth[0] == DEFOCUS
    assert last.track.coefficients[0] == pytest.approx(DEFOCUS, abs=0.04)


def test_it_is_deblurred(results):
    _, _, sharp, last = results
    assert last.state is FrameState.DEBLURRED, last.reason
    peak = float(sharp.max() - sharp.min())
    assert psnr(last.deblurred, sharp, peak) > psnr(last.raw, sharp, peak) + 0.5
