"""The public API: its names, its lazy import, and deblurring one frame."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import deepblur_live as dbl
from deepblur_live import api
from deepblur_live.acquisition.simulated_sample import SimulatedSample
from deepblur_live.blur import Estimate
from deepblur_live.profile import Camera, ProfileError

PUBLIC = {
    "Alert",
    "DeblurListener",
    "Estimate",
    "Frame",
    "FrameResult",
    "LiveSession",
    "Profile",
    "__version__",
    "calibrate_files",
    "calibrate_stack",
    "deblur",
    "load_calibration",
    "load_profile",
    "open_series",
    "show",
}
HEAVY = ("torch", "scipy", "numpy", "pydantic", "rich", "qtpy", "pymmcore_plus")


def test_the_public_names_are_these_and_all_resolve() -> None:
    assert set(dbl.__all__) == PUBLIC
    assert set(dir(dbl)) >= PUBLIC
    for name in PUBLIC:
        assert getattr(dbl, name) is not None
    assert dbl.__version__ == version("deepblur-live")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        dbl.nothing  # noqa: B018


def test_the_import_loads_nothing_heavy() -> None:
    script = f"import sys, deepblur_live; print(*set({HEAVY!r}) & set(sys.modules))"
    ran = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ran.stdout.split() == []


def test_a_frame_is_deblurred_in_its_own_units(tmp_path: Path) -> None:
    sample = SimulatedSample(shape=(192, 192))
    camera = Camera(
        offset_adu=sample.noise.offset_adu,
        gain_e_per_adu=sample.noise.gain_e_per_adu,
        read_noise_e=sample.noise.read_noise_e,
    )
    frame = sample.frame(60.0)
    before = frame.pixels.copy()
    sharp, estimate = dbl.deblur(frame.pixels, dbl.Profile(camera=camera))
    assert estimate.trusted, estimate.reason
    assert sharp.shape == frame.pixels.shape
    assert sharp.dtype == np.float32
    truth = sample.truth_image(60.0)
    assert np.std(sharp - truth) < 0.8 * np.std(frame.pixels - truth)
    assert np.array_equal(frame.pixels, before)


def test_a_frame_whose_blur_is_not_identifiable_comes_back_unaltered(
    tmp_path: Path,
) -> None:
    file = tmp_path / "rig.toml"
    file.write_text("", "utf-8")
    noise = np.random.default_rng(0).normal(100, 5, (128, 128)).astype(np.uint16)
    sharp, estimate = dbl.deblur(noise, file)
    assert not estimate.trusted
    assert estimate.reason
    assert np.array_equal(sharp, noise)
    assert sharp.dtype == np.float32


def test_a_deblurred_frame_that_fails_its_checks_is_not_returned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The estimate is trusted, the frame is raw: the reason must not get lost."""
    estimate = Estimate(np.zeros(7), np.eye(7), 0.6)
    result = SimpleNamespace(
        estimate=estimate, deblurred=None, reason="failed its check", state="raw-only"
    )
    pipeline = SimpleNamespace(
        submit=lambda frame: SimpleNamespace(result=lambda: result),
        close=lambda: None,
    )
    monkeypatch.setattr(api, "build_pipeline", lambda profile, **_: pipeline)
    frame = np.ones((64, 64), np.uint8)
    sharp, returned = dbl.deblur(frame, dbl.Profile())
    assert np.array_equal(sharp, frame)
    assert (returned.trusted, returned.reason) == (False, "failed its check")


def test_what_cannot_be_deblurred_is_refused_with_the_reason(tmp_path: Path) -> None:
    profile = dbl.Profile()
    with pytest.raises(ValueError, match=r"one frame of shape \(H, W\).*\(3, 64, 64\)"):
        dbl.deblur(np.zeros((3, 64, 64)), profile)
    with pytest.raises(ValueError, match="cannot be deblurred: constant"):
        dbl.deblur(np.zeros((64, 64), np.uint8), profile)
    noise = 1e39 * np.random.default_rng(0).random((64, 64))
    with pytest.raises(ValueError, match="cannot be deblurred: its values"):
        dbl.deblur(noise, profile)
    with pytest.raises(ProfileError, match=r"none\.toml: cannot be read"):
        dbl.deblur(np.zeros((64, 64)), tmp_path / "none.toml")
