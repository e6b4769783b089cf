"""What a session writes down when it changes: baseline, executor, the camera's gaps."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from deepblur_live.session.telling import Telling

__all__ = ["Changes"]

_GAPS_EVERY_S = 10.0


class Changes:
    """Tells each change once, as an event.

    Parameters
    ----------
    telling
        Where to.
    clock
        Seconds, monotonic.
    """

    def __init__(self, telling: Telling, clock: Callable[[], float]) -> None:
        self._telling = telling
        self._clock = clock
        self._baseline: NDArray[np.float64] | None = None
        self._executor = ""
        self._gaps = 0
        self._gaps_after = clock()

    def baseline(self, baseline: NDArray[np.float64] | None) -> None:
        """Take in the baseline, the same object while it is the same."""
        if baseline is not None and baseline is not self._baseline:
            self._telling.event("baselineSet", coefficients=baseline)
        self._baseline = baseline

    def executor(self, executor: str) -> None:
        """Take in what ran the networks; empty where they did not run."""
        if not executor or executor == self._executor:
            return
        self._executor = executor
        self._telling.event("executorChanged", executor=executor)
        if self._telling.record is not None:
            self._telling.record.engine(executor)

    def gaps(self, so_far: int) -> None:
        """Take in how many frames the camera has never delivered."""
        now = self._clock()
        if so_far > self._gaps and now >= self._gaps_after:
            self._telling.event("cameraGap", frames=so_far - self._gaps, so_far=so_far)
            self._gaps, self._gaps_after = so_far, now + _GAPS_EVERY_S
