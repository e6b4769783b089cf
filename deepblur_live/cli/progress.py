"""Progress of a run: a bar in place on a terminal, a line every 10 s elsewhere."""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from deepblur_live.cli.console import say
from deepblur_live.drift import DriftState

if TYPE_CHECKING:
    from rich.console import Console

    from deepblur_live.acquisition import Statistics
    from deepblur_live.drift import DriftStatus

__all__ = ["RunProgress", "progress_text"]

_LOG_EVERY_S = 10.0
_MAX_MESSAGES = 100


def progress_text(
    elapsed_s: float,
    total_s: float | None,
    statistics: Statistics,
    drift: DriftStatus,
    quality: str = "",
) -> str:
    """Return one line: time, frames, speed, drift, quality of the blur.

    Parameters
    ----------
    elapsed_s, total_s
        Seconds elapsed, and in total; None for a run without a time limit.
    statistics, drift
        Current state of the listener and of the drift monitor.
    quality
        Quality of the blur, such as ``"Strehl 0.82"``; empty if unknown.
    """
    total = "" if total_s is None else f" of {total_s:.0f}"
    parts = [
        f"{elapsed_s:.0f}{total} s",
        f"{statistics.processed} frames, {statistics.dropped} dropped",
    ]
    if missed := statistics.missed.total:
        parts.append(f"{missed} missed")
    if statistics.waiting:
        parts.append(f"{statistics.waiting} waiting")
    if statistics.fps_processed > 0:
        parts.append(
            f"{statistics.fps_processed:.1f} fps, {statistics.latency_p50_ms:.0f} ms"
        )
    if raw := sum(statistics.raw_only.values()):
        parts.append(f"{raw} raw only")
    # Unchanged optics are not necessarily good ones.
    state = "unchanged" if drift.state is DriftState.OK else str(drift.state)
    if drift.state is DriftState.BASELINING:
        state += f" {drift.n_baseline}/{drift.n_needed}"
        state += ", unchanged so far (provisional)" if drift.provisional else ""
    elif drift.change_text:
        state += f", changed by {drift.change_text}"
    if drift.reason:
        state += f" ({drift.reason})"
    return " · ".join([*parts, state, *filter(None, (quality,))])


class RunProgress:
    """Shows how far a run has come; a context manager.

    All output is written by `show`, on the caller's thread: a terminal may block
    (Ctrl-S, a pipe that nobody reads), and frames must not wait for it.

    Parameters
    ----------
    console
        Where to show it.
    total
        Amount of work, in the units that `show` is given; None when it is open-ended.
    """

    def __init__(self, console: Console, total: float | None = None) -> None:
        self._console = console
        self._bar = Progress(
            SpinnerColumn(),
            *(() if total is None else (BarColumn(20),)),
            TextColumn("{task.description}", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=total)
        self._next_s = 0.0
        self._messages: deque[str] = deque(maxlen=_MAX_MESSAGES)

    def __enter__(self) -> Self:
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the bar."""
        with contextlib.suppress(OSError):  # a terminal that was closed
            self._bar.stop()
        self._print_messages()

    def show(self, done: float, text: str, elapsed_s: float) -> None:
        """Show how much is done, and `text`; `elapsed_s` seconds after the start."""
        self._print_messages()
        self._bar.update(self._task, completed=done, description=text)
        if not self._console.is_terminal and elapsed_s >= self._next_s:
            self._next_s = elapsed_s + _LOG_EVERY_S
            say(self._console, text)

    def say(self, text: str) -> None:
        """Print a line above the bar at the next `show`; from any thread."""
        self._messages.append(text)

    def _print_messages(self) -> None:
        while self._messages:
            say(self._console, self._messages.popleft())
