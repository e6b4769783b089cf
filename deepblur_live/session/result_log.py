"""What a result adds to a session's record: a row of the log, and events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.drift import DriftState
from deepblur_live.session.columns import log_values

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from deepblur_live.acquisition.statistics import Statistics
    from deepblur_live.blur import BlurFamily
    from deepblur_live.drift import DriftStatus
    from deepblur_live.runtime.frame import FrameResult
    from deepblur_live.session.notifier import Notifier
    from deepblur_live.session.record import SessionRecord
    from deepblur_live.session.verification import Verification

__all__ = ["ResultLog"]

_GAPS_EVERY_S = 10.0


class ResultLog:
    """Writes results to a record.

    Parameters
    ----------
    record
        The session's folder.
    family
        The blurs.
    notifier
        Events go there.
    clock
        Seconds, monotonic.
    """

    def __init__(
        self,
        record: SessionRecord,
        family: BlurFamily,
        notifier: Notifier,
        clock: Callable[[], float],
    ) -> None:
        self._record, self._family = record, family
        self._notifier, self._clock = notifier, clock
        # What was recorded last.
        self._baseline: NDArray[np.float64] | None = None
        self._executor = ""
        self._state = DriftState.BASELINING
        self._gaps, self._gaps_after = 0, clock()

    def write(
        self,
        result: FrameResult,
        status: DriftStatus,
        verification: Verification,
        statistics: Statistics,
        truth: NDArray[np.float64] | None,
    ) -> None:
        """Record a result: a row of the log, and the events that it implies."""
        # The same object as long as it is the same baseline.
        baseline = status.baseline
        if baseline is not self._baseline:
            self._baseline = baseline
            if baseline is not None:
                self._notifier.event("baselineSet", coefficients=baseline)
        if result.executor and result.executor != self._executor:
            self._executor = result.executor
            self._notifier.event("executorChanged", executor=result.executor)
            self._record.engine(result.executor)
        if result.estimate is None and status.state is self._state:
            return
        self._state = status.state
        self._record.row(
            log_values(result, status, verification, statistics, truth, self._family)
        )
        gaps, now = statistics.camera_gaps, self._clock()
        if gaps > self._gaps and now >= self._gaps_after:
            self._notifier.event("cameraGap", frames=gaps - self._gaps, so_far=gaps)
            self._gaps, self._gaps_after = gaps, now + _GAPS_EVERY_S
