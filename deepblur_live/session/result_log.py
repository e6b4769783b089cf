"""What a result adds to a session's record: a row of the log, and events."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from deepblur_live.acquisition.missed import Missed
from deepblur_live.drift import DriftState
from deepblur_live.runtime.series_key import MOST_SERIES, SeriesKey, series_key
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
    from deepblur_live.session.watched import Watched

__all__ = ["ResultLog"]

_MISSED_EVERY_S = 10.0


@dataclass
class _Recorded:
    baseline: NDArray[np.float64] | None = None
    state: DriftState = DriftState.BASELINING


class ResultLog:
    """Writes results to a record.

    Parameters
    ----------
    record
        The session's folder.
    family
        The blurs.
    notifier
        Logs the events.
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
        # What was recorded last; baseline and state of each series.
        self._recorded: dict[SeriesKey, _Recorded] = {}
        self._executor = ""
        self._missed, self._missed_after = Missed(), clock()

    def write(
        self,
        result: FrameResult,
        status: DriftStatus,
        verification: Verification,
        statistics: Statistics,
        truth: NDArray[np.float64] | None,
        watched: Watched,
        family: BlurFamily | None = None,
    ) -> None:
        """Record a result: a row of the log, and the events that it implies.

        `family` is that of its series, if it has another wavelength.
        """
        key = series_key(result.info.metadata)
        # The most recent last.
        recorded = self._recorded[key] = self._recorded.pop(key, _Recorded())
        if len(self._recorded) > MOST_SERIES:
            del self._recorded[next(iter(self._recorded))]
        # The same object as long as it is the same baseline.
        baseline = status.baseline
        if baseline is not recorded.baseline:
            recorded.baseline = baseline
            if baseline is not None:
                self._notifier.event("baselineSet", coefficients=baseline)
        if result.executor and result.executor != self._executor:
            self._executor = result.executor
            self._notifier.event("executorChanged", executor=result.executor)
            self._record.engine(result.executor)
        if result.estimate is None and status.state is recorded.state:
            return
        recorded.state = status.state
        self._record.row(
            log_values(
                result,
                status,
                verification,
                statistics,
                truth,
                family or self._family,
                watched,
            )
        )
        missed, now = statistics.missed, self._clock()
        if missed != self._missed and now >= self._missed_after:
            self._notifier.event(
                "framesMissed",
                frames=missed.total - self._missed.total,
                so_far=asdict(missed),
            )
            self._missed, self._missed_after = missed, now + _MISSED_EVERY_S
