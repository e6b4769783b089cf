"""Frames are deblurred with the PSF of a file, and nothing is identified."""

import numpy as np
import pytest
import tifffile
import torch

from deepblur_live import deblur
from deepblur_live.acquisition.simulated_sample import SimulatedSample
from deepblur_live.acquisition.trajectory import AberrationTrajectory
from deepblur_live.blur import family_from_profile
from deepblur_live.optics import psnr
from deepblur_live.profile import Model, Profile
from deepblur_live.runtime.build import build_pipeline
from deepblur_live.runtime.fixed_pipeline import FixedPsfPipeline
from deepblur_live.runtime.frame import Frame, FrameState

GAMMA = (0.06, 0.05, -0.05, 0.05, 0.0, 0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    """A profile whose PSF is the truth, the frame and what it should be."""
    family = family_from_profile(Profile())
    psf = family.psf(torch.tensor(GAMMA)).numpy()
    path = tmp_path_factory.mktemp("psf") / "psf.ome.tif"
    metadata = {"axes": "YX", "PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1}
    tifffile.imwrite(path, psf, ome=True, metadata=metadata)
    sample = SimulatedSample(
        family=family, trajectory=AberrationTrajectory(still=GAMMA), shape=(192, 192)
    )
    profile = Profile(model=Model(psf=str(path), threads=1))
    return profile, psf, sample.frame(0.0).pixels, sample.truth_image(0.0)


def test_frames_are_deblurred_and_nothing_is_identified(rig):
    profile, psf, pixels, sharp = rig
    pipeline = build_pipeline(profile)
    assert isinstance(pipeline, FixedPsfPipeline)
    peak = float(np.ptp(sharp))
    for k in range(2):
        result = pipeline.submit(Frame(pixels, k, 2.0 * k, "live")).result()
        assert result.state is FrameState.DEBLURRED, result.reason
        assert result.estimate is None
        assert result.spectrum is None
        assert result.strength == 1
        assert result.psf == pytest.approx(psf, abs=1e-6)
        assert psnr(result.deblurred, sharp, peak) > psnr(pixels, sharp, peak) + 2
    # The noise is measured, as an identification would.
    assert 0.001 < pipeline.identifier.noise_sigma < 0.05
    flat = pipeline.submit(Frame(np.full_like(pixels, 7), 2, 4.0)).result()
    assert flat.state is FrameState.RAW_ONLY
    pipeline.close()


def test_a_single_frame_needs_no_session(rig):
    profile, _, pixels, sharp = rig
    image, estimate = deblur(pixels, profile)
    assert estimate.trusted
    assert estimate.coefficients.shape == (0,)
    peak = float(np.ptp(sharp))
    assert psnr(image, sharp, peak) > psnr(pixels, sharp, peak) + 2
