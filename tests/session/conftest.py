"""A listener that only emits, a clock that is set by hand, and made-up results."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from deepblur_live.acquisition.listener import ListenerEvents
from deepblur_live.acquisition.statistics import Statistics
from deepblur_live.acquisition.worker import WorkerState
from deepblur_live.blur import BlurFamily, Estimate, family_from_profile
from deepblur_live.drift import Alert, DriftState, DriftStatus, TrackState
from deepblur_live.profile import Drift, Profile, check_profile
from deepblur_live.runtime.frame import Frame, FrameResult, FrameState
from deepblur_live.session import LiveSession
from deepblur_live.session.sinks import AlertNotice, NoticeKind

# The room's pipeline; spawn hands sys.path to the worker.
sys.path.insert(0, str(Path(__file__).parent))

START = np.array([0.05, 0.03, -0.04, 0.02, 0.0, 0.01, -0.02, 0.01])


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeListener:
    """Emits results, and counts them."""

    def __init__(self) -> None:
        self.events = ListenerEvents()
        self.statistics = Statistics(
            worker_state=WorkerState.RUNNING, latency_p50_ms=40.0, latency_p95_ms=90.0
        )

    def forget_known(self) -> None:
        """Do nothing: there is no worker."""

    def emit(self, result: FrameResult) -> None:
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
        trusted=True,
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
            return FrameResult(
                frame.info, FrameState.RAW_ONLY, raw_reason, raw=frame.pixels
            )
        covariance = np.eye(len(coefficients)) * sigma**2
        estimate = None
        if identified:
            reason = "" if trusted else "too little detail"
            estimate = Estimate(coefficients, covariance, 1.1, trusted, reason)
        return FrameResult(
            frame.info,
            FrameState.DEBLURRED,
            raw=frame.pixels,
            deblurred=pixels.astype(np.float32) + 1,
            estimate=estimate,
            track=TrackState(time, np.asarray(coefficients), covariance, 6.5, accepted),
            executor="a made-up one",
        )


class LimitMonitor:
    """Reacts at once; the statistics of the real one need time, by design.

    The baseline is the last of the first points; a level is the change's size.
    """

    def __init__(self, family, settings, errors) -> None:
        self._settings = settings
        self._shape = (family.n_coefficients,)
        self.rebaseline()

    def rebaseline(self) -> None:
        needed = self._settings.baseline_points
        self.status = DriftStatus(DriftState.BASELINING, 0, needed)

    def update(self, track) -> Alert | None:
        if not track.accepted:
            return None
        if track.coefficients.shape != self._shape:
            raise ValueError(f"not of shape {self._shape}")
        status = self.status
        if status.baseline is None:
            n = status.n_baseline + 1
            self.status = replace(status, n_baseline=n)
            if n == status.n_needed:
                baseline = track.coefficients.copy()
                self.status = replace(
                    self.status, state=DriftState.OK, baseline=baseline
                )
            return None
        change = float(np.linalg.norm(track.coefficients - status.baseline))
        limits = (self._settings.warn, self._settings.alarm)
        levels = (DriftState.OK, DriftState.WARN, DriftState.ALARM)
        state = levels[sum(change >= limit for limit in limits)]
        risen = levels.index(state) > levels.index(status.state)
        self.status = replace(
            status,
            state=state,
            change=change,
            acknowledged=status.acknowledged and not risen and state != DriftState.OK,
        )
        return an_alert(state, track.time) if risen else None

    def acknowledge(self) -> None:
        if self.status.state in (DriftState.WARN, DriftState.ALARM):
            self.status = replace(self.status, acknowledged=True)

    def specimen_changed(self, reason: str) -> None:
        self.rebaseline()
        self.status = replace(self.status, reason=reason)

    def frames_changed(self, reason: str) -> None:
        self.specimen_changed(reason)

    def light_changed(self, logarithm: float) -> None:
        self.light = logarithm

    def snooze(self, seconds: float) -> None:
        self.status = replace(self.status, snoozed_until=seconds)


@pytest.fixture
def quick_monitor(monkeypatch) -> None:
    """Have sessions use limits alone."""
    monkeypatch.setattr("deepblur_live.session.new_series.DriftMonitor", LimitMonitor)


@pytest.fixture(scope="session")
def family() -> BlurFamily:
    return family_from_profile(Profile())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def listener() -> FakeListener:
    return FakeListener()


@pytest.fixture
def results() -> Results:
    return Results()


@pytest.fixture(scope="session")
def start() -> np.ndarray:
    return START


@pytest.fixture(scope="session")
def now():
    return lambda: datetime(2025, 3, 4, 15, 6, 7)


@pytest.fixture(scope="session")
def closed_session(tmp_path_factory, family, start, now) -> Path:
    """A minute, coma growing in it: its folder, to copy and not to change."""
    profile = Profile(name="rig <3> & co", drift=Drift(baseline_points=5))
    listener, results = FakeListener(), Results()
    kept = tmp_path_factory.mktemp("kept")
    session = LiveSession(profile, family, listener, kept, now=now)
    for k in range(60):
        grown = start + np.eye(8)[3] * 0.1 * max(0, k - 20) / 40
        listener.emit(results(grown, truth=grown))
    session.close()
    return session.folder


@pytest.fixture(scope="session")
def closed_field_session(tmp_path_factory) -> LiveSession:
    """Fifty seconds of a field; after thirty the specimen tilts."""
    content = {
        "model": {"blur": "field"},
        "drift": {"batch_s": 2, "baseline_points": 8, "false_alarm_hours": 2},
    }
    profile = check_profile(content, "test")
    family = family_from_profile(profile)
    listener, results = FakeListener(), Results(shape=(80, 80))
    kept = tmp_path_factory.mktemp("field")
    session = LiveSession(profile, family, listener, kept)
    truth = 0.3 * family.prior.scale
    for second in range(50):
        if second == 30:
            truth = truth.copy()
            truth[family.names.index("defocus, linear, along x")] += 0.25
        found = results.rng.normal(truth, 0.02 * family.prior.scale)
        listener.emit(results(found, truth=truth))
    session.close()
    return session


def an_alert(level=DriftState.ALARM, time=65.0) -> Alert:
    return Alert(
        time=time,
        level=level,
        change=0.08,
        change_sigma=0.004,
        unit="waves rms",
        coefficients=("vertical coma",),
        changes=(0.079,),
        since=30.0,
        text=f"{level.upper()}: the wavefront has changed by 43 ± 2 nm rms",
    )


@pytest.fixture
def make_notice():
    """Makes notices: `make_notice(kind, level)`."""

    def make(kind=NoticeKind.RAISED, level=DriftState.ALARM) -> AlertNotice:
        when = datetime(2025, 3, 4, 15, 7, 12, tzinfo=UTC)
        return AlertNotice(kind, an_alert(level), 65.0, when, "rig 3", "2025-03-04")

    return make
