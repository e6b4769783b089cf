"""A session without cameras, networks or threads, for the window to look at."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import numpy as np
import pytest
import torch

from deepblur_live.drift.tracker import TrackState
from deepblur_live.optics import ZernikeFamily
from deepblur_live.profile import Profile
from deepblur_live.runtime.frame import Frame, FrameResult, FrameState


@dataclass(frozen=True)
class FakeStatistics:
    captured: int = 1203
    processed: int = 310
    dropped: int = 892
    in_flight: int = 1
    camera_gaps: int = 0
    raw_only: Mapping[str, int] = field(
        default_factory=lambda: {"constant": 2, "saturated": 1}
    )
    fps_captured: float = 97.04
    fps_processed: float = 19.26
    latency_p50_ms: float = 52.3
    latency_p95_ms: float = 71.2
    worker_state: str = "running"


@dataclass(frozen=True)
class FakeStatus:
    state: str = "ok"
    n_baseline: int = 20
    n_needed: int = 20
    acknowledged: bool = False
    reason: str = ""
    snoozed_until: float | None = None


@dataclass(frozen=True)
class FakeAlert:
    time: float
    level: str
    text: str
    cause: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class FakeHistory:
    times: np.ndarray
    coefficients: np.ndarray
    sigma: np.ndarray
    truth: np.ndarray | None
    change: np.ndarray

    @property
    def low(self) -> np.ndarray:
        return self.coefficients

    @property
    def high(self) -> np.ndarray:
        return self.coefficients

    @property
    def change_low(self) -> np.ndarray:
        return self.change

    @property
    def change_high(self) -> np.ndarray:
        return self.change


@dataclass
class FakeListener:
    latest: FrameResult | None = None
    statistics: FakeStatistics = field(default_factory=FakeStatistics)
    background_errors: list[str] = field(default_factory=list)


class FakeSession:
    """What `SessionView` asks for, set by hand."""

    def __init__(self, profile: Profile | None = None) -> None:
        self.profile = profile or Profile()
        self.family = ZernikeFamily.from_optics(self.profile.optics)
        self.listener = FakeListener()
        self.calls: list[str] = []
        self.background_errors: list[str] = []
        self.status = FakeStatus()
        self.alerts: list[FakeAlert] = []
        self.folder: Path | None = None
        self.history = make_history(0, self.family.n_coefficients)
        self._number = 0

    def acknowledge(self) -> None:
        self.calls.append("acknowledge")

    def snooze(self, seconds: float) -> None:
        self.calls.append(f"snooze {seconds:g}")

    def rebaseline(self) -> None:
        self.calls.append("rebaseline")

    def publish(self, pixels: np.ndarray, **changes: object) -> FrameResult:
        """Make `pixels` the newest result, deblurred unless `changes` say else."""
        coefficients = np.linspace(-0.05, 0.05, self.family.n_coefficients)
        count = len(coefficients)
        time = 0.1 * self._number
        with torch.inference_mode():
            psf = self.family.psf(torch.as_tensor(coefficients)).numpy()
        truth = {"truth": coefficients * 1.1, "truth_time": time}
        result = FrameResult(
            Frame(pixels, self._number, time, "live", truth),
            FrameState.DEBLURRED,
            deblurred=pixels.astype(np.float32) * 1.5,
            track=TrackState(time, coefficients, np.eye(count) * 1e-6, 7.0, True),
            psf=psf.astype(np.float32),
            timings={"total": 20.0},
        )
        result = replace(result, **changes)
        self._number += 1
        self.listener.latest = result
        return result

    def publish_raw_only(self, pixels: np.ndarray, reason: str) -> FrameResult:
        return self.publish(
            pixels,
            state=FrameState.RAW_ONLY,
            reason=reason,
            deblurred=None,
            track=None,
            psf=None,
        )


def make_history(n: int, modes: int, *, truth: bool = True) -> FakeHistory:
    """Return `n` points, one a second, of a slow drift with known noise."""
    rng = np.random.default_rng(0)
    times = np.arange(n, dtype=np.float64)
    pace = (1 - np.exp(-times / 200.0))[:, None]
    true = np.linspace(-0.06, 0.06, modes) + pace * np.linspace(0.05, -0.04, modes)
    true[times > 420, min(1, modes - 1)] += 0.04
    sigma = np.full((n, modes), 0.004)
    found = true + rng.normal(0, 0.004, (n, modes))
    if n > 20:
        change = np.sqrt(((found - found[:20].mean(0)) ** 2).sum(1))
        change[:20] = np.nan
    else:
        change = np.full(n, np.nan)
    return FakeHistory(times, found, sigma, true if truth else None, change)


def texture(height: int = 120, width: int = 160, seed: int = 0) -> np.ndarray:
    """Return a textured 16-bit picture: bright points and blobs on a background."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft2(rng.normal(size=(height, width)))
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    smooth = np.fft.irfft2(spectrum / (1 + 400 * (fx**2 + fy**2)), s=(height, width))
    smooth = (smooth - smooth.mean()) / smooth.std()
    picture = 300 + 150 * smooth + 1500 * (rng.random((height, width)) > 0.995)
    return rng.poisson(np.clip(picture, 1, None)).astype(np.uint16)


@pytest.fixture
def session() -> FakeSession:
    return FakeSession()


@pytest.fixture
def picture() -> np.ndarray:
    return texture()


@pytest.fixture(name="make_history")
def make_history_fixture() -> Callable[..., FakeHistory]:
    return make_history


@pytest.fixture
def make_alert() -> type[FakeAlert]:
    return FakeAlert


@pytest.fixture
def session_of() -> type[FakeSession]:
    return FakeSession
