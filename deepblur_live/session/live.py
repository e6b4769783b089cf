"""A session: results in, drift watched, history and log kept, a summary at the end."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import EmitLoopError, Signal, SignalGroup, SignalInstance

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
from deepblur_live.session.columns import log_values
from deepblur_live.session.fidelity import (
    FollowedFamily,
    ImageSample,
    image_fidelity,
    psf_fidelity,
    take_sample,
    with_truth,
)
from deepblur_live.session.history import EvenSample, History, HistoryBuffer
from deepblur_live.session.liveness import Liveness
from deepblur_live.session.record import SessionRecord
from deepblur_live.session.summary import SessionSummary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from deepblur_live.acquisition.listener import DeblurListener
    from deepblur_live.profile import Profile

__all__ = ["LiveSession", "SessionEvents"]

_log = logging.getLogger(__name__)

_RAISED = (DriftState.WARN, DriftState.ALARM)
_SAMPLES = 12
_MAX_ALERTS = 1000
_CLOSE_TIMEOUT_S = 10.0


class SessionEvents(SignalGroup):
    """What a session tells, on the thread that finds it out.

    ``statusChanged`` comes when the state or the acknowledgement changes; STALE is
    found out, and told, when somebody reads :attr:`LiveSession.status`.
    """

    alertRaised = Signal(Alert)
    alertCleared = Signal()
    statusChanged = Signal(DriftStatus)


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
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now().astimezone(),
        stale_after_s: float = 10.0,
    ) -> None:
        self.profile = profile
        self.family = family
        self.listener = listener
        self.events = SessionEvents()
        self.background_errors: deque[str] = deque(maxlen=100)
        self.monitor = DriftMonitor(
            family, profile.drift, wavelength_nm=profile.optics.wavelength_nm
        )
        self._truth_image = truth_image
        self._now = now
        self._signs = twin_signs(family)
        self._history = HistoryBuffer(family.n_coefficients)
        self._liveness = Liveness(clock, stale_after_s)
        self._samples: EvenSample[ImageSample] = EvenSample(_SAMPLES)
        self._alerts: tuple[Alert, ...] = ()
        self._results = 0
        self._first_time = self._last_time = 0.0
        self._clock = clock
        self._first_at = self._last_at = 0.0
        self._log_failed = False
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
                folder, profile, family, started=now(), clock=clock
            )
        listener.events.resultReady.connect(self._on_result)

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

    def acknowledge(self) -> None:
        """Take the standing warning or alarm as seen; tell it at once."""
        self.monitor.acknowledge()
        self._announce()

    def rebaseline(self) -> None:
        """Take the optics as they are from now on for the baseline; tell it at once."""
        self.monitor.rebaseline()
        self._announce()

    def close(self) -> SessionSummary:
        """Stop following, write what remains, and return the summary.

        Closing again returns the same summary.
        """
        with self._closing:
            if self._summary is None:
                self._stop_taking()
                samples = with_truth(
                    self._samples.items, self._truth_image, self._keep_error
                )
                history = self.history
                summary = self._summarise(history, samples)
                if self._record is not None:
                    for failure in self._record.finish(
                        summary, history, samples, self._now()
                    ):
                        self._keep_error(failure)
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
            self._keep_error(repr(error), f"frame {result.frame.number}: ")

    def _take(self, result: FrameResult) -> None:
        frame, track = result.frame, result.track
        self._last_at = self._clock()
        if self._results == 0:
            self._first_time, self._first_at = frame.time, self._last_at
        self._last_time = max(self._last_time, frame.time)
        self._results += 1
        self._liveness.result(result)
        truth = self._truth(result)
        alert = None
        if track is not None and result.estimate is not None:
            alert = self.monitor.update(track)
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
        status = self._current_status()
        if self._record is not None and (
            result.estimate is not None or status.state is not self._logged_state
        ):
            self._write_row(self._record, result, status, truth)
        if alert is not None:
            _log.warning("%s", alert.text)
            self._alerts = (*self._alerts, alert)[-_MAX_ALERTS:]
            self._emit(self.events.alertRaised, alert)
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
        record.log.write(
            log_values(
                result,
                status,
                self.listener.statistics,
                truth,
                strehl,
                self.family.n_coefficients,
            )
        )
        failed = bool(record.log.error)
        if failed and not self._log_failed:
            # The log itself has told it in a log line.
            self.background_errors.append(
                f"{record.log.path}: cannot be written: {record.log.error}"
            )
        self._log_failed = failed

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
            told = (self._announced.state, self._announced.acknowledged)
            changed = told != (status.state, status.acknowledged)
            cleared = self._standing and not standing
            self._announced, self._standing = status, standing
        if cleared:
            _log.info("%s: the alert has cleared", clock_text(self._last_time))
            self._emit(self.events.alertCleared)
        if changed:
            self._emit(self.events.statusChanged, status)
        return status

    def _emit(self, signal: SignalInstance, *values: Any) -> None:
        try:
            signal.emit(*values)
        except EmitLoopError as error:
            # Somebody's slot; psygnal's text names it and the line.
            self._keep_error(str(error))

    def _summarise(
        self, history: History, samples: tuple[ImageSample, ...]
    ) -> SessionSummary:
        statistics = self.listener.statistics
        log = None if self._record is None else self._record.log
        # A recording's clock says how long it lasted, not how fast it went through.
        duration = self._last_time - self._first_time
        worked = self._last_at - self._first_at
        return SessionSummary(
            duration_s=duration,
            captured=statistics.captured,
            processed=statistics.processed,
            dropped=statistics.dropped,
            camera_gaps=statistics.camera_gaps,
            raw_only=dict(statistics.raw_only),
            fps=(self._results - 1) / worked if worked > 0 else 0.0,
            latency_p50_ms=statistics.latency_p50_ms,
            latency_p95_ms=statistics.latency_p95_ms,
            psf=psf_fidelity(history, self.family),
            images=image_fidelity(samples),
            alerts=self._alerts,
            rows=0 if log is None else log.rows,
            rows_lost=0 if log is None else log.lost,
            folder=self.folder,
        )

    def _keep_error(self, what: str, where: str = "") -> None:
        """Keep and log an error the first time; the same one at every frame is one."""
        if any(kept.endswith(what) for kept in tuple(self.background_errors)):
            return
        self.background_errors.append(where + what)
        _log.error("%s%s", where, what)
