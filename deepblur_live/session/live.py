"""A session: results in, drift watched, history and log kept, a summary at the end."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from deepblur_live.acquisition.truth import read_truth
from deepblur_live.drift import (
    Alert,
    DriftMonitor,
    DriftState,
    DriftStatus,
    clock_text,
    nearest_twin,
    twin_signs,
)
from deepblur_live.runtime.frame import FrameResult, FrameState
from deepblur_live.session.changes import Changes
from deepblur_live.session.columns import log_values
from deepblur_live.session.comparable import Comparable
from deepblur_live.session.fidelity import (
    FollowedFamily,
    ImageSample,
    take_sample,
    with_truth,
)
from deepblur_live.session.history import EvenSample, History, HistoryBuffer
from deepblur_live.session.liveness import Liveness
from deepblur_live.session.pace import Pace
from deepblur_live.session.record import SessionRecord
from deepblur_live.session.sinks.notice import NoticeKind
from deepblur_live.session.summary import SessionSummary, summarise
from deepblur_live.session.telling import Telling

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from deepblur_live.acquisition.listener import DeblurListener
    from deepblur_live.profile import Profile
    from deepblur_live.session.sinks.dispatch import SinkStatistics
    from deepblur_live.session.sinks.notice import AlertSink
    from deepblur_live.session.telling import SessionEvents

__all__ = ["LiveSession"]

_log = logging.getLogger(__name__)

_RAISED = (DriftState.WARN, DriftState.ALARM)
_SAMPLES = 12
_MAX_ALERTS = 1000
_CLOSE_TIMEOUT_S = 10.0


class LiveSession:
    """Follows a listener's results from now on, until closed.

    Results are taken in on the thread that emits them, and nothing here raises into
    it: what goes wrong is kept in :attr:`background_errors`, logged once, and the
    session goes on. Everything else may be read from any thread and waits for nothing.

    Parameters
    ----------
    profile
        The rig: drift limits, wavelength, display.
    family
        The blurs followed.
    listener
        Whose ``resultReady`` is followed. Its owner starts and closes it.
    folder
        Where this session's own folder is made; None keeps nothing on disk.
    truth_image
        From a frame's metadata to its sharp image, (H, W) in the frame's units, or
        None; called at the end, for a few frames.
    sinks
        Where alarms go beside the events; they end with the session.
    clock
        Seconds, monotonic.
    now
        The wall clock, for the folder's name.
    stale_after_s
        So long without a frame, past exposure and usual interval, is STALE.

    Raises
    ------
    OSError
        The session's folder cannot be made; the text names it.
    """

    def __init__(
        self,
        profile: Profile,
        family: FollowedFamily,
        listener: DeblurListener,
        folder: Path | None = None,
        *,
        truth_image: Callable[[Mapping[str, Any]], NDArray[Any] | None] | None = None,
        sinks: Sequence[AlertSink] = (),
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now().astimezone(),
        stale_after_s: float = 10.0,
    ) -> None:
        self.profile = profile
        self.family = family
        self.listener = listener
        self._telling = Telling(profile.name, sinks, now)
        self.monitor = DriftMonitor(
            family, profile.drift, wavelength_nm=profile.optics.wavelength_nm
        )
        self._comparable = Comparable(
            self.monitor, self._telling, profile.camera.offset_adu
        )
        self.specimen = self._comparable.specimen
        self._truth_image = truth_image
        self._now = now
        self._signs = twin_signs(family)
        self._history = HistoryBuffer(family.n_coefficients)
        self._liveness = Liveness(clock, stale_after_s)
        self._samples: EvenSample[ImageSample] = EvenSample(_SAMPLES)
        self._alerts: tuple[Alert, ...] = ()
        self._standing_alert: Alert | None = None
        self._changes = Changes(self._telling, clock)
        self._pace = Pace(clock)
        self._summary: SessionSummary | None = None
        self._closed = False
        self._closing = threading.Lock()
        # Held while a result is taken in. Re-entrant: a slot may close the session.
        self._taking = threading.RLock()
        # Held for an instant, while it is decided who announces a change.
        self._announcing = threading.Lock()
        self._announced = self.monitor.status
        self._standing = False
        self._logged_state = self._announced.state
        self._record: SessionRecord | None = None
        if folder is not None:
            self._record = SessionRecord(
                folder,
                profile,
                family,
                started=now(),
                on_error=self._telling.error,
                clock=clock,
            )
            self._telling.record = self._record
        self._telling.event("sessionStarted", rig=profile.name)
        listener.events.resultReady.connect(self._on_result)

    @property
    def events(self) -> SessionEvents:
        """The signals."""
        return self._telling.signals

    @property
    def background_errors(self) -> deque[str]:
        """What went wrong out of sight, oldest first; the last 100."""
        return self._telling.errors

    @property
    def status(self) -> DriftStatus:
        """Where the watch stands; a change found in reading it is announced."""
        return self._announce()

    @property
    def history(self) -> History:
        """The points so far, at most 5000: a snapshot, cheap between points."""
        return self._history.snapshot()

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """The alerts so far, oldest first."""
        return self._alerts

    @property
    def folder(self) -> Path | None:
        """The session's own folder, or None."""
        return None if self._record is None else self._record.folder

    @property
    def sinks(self) -> tuple[SinkStatistics, ...]:
        """How those who are told of alarms do."""
        return self._telling.sinks

    def acknowledge(self) -> None:
        """Take the standing warning or alarm as seen; tell it at once."""
        self.monitor.acknowledge()
        self._announce()

    def snooze(self, seconds: float) -> None:
        """Tell no alert for so long; the state shows all the same. 0 ends it.

        Raises
        ------
        ValueError
            `seconds` is negative or not finite.
        """
        self.monitor.snooze(seconds)
        self._telling.event("snoozed", seconds=seconds)
        self._announce()

    def rebaseline(self) -> None:
        """Take the optics as they are from now on for the baseline; tell it at once."""
        self.monitor.rebaseline()
        self._telling.event("rebaselined")
        self._announce()

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until all so far is on the disk; False after `timeout` seconds."""
        return self._record is None or self._record.flush(timeout)

    def close(self) -> SessionSummary:
        """Stop following, write what remains, and return the summary.

        Closing again returns the same summary.
        """
        with self._closing:
            if self._summary is None:
                self._stop_taking()
                self._telling.close()
                statistics = self.listener.statistics
                record = self._record
                if record is not None:
                    self._telling.event("sessionEnded")
                    record.end(self._now(), vars(statistics))
                samples = with_truth(
                    self._samples.items, self._truth_image, self._telling.error
                )
                history = self.history
                summary = summarise(
                    statistics,
                    self._pace,
                    history,
                    samples,
                    self.family,
                    alerts=self._alerts,
                    sinks=self.sinks,
                    record=record,
                )
                if record is not None:
                    record.finish(summary, history, samples)
                self._summary = summary
            return self._summary

    def _stop_taking(self) -> None:
        self.listener.events.resultReady.disconnect(self._on_result, missing_ok=True)
        if not self._taking.acquire(timeout=_CLOSE_TIMEOUT_S):
            raise TimeoutError(
                f"a result has been in a slot for {_CLOSE_TIMEOUT_S:.0f} s: a slot "
                "connected to the session's events does not return"
            )
        self._closed = True
        self._taking.release()

    def _on_result(self, result: FrameResult) -> None:
        try:
            with self._taking:
                if not self._closed:
                    self._take(result)
        except Exception as error:
            # The thread belongs to the listener, and to everybody else's slots.
            self._telling.error(repr(error), f"frame {result.frame.number}: ")

    def _take(self, result: FrameResult) -> None:
        frame, track = result.frame, result.track
        self._pace.result(frame.time)
        self._telling.time = self._pace.last_time
        self._liveness.result(result)
        truth = self._truth(result)
        alert = None
        if track is not None and result.estimate is not None:
            # A dark frame, or one that tells nothing, is not another place.
            if result.estimate.trusted:
                self._comparable.follow(frame)
            alert = self.monitor.update(track)
            self._changes.baseline(self.monitor.status.baseline)
            self._history.append(
                frame.time,
                track.coefficients,
                np.sqrt(np.diag(track.covariance)),
                None
                if truth is None
                else nearest_twin(self._signs, truth, track.coefficients),
                self.monitor.status.change_waves,
            )
        if result.state is FrameState.DEBLURRED and track is not None:
            self._samples.offer(lambda: take_sample(result))
        self._changes.executor(result.executor)
        status = self._current_status()
        if self._record is not None and (
            result.estimate is not None or status.state is not self._logged_state
        ):
            self._write_row(self._record, result, status, truth)
        if alert is not None:
            _log.warning("%s", alert.text)
            self._alerts = (*self._alerts, alert)[-_MAX_ALERTS:]
            self._standing_alert = alert
            self._telling.alert(NoticeKind.RAISED, alert)
            self._telling.emit(self.events.alertRaised, alert)
        self._announce()

    def _write_row(
        self,
        record: SessionRecord,
        result: FrameResult,
        status: DriftStatus,
        truth: NDArray[np.float64] | None,
    ) -> None:
        self._logged_state = status.state
        track = result.track
        strehl = (
            np.nan if track is None else float(self.family.strehl(track.coefficients))
        )
        statistics = self.listener.statistics
        record.row(
            log_values(
                result, status, statistics, truth, strehl, self.family.n_coefficients
            )
        )
        self._changes.gaps(statistics.camera_gaps)

    def _truth(self, result: FrameResult) -> NDArray[np.float64] | None:
        truth = read_truth(result.frame.metadata)
        if truth is None or truth.coefficients.shape != (self.family.n_coefficients,):
            return None
        return truth.coefficients

    def _current_status(self) -> DriftStatus:
        status = self.monitor.status
        override = self._liveness.override(self.listener.statistics)
        if override is None:
            return status
        state, reason = override
        return replace(status, state=state, reason=reason)

    def _announce(self) -> DriftStatus:
        """Tell a change of state, once, whoever finds it; return the status."""
        with self._announcing:
            status = self._current_status()
            standing = self.monitor.status.state in _RAISED
            changed = _worth_telling(self._announced) != _worth_telling(status)
            cleared = self._standing and not standing
            newly = status.acknowledged and not self._announced.acknowledged
            self._announced, self._standing = status, standing
            # None for what was never told: it was snoozed, or came too soon again.
            alert = self._standing_alert
            if cleared:
                self._standing_alert = None
        if alert is not None and newly:
            self._telling.alert(NoticeKind.ACKNOWLEDGED, alert)
        if alert is not None and cleared:
            _log.info("%s: the alert has cleared", clock_text(self._pace.last_time))
            self._telling.alert(NoticeKind.CLEARED, alert)
            self._telling.emit(self.events.alertCleared)
        if changed:
            self._telling.event(
                "stateChanged", state=str(status.state), reason=status.reason
            )
            self._telling.emit(self.events.statusChanged, status)
        return status


def _worth_telling(status: DriftStatus) -> tuple[object, ...]:
    """Return what is announced when it changes."""
    # Why there is no baseline; other states' reasons change with every frame.
    waiting = status.state is DriftState.BASELINING
    return status.state, status.acknowledged, status.reason if waiting else ""
