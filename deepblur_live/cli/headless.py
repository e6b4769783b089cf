"""A run without a window: wait, report progress, stop in time."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from deepblur_live.acquisition import SeriesError
from deepblur_live.blur.zernike_field import ZernikeField
from deepblur_live.cli.console import say
from deepblur_live.cli.cores import MicroscopeError
from deepblur_live.cli.progress import RunProgress, progress_text
from deepblur_live.session.quality import blur_quality

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from deepblur_live.acquisition import Series
    from deepblur_live.cli.mda import MdaRun
    from deepblur_live.drift import Alert
    from deepblur_live.session import LiveSession

__all__ = ["feed", "watch_live", "watch_mda", "watch_replay", "watch_waiting"]

_TICK_S = 0.25
_SILENCE_S = 10.0
# Give up a recording after this long without a result: more than it takes to detect a
# worker that hangs, and to restart it.
_STALLED_S = 120.0
# Frames of a recording in flight: enough to keep the worker busy; few enough for the
# display to be up to date, and for the ring to hold them at 4096².
_AHEAD, _POLL_S = 4, 0.01
# For a recording without times: slow enough for every frame to be identified.
_UNKNOWN_INTERVAL_S = 1.0


def watch_live(
    session: LiveSession,
    console: Console,
    seconds: float | None,
    *,
    clock: Callable[[], float] = time.monotonic,
    silence_s: float = _SILENCE_S,
) -> None:
    """Run live mode for `seconds`, or until interrupted; the session must have a core.

    Raises
    ------
    MicroscopeError
        The camera cannot start, or has sent nothing within its exposure time plus
        `silence_s`.
    """
    core = session.core
    assert core is not None
    camera = core.getCameraDevice()
    try:
        core.startContinuousSequenceAcquisition()
    except Exception as error:  # whatever a camera driver raises
        raise MicroscopeError(f"camera {camera}: cannot start: {error}") from error
    patience = silence_s + core.getExposure() / 1000
    with _progress(session, console, seconds) as progress:
        for elapsed in _ticks(seconds, clock):
            progress.show(elapsed, _text(session, elapsed, seconds), elapsed)
            if elapsed > patience and session.listener.statistics.captured == 0:
                raise MicroscopeError(
                    f"camera {camera}: no frame in {elapsed:.0f} s of live mode: is it "
                    "switched on, and not waiting for a trigger?"
                )


def watch_mda(
    session: LiveSession, console: Console, mda: MdaRun, seconds: float | None = None
) -> None:
    """Run an MDA to its end, for `seconds`, or until interrupted.

    Raises
    ------
    MicroscopeError
        The MDA ended with an error.
    """
    mda.start()
    paused = False
    assert session.core is not None
    with _progress(session, console, seconds) as progress:
        for elapsed in _ticks(seconds, time.monotonic):
            text = _text(session, elapsed, seconds)
            if session.core.mda.is_paused() != paused:
                paused = not paused
                progress.say("The MDA is paused." if paused else "The MDA continues.")
            text = f"{text} · MDA paused" if paused else text
            progress.show(elapsed, text, elapsed)
            if mda.ended:
                break


def watch_replay(
    session: LiveSession,
    console: Console,
    source: Series,
    *,
    clock: Callable[[], float] = time.monotonic,
    stalled_s: float = _STALLED_S,
) -> None:
    """Process a whole recording.

    Raises
    ------
    SeriesError
        A frame cannot be read; those before it have been processed.
    RuntimeError
        No result has come for `stalled_s`, although some are missing.
    """
    begun = clock()
    stall = _Stall(stalled_s, clock)

    def show() -> None:
        statistics = session.listener.statistics
        done = statistics.processed + statistics.dropped
        stall.check(
            done,
            f"the last {len(source) - done} of the recording's {len(source)} frames "
            "are lost",
        )
        elapsed = clock() - begun
        text = f"frame {done} of {len(source)} · {_text(session, elapsed, None)}"
        progress.show(done, text, elapsed)

    failure: SeriesError | None = None
    with _progress(session, console, len(source)) as progress:
        try:
            feed(session, source, show)
        except SeriesError as error:
            failure = error
        while not session.listener.drain(_TICK_S):
            show()
    if failure is not None:
        raise failure


def watch_waiting(
    session: LiveSession,
    console: Console,
    *,
    clock: Callable[[], float] = time.monotonic,
    stalled_s: float = _STALLED_S,
) -> None:
    """Process the frames still waiting in a session that processes every frame.

    The camera stops first, if it is still in live mode.

    Raises
    ------
    RuntimeError
        No result has come for `stalled_s`, although some are missing.
    """
    listener, core = session.listener, session.core
    if not listener.processes_every_frame:
        return
    if core is not None and core.isSequenceRunning():
        core.stopSequenceAcquisition()
    total = listener.statistics.in_flight
    if total == 0:
        return
    say(
        console,
        f"Deblurring the {total} frames still waiting; Ctrl-C drops the rest.",
    )
    begun, stall = clock(), _Stall(stalled_s, clock)
    with _progress(session, console, total) as progress:
        while not listener.drain(_TICK_S):
            left = listener.statistics.in_flight
            stall.check(left, f"{left} frames are lost")
            elapsed = clock() - begun
            text = f"frame {max(0, total - left)} of {total}"
            progress.show(
                total - left, f"{text} · {_text(session, elapsed, None)}", elapsed
            )


class _Stall:
    """Detects that a count has not changed for `stalled_s` seconds."""

    def __init__(self, stalled_s: float, clock: Callable[[], float]) -> None:
        self._stalled_s, self._clock = stalled_s, clock
        self._count, self._since = -1, clock()

    def check(self, count: int, loss: str) -> None:
        """Raise RuntimeError, with the loss, if the count has not changed for long."""
        now = self._clock()
        if count != self._count:
            self._count, self._since = count, now
        elif now - self._since > self._stalled_s:
            raise RuntimeError(
                f"no frame has been processed for {self._stalled_s:.0f} s: {loss}"
            )


def feed(
    session: LiveSession,
    source: Series,
    show: Callable[[], object] = lambda: None,
    stop: threading.Event | None = None,
) -> None:
    """Submit every frame of a recording, staying a few ahead of the worker.

    It also waits for the disk that keeps the deblurred frames. Each frame has its own
    time, or else the recording's interval.

    Parameters
    ----------
    session
        A running session.
    source
        The recording.
    show
        Called after each frame, and while waiting for the worker.
    stop
        Ends it early when set.
    """
    stop = stop or threading.Event()
    listener = session.listener
    for count, (pixels, metadata) in enumerate(source):
        while not stop.is_set() and (
            listener.statistics.in_flight >= _AHEAD or not session.recorder.has_room
        ):
            if listener.drain(_POLL_S):
                stop.wait(_POLL_S)  # for the disk
            show()
        if stop.is_set():
            return
        interval = source.interval_s or _UNKNOWN_INTERVAL_S
        when = float(metadata.get("time_s", count * interval))
        listener.submit(pixels, metadata, source="replay", block=True, time=when)
        show()


def _ticks(seconds: float | None, clock: Callable[[], float]) -> Iterator[float]:
    """Yield the elapsed time every quarter of a second, until `seconds` have passed."""
    begun = clock()
    tick = threading.Event()  # never set: a wait that an interrupt ends at once
    while seconds is None or clock() - begun < seconds:
        tick.wait(_TICK_S)
        yield clock() - begun


def _text(session: LiveSession, elapsed: float, total: float | None) -> str:
    statistics = session.listener.statistics
    latest, quality = session.listener.latest, ""
    track = None if latest is None else latest.track
    if latest is not None and track is not None and track.coefficients.size:
        family = session.family_of(latest)
        # For a field this takes too long to print four times a second.
        if not isinstance(family, ZernikeField):
            quality = blur_quality(family, track.coefficients).text
    return progress_text(elapsed, total, statistics, session.status, quality)


@contextmanager
def _progress(
    session: LiveSession, console: Console, total: float | None
) -> Iterator[RunProgress]:
    """Show progress, with the alerts and errors of the session and its listener."""
    with RunProgress(console, total) as progress:

        def raised(alert: Alert) -> None:
            progress.say(alert.text)

        def cleared() -> None:
            progress.say("The alert has cleared.")

        def failed(error: str) -> None:
            # The traceback of the worker follows the first line.
            progress.say(f"Note: {error.splitlines()[0]}")

        connections = (
            (session.events.alertRaised, raised),
            (session.events.alertCleared, cleared),
            (session.events.errorRaised, failed),
            (session.listener.events.errorRaised, failed),
        )
        for signal, slot in connections:
            signal.connect(slot)
        try:
            yield progress
        finally:
            for signal, slot in connections:
                signal.disconnect(slot)
