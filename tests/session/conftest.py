"""A listener that only tells, a clock that is set by hand, and made-up results."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
import pytest

from deepblur_live.acquisition.listener import ListenerEvents
from deepblur_live.acquisition.statistics import Statistics
from deepblur_live.acquisition.worker import WorkerState
from deepblur_live.drift import TrackState
from deepblur_live.optics import Estimate, ZernikeFamily
from deepblur_live.runtime.frame import Frame, FrameResult, FrameState

START = np.array([0.05, 0.03, -0.04, 0.02, 0.0, 0.01, -0.02])


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeListener:
    """Emits what it is told to, and counts it."""

    def __init__(self) -> None:
        self.events = ListenerEvents()
        self.statistics = Statistics(
            worker_state=WorkerState.RUNNING, latency_p50_ms=40.0, latency_p95_ms=90.0
        )

    def tell(self, result: FrameResult) -> None:
        self.count(captured=1, processed=1)
        self.events.resultReady.emit(result)

    def count(self, **more: int) -> None:
        old = self.statistics
        self.statistics = replace(
            old, **{name: getattr(old, name) + n for name, n in more.items()}
        )


@dataclass
class Results:
    """Makes one result after another, a second apart."""

    shape: tuple[int, int] = (48, 64)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    number: int = 0

    def __call__(
        self,
        coefficients=START,
        *,
        sigma=0.002,
        truth=None,
        identified=True,
        accepted=True,
        raw_reason="",
        **metadata,
    ) -> FrameResult:
        time = float(self.number)
        if truth is not None:
            metadata |= {"truth": np.asarray(truth).tolist(), "truth_time": time}
        pixels = self.rng.integers(100, 1000, self.shape).astype(np.uint16)
        frame = Frame(pixels, self.number, time, "fake", metadata)
        self.number += 1
        if raw_reason:
            return FrameResult(frame, FrameState.RAW_ONLY, raw_reason)
        covariance = np.eye(len(coefficients)) * sigma**2
        return FrameResult(
            frame,
            FrameState.DEBLURRED,
            deblurred=pixels.astype(np.float32) + 1,
            estimate=Estimate(coefficients, covariance, 1.1) if identified else None,
            track=TrackState(time, np.asarray(coefficients), covariance, 6.5, accepted),
        )


@pytest.fixture
def family() -> ZernikeFamily:
    return ZernikeFamily()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def listener() -> FakeListener:
    return FakeListener()


@pytest.fixture
def results() -> Results:
    return Results()


@pytest.fixture
def start() -> np.ndarray:
    return START


@pytest.fixture
def now():
    return lambda: datetime(2025, 3, 4, 15, 6, 7)
