"""A session set by hand: real data types, no cameras, networks or threads."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pymmcore_plus import CMMCorePlus
from qtpy.QtCore import QSettings

from deepblur_live.acquisition.statistics import Statistics
from deepblur_live.acquisition.worker import WorkerState
from deepblur_live.blur import BlurFamily, family_from_profile
from deepblur_live.drift import Alert, DriftState, DriftStatus, TrackState
from deepblur_live.gui.main_window import MainWindow
from deepblur_live.profile import Profile
from deepblur_live.runtime.frame import Frame, FrameResult, FrameState
from deepblur_live.runtime.series_key import SeriesKey
from deepblur_live.session.history import History
from deepblur_live.session.optics_check import OpticsCheck
from deepblur_live.session.recording import Recorder
from deepblur_live.session.series_watch import SeriesHistory
from deepblur_live.session.verification import NOT_VERIFIED
from deepblur_live.session.watched import Watched

sys.path.insert(0, str(Path(__file__).parent))

from still_window import redraw

STATISTICS = Statistics(
    captured=1203,
    processed=310,
    dropped=892,
    in_flight=1,
    raw_only={"constant": 2, "saturated": 1},
    fps_captured=97.04,
    fps_processed=19.26,
    latency_p50_ms=52.3,
    latency_p95_ms=71.2,
    worker_state=WorkerState.RUNNING,
)


@dataclass
class FakeListener:
    latest: FrameResult | None = None
    statistics: Statistics = STATISTICS
    background_errors: list[str] = field(default_factory=list)
    processes_every_frame: bool = False


class FakeSession:
    """What the window uses of a `LiveSession`."""

    def __init__(
        self, profile: Profile | None = None, family: BlurFamily | None = None
    ) -> None:
        self.profile = profile or Profile()
        self.family = family or family_from_profile(self.profile)
        self.closed = False
        self.listener = FakeListener()
        self.core: CMMCorePlus | None = None
        self.calls: list[str] = []
        self.background_errors: list[str] = []
        self.status = DriftStatus(DriftState.OK, 20, 20)
        self.alerts: list[Alert] = []
        self.folder: Path | None = None
        self.recorder = Recorder(
            self.profile,
            self.family,
            "",
            self.background_errors.append,
            lambda event, **_: self.calls.append(event),
        )
        self.verification = NOT_VERIFIED
        self.optics = OpticsCheck(
            Profile(optics=Profile().optics.model_dump()),
            SimpleNamespace(event=lambda event, **_: self.calls.append(event)),
            self.calls.append,
            lambda reason: self.calls.append("settled"),
        )
        self.watched = Watched(100.0, 60.0, 20.0)
        self.history = make_history(0, self.family.n_coefficients)
        self.series: tuple[SeriesKey, ...] = (SeriesKey(),)
        self._number = 0

    def series_history(self, key: SeriesKey | None = None) -> SeriesHistory:
        shown = self.series[-1] if key is None else key
        alerts = tuple(self.alerts)
        return SeriesHistory(
            shown, self.family, self.history, alerts, self.verification
        )

    def family_of(self, result: FrameResult) -> BlurFamily:
        return self.family

    def process_every_frame(self, on: bool) -> None:
        self.listener.processes_every_frame = on

    def acknowledge(self) -> None:
        self.calls.append("acknowledge")

    def snooze(self, seconds: float) -> None:
        self.calls.append(f"snooze {seconds:g}")

    def rebaseline(self) -> None:
        self.calls.append("rebaseline")

    @cached_property
    def _blur(self) -> tuple[np.ndarray, np.ndarray]:
        coefficients = np.linspace(-0.05, 0.05, self.family.n_coefficients)
        with torch.inference_mode():
            psf = self.family.psf(torch.as_tensor(coefficients)).numpy()
        return coefficients, psf.astype(np.float32)

    def publish(self, pixels: np.ndarray, **changes: object) -> FrameResult:
        """Make `pixels` the newest result: deblurred, unless changed by `changes`."""
        coefficients, psf = self._blur
        count = len(coefficients)
        time = 0.1 * self._number
        truth = {"truth": coefficients * 1.1, "truth_time": time}
        result = FrameResult(
            Frame(pixels, self._number, time, "live", truth).info,
            FrameState.DEBLURRED,
            raw=pixels,
            deblurred=pixels.astype(np.float32) * 1.5,
            track=TrackState(time, coefficients, np.eye(count) * 1e-6, 7.0, True),
            psf=psf,
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


def make_history(n: int, size: int, *, truth: bool = True) -> History:
    """Return `n` points, one a second, of a slow drift with known noise."""
    rng = np.random.default_rng(0)
    times = np.arange(n, dtype=np.float64)
    pace = (1 - np.exp(-times / 200.0))[:, None]
    true = np.linspace(-0.06, 0.06, size) + pace * np.linspace(0.05, -0.04, size)
    true[times > 420, max(0, min(1, size - 1)) : 2] += 0.04
    found = true + rng.normal(0, 0.004, (n, size))
    change = np.full(n, np.nan)
    if n > 20:
        change[20:] = np.sqrt(((found[20:] - found[:20].mean(0)) ** 2).sum(1))
    return History(
        times=times,
        coefficients=found,
        sigma=np.full((n, size), 0.004),
        truth=true if truth else np.full((n, size), np.nan),
        change=change,
        limits=np.full((n, 2), np.nan),
        strength_limits=np.full((n, 2), np.nan),
        strength=change,
        low=found,
        high=found,
        change_low=change,
        change_high=change,
    )


def make_alert(
    time: float, level: str, text: str, cause: str = "", remedy: str = ""
) -> Alert:
    return Alert(
        time=time,
        level=DriftState(level),
        change=0.1,
        change_sigma=0.01,
        unit="waves rms",
        coefficients=("defocus",),
        changes=(0.1,),
        since=time,
        text=text,
        cause=cause,
        remedy=remedy,
    )


def texture(height: int = 120, width: int = 160, seed: int = 0) -> np.ndarray:
    """Return a textured 16-bit image: bright points and blobs on a background."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft2(rng.normal(size=(height, width)))
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    smooth = np.fft.irfft2(spectrum / (1 + 400 * (fx**2 + fy**2)), s=(height, width))
    smooth = (smooth - smooth.mean()) / smooth.std()
    image = 300 + 150 * smooth + 1500 * (rng.random((height, width)) > 0.995)
    return rng.poisson(np.clip(image, 1, None)).astype(np.uint16)


@pytest.fixture
def session() -> FakeSession:
    return FakeSession()


@pytest.fixture
def image() -> np.ndarray:
    return texture()


@pytest.fixture(name="make_history")
def make_history_fixture() -> Callable[..., History]:
    return make_history


@pytest.fixture(name="make_alert")
def make_alert_fixture() -> Callable[..., Alert]:
    return make_alert


@pytest.fixture
def session_of() -> type[FakeSession]:
    return FakeSession


@pytest.fixture
def window(session, image, qtbot) -> Iterator[MainWindow]:
    """A window with a result, drawn when `still_window.redraw` is called."""
    session.publish(image)
    window = MainWindow(session, remember=False)
    qtbot.addWidget(window)
    window.resize(1400, 900)
    window.show()
    window.timer.stop()
    redraw(window)
    yield window
    assert window.error == ""


@pytest.fixture(autouse=True)
def settings_of_the_test(tmp_path: Path) -> None:
    """Keep the user's remembered layout out of the tests, and theirs out of it."""
    ini, user = QSettings.Format.IniFormat, QSettings.Scope.UserScope
    QSettings.setPath(ini, user, str(tmp_path / "settings"))
