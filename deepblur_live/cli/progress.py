"""One line that says how a run goes: redrawn on a terminal, repeated in a log."""

from __future__ import annotations

import contextlib
import math
import os
from typing import TYPE_CHECKING

from deepblur_live.drift import DriftState

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

    from deepblur_live.acquisition import Statistics
    from deepblur_live.drift import DriftStatus

__all__ = ["ProgressLine", "progress_text", "say"]

_LOG_EVERY_S = 10.0


def say(console: Console, text: str) -> None:
    """Print a line as it is: no styles in it, and paths in one piece.

    Where nobody reads any more (a closed pipe or terminal, a full disk) the lines go
    nowhere from then on: that is no reason for a run to end.
    """
    try:
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    except (OSError, SystemExit):  # rich ends the program where a pipe was closed
        console.quiet = True
        # What is still buffered would fail once more when the program ends.
        with contextlib.suppress(OSError), open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), console.file.fileno())


def progress_text(
    elapsed_s: float,
    whole_s: float | None,
    statistics: Statistics,
    drift: DriftStatus,
) -> str:
    """Return the line: time, frames, speed, drift.

    Parameters
    ----------
    elapsed_s, whole_s
        Seconds gone, of how many; None for a run that ends when it is told to.
    statistics, drift
        The listener's and the monitor's, now.
    """
    whole = "" if whole_s is None else f" of {whole_s:.0f}"
    parts = [
        f"{elapsed_s:.0f}{whole} s",
        f"{statistics.processed} frames, {statistics.dropped} dropped",
    ]
    if statistics.fps_processed > 0:
        parts.append(
            f"{statistics.fps_processed:.1f} fps, {statistics.latency_p50_ms:.0f} ms"
        )
    if raw := sum(statistics.raw_only.values()):
        parts.append(f"{raw} raw only")
    state = str(drift.state)
    if drift.state is DriftState.BASELINING:
        state += f" {drift.n_baseline}/{drift.n_needed}"
    elif math.isfinite(drift.change_nm):
        state += f", wavefront changed by {drift.change_nm:.0f} nm"
    if drift.reason:
        state += f" ({drift.reason})"
    return " · ".join([*parts, state])


class ProgressLine:
    """Shows the newest text in place on a terminal, every 10 s elsewhere.

    A context manager: the line is gone when it is left.

    Parameters
    ----------
    console
        Where to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = (
            console.status("starting") if console.is_terminal else None
        )
        self._next_s = 0.0

    def __enter__(self) -> ProgressLine:
        """Begin."""
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the line away."""
        if self._status is not None:
            with contextlib.suppress(OSError):  # a terminal that was closed
                self._status.stop()

    def show(self, elapsed_s: float, text: str) -> None:
        """Show `text`, now or when its time has come."""
        if self._status is not None:
            self._status.update(text)
        elif elapsed_s >= self._next_s:
            self._next_s = elapsed_s + _LOG_EVERY_S
            say(self._console, text)

    def say(self, text: str) -> None:
        """Print a line that stays, above."""
        say(self._console, text)
