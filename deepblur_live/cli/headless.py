"""A run without a window: wait, say how it goes, end when told."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

from deepblur_live.acquisition.replay import ReplayError
from deepblur_live.cli.cores import MicroscopeError
from deepblur_live.cli.progress import ProgressLine, progress_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from deepblur_live.acquisition.replay import ReplaySource
    from deepblur_live.cli.mda import MdaRun
    from deepblur_live.cli.rig import Rig
    from deepblur_live.drift import Alert

__all__ = ["feed", "watch_live", "watch_mda", "watch_replay"]

_TICK_S = 0.25
_SILENCE_S = 10.0
# So long without an answer, and a recording's last frames are given up: longer than a
# worker that hangs is given, and its restart.
_STALLED_S = 120.0
_MOST_UNTOLD = 100
# Of a recording so many frames are in flight: enough to keep a worker busy, few enough
# for what is shown to be near what is sent, and for the ring to hold them at 4096².
_AHEAD, _POLL_S = 4, 0.01
# A recording that does not tell its times: slow enough to identify every frame.
_UNKNOWN_INTERVAL_S = 1.0


def watch_live(
    rig: Rig,
    console: Console,
    seconds: float | None,
    *,
    clock: Callable[[], float] = time.monotonic,
    silence_s: float = _SILENCE_S,
) -> None:
    """Run live mode for `seconds`, or until interrupted; the rig must have a core.

    Raises
    ------
    MicroscopeError
        The camera cannot start, or has sent nothing within its exposure and
        `silence_s`.
    """
    core = rig.core
    assert core is not None
    camera = core.getCameraDevice()
    try:
        core.startContinuousSequenceAcquisition()
    except Exception as error:  # whatever a camera's driver raises
        raise MicroscopeError(f"camera {camera}: cannot start: {error}") from error
    patience = silence_s + core.getExposure() / 1000
    with ProgressLine(console) as line, _telling(rig, line) as tell:
        for elapsed in _ticks(seconds, clock):
            tell()
            line.show(elapsed, _text(rig, elapsed, seconds))
            if elapsed > patience and rig.listener.statistics.captured == 0:
                raise MicroscopeError(
                    f"camera {camera}: no frame in {elapsed:.0f} s of live mode: is it "
                    "on, and is it not waiting for a trigger?"
                )


def watch_mda(
    rig: Rig, console: Console, mda: MdaRun, seconds: float | None = None
) -> None:
    """Run an MDA to its end, for `seconds`, or until interrupted.

    Raises
    ------
    MicroscopeError
        The MDA ended with an error.
    """
    mda.start()
    paused = False
    assert rig.core is not None
    with ProgressLine(console) as line, _telling(rig, line) as tell:
        for elapsed in _ticks(seconds, time.monotonic):
            tell()
            text = _text(rig, elapsed, seconds)
            if rig.core.mda.is_paused() != paused:
                paused = not paused
                line.say("The MDA is paused." if paused else "The MDA goes on.")
            line.show(elapsed, f"{text} · MDA paused" if paused else text)
            if mda.ended:
                break


def watch_replay(
    rig: Rig,
    console: Console,
    source: ReplaySource,
    *,
    clock: Callable[[], float] = time.monotonic,
    stalled_s: float = _STALLED_S,
) -> None:
    """Send a whole recording through the rig, and say how it goes.

    Raises
    ------
    ReplayError
        A frame cannot be read; those before it have gone through.
    RuntimeError
        The last frames have not been answered: none within `stalled_s`.
    """
    begun = changed = clock()
    answered = 0

    def show() -> None:
        nonlocal answered, changed
        statistics, now = rig.listener.statistics, clock()
        if statistics.processed + statistics.dropped != answered:
            answered, changed = statistics.processed + statistics.dropped, now
        elif now - changed > stalled_s:
            raise RuntimeError(
                f"no frame has been answered for {stalled_s:.0f} s: the last "
                f"{len(source) - answered} of the recording's {len(source)} are lost"
            )
        tell()
        text = _text(rig, now - begun, None)
        line.show(now - begun, f"frame {answered} of {len(source)} · {text}")

    failure: ReplayError | None = None
    with ProgressLine(console) as line, _telling(rig, line) as tell:
        try:
            feed(rig, source, show)
        except ReplayError as error:
            failure = error
        while not rig.listener.drain(_TICK_S):
            show()
    if failure is not None:
        raise failure


def feed(
    rig: Rig,
    source: ReplaySource,
    show: Callable[[], object] = lambda: None,
    stop: threading.Event | None = None,
) -> None:
    """Submit every frame of a recording, a few ahead of the worker.

    Each goes with its own time, or else with the recording's interval.

    Parameters
    ----------
    rig
        Where to.
    source
        What is sent.
    show
        Called with each frame, and while it waits for the worker.
    stop
        Ends it early when set.
    """
    stop = stop or threading.Event()
    for count, (pixels, metadata) in enumerate(source):
        while not stop.is_set() and rig.listener.statistics.in_flight >= _AHEAD:
            rig.listener.drain(_POLL_S)
            show()
        if stop.is_set():
            return
        interval = source.interval_s or _UNKNOWN_INTERVAL_S
        when = float(metadata.get("time_s", count * interval))
        rig.listener.submit(pixels, metadata, source="replay", block=True, time=when)
        show()


def _ticks(seconds: float | None, clock: Callable[[], float]) -> Iterator[float]:
    """Yield the seconds gone, every quarter of one, until `seconds` are over."""
    begun = clock()
    tick = threading.Event()  # never set: a wait that an interrupt ends at once
    while seconds is None or clock() - begun < seconds:
        tick.wait(_TICK_S)
        yield clock() - begun


def _text(rig: Rig, elapsed: float, whole: float | None) -> str:
    return progress_text(elapsed, whole, rig.listener.statistics, rig.session.status)


@contextmanager
def _telling(rig: Rig, line: ProgressLine) -> Iterator[Callable[[], None]]:
    """Give what says the alerts and errors that have come, on the caller's thread.

    A terminal may stand still (Ctrl-S, a pipe nobody reads): frames must not wait.
    """
    untold: deque[str] = deque(maxlen=_MOST_UNTOLD)

    def tell() -> None:
        while untold:
            line.say(untold.popleft())

    def alert(alert: Alert) -> None:
        untold.append(alert.text)

    def warn(error: str) -> None:
        # Below the first line stands the worker's traceback.
        untold.append(f"Note: {error.splitlines()[0]}")

    def cleared() -> None:
        untold.append("The alert has cleared.")

    events = rig.session.events
    events.alertRaised.connect(alert)
    events.alertCleared.connect(cleared)
    events.errorRaised.connect(warn)
    rig.listener.events.errorRaised.connect(warn)
    try:
        yield tell
    finally:
        rig.listener.events.errorRaised.disconnect(warn)
        events.errorRaised.disconnect(warn)
        events.alertCleared.disconnect(cleared)
        events.alertRaised.disconnect(alert)
        tell()
