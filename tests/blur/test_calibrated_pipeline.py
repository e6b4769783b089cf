"""A profile's calibration goes the whole way: identified, tracked and deblurred."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from calibrated_family import states

from deepblur_live.acquisition.simulated_sample import SimulatedSample
from deepblur_live.acquisition.trajectory import AberrationTrajectory
from deepblur_live.calibration.rig import rig_family
from deepblur_live.optics import psf_snr, psnr
from deepblur_live.profile import Model, Profile
from deepblur_live.runtime.build import build_pipeline
from deepblur_live.runtime.frame import Frame, FrameState

sys.path.append(str(Path(__file__).parents[1] / "calibration"))

from written_calibration import write_calibration

DEFOCUS = -0.08


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Frames of a microscope in a state that was not among those learned from."""
    # Defocus is no mode of a calibration, and the field is the same all over.
    trends = np.zeros((20, 3, 7))
    trends[:, 0] = states(20)[:, 1:]
    folder = tmp_path_factory.mktemp("calibrated") / "rig.calib"
    write_calibration(folder, trends, Profile().optics, blur_nm=0.0)
    profile = Profile(model=Model(calibration=str(folder), threads=1))
    family = rig_family(profile)
    gamma = states(1, seed=11)[0]
    gamma[0] = DEFOCUS
    truth = family.learned.coefficients(gamma)
    sample = SimulatedSample(
        family=family,
        trajectory=AberrationTrajectory(still=tuple(truth)),
        shape=(256, 256),
        bleaching_s=np.inf,
    )
    pipeline = build_pipeline(profile, asynchronous=False)
    # It was trained for the range of the optics.
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
    """With the wide family no frame determines it: here the prior is not symmetric."""
    _, truth, _, last = results
    assert truth[0] == DEFOCUS
    assert last.track.coefficients[0] == pytest.approx(DEFOCUS, abs=0.04)


def test_it_is_deblurred(results):
    _, _, sharp, last = results
    assert last.state is FrameState.DEBLURRED, last.reason
    peak = float(sharp.max() - sharp.min())
    assert psnr(last.deblurred, sharp, peak) > psnr(last.raw, sharp, peak) + 0.5
