"""How a session takes in a result: recording, series, history, log and alerts."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.acquisition.truth import read_truth
from deepblur_live.blur import nearest
from deepblur_live.runtime.frame import FrameState
from deepblur_live.runtime.series_key import SeriesKey, series_key
from deepblur_live.session.announcer import Announcer
from deepblur_live.session.fidelity import ImageSample, take_sample
from deepblur_live.session.history import EvenSample
from deepblur_live.session.liveness import Liveness
from deepblur_live.session.new_series import begin_series
from deepblur_live.session.optics_check import OpticsCheck
from deepblur_live.session.recording import Recorder
from deepblur_live.session.result_log import ResultLog
from deepblur_live.session.series_watch import SeriesWatch, SeriesWatches, overall
from deepblur_live.session.verification import NOT_VERIFIED, VerificationState
from deepblur_live.session.watched import WatchedTime

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from deepblur_live.acquisition.statistics import Statistics
    from deepblur_live.blur import BlurFamily
    from deepblur_live.blur.estimate import ErrorModel
    from deepblur_live.drift import Alert, DriftStatus
    from deepblur_live.profile import Profile
    from deepblur_live.runtime.frame import FrameResult
    from deepblur_live.session.notifier import Notifier
    from deepblur_live.session.record import SessionRecord

__all__ = ["Intake"]

_MAX_SAMPLES = 12
_MAX_ALERTS = 1000
_END_TIMEOUT_S = 10.0


class Intake:
    """Takes in results, one after the other, on the thread that emits them.

    Parameters
    ----------
    profile, family
        The rig and its blurs.
    errors
        Error model of the estimates.
    notifier
        Where events and errors go.
    record
        The session's folder, or None.
    statistics
        Returns the statistics of the listener.
    clock
        Seconds, monotonic.
    stale_after_s
        Longest silence, beyond exposure and usual interval, before STALE.

    Attributes
    ----------
    series
        Channels, positions and planes, each with its baseline and history.
    alerts
        Alerts so far, oldest first; the last 1000.
    samples
        Deblurred frames that are kept for the end of the session.
    snoozed_until
        Time before which new series raise no alert, seconds since the session began.
    recorder, optics, liveness, watched, announcer
        Those of the session.
    """

    def __init__(
        self,
        profile: Profile,
        family: BlurFamily,
        errors: ErrorModel,
        notifier: Notifier,
        record: SessionRecord | None,
        statistics: Callable[[], Statistics],
        clock: Callable[[], float],
        stale_after_s: float,
    ) -> None:
        self._profile, self._family, self._errors = profile, family, errors
        self._notifier, self._statistics = notifier, statistics
        self.snoozed_until = 0.0
        self.series = SeriesWatches(
            self._begin_series,
            lambda channel: (
                profile.wavelength_of(channel) == profile.optics.wavelength_nm
            ),
        )
        self.liveness = Liveness(clock, stale_after_s)
        self.watched = WatchedTime()
        self.samples: EvenSample[ImageSample] = EvenSample(_MAX_SAMPLES)
        self.alerts: tuple[Alert, ...] = ()
        self.optics = OpticsCheck(
            profile, notifier, self._deny_optics, self._settle_optics
        )
        self.announcer = Announcer(notifier, lambda: self.series.all, self._status)
        self.recorder = Recorder(
            profile,
            family,
            "" if record is None else record.folder.name,
            notifier.error,
            notifier.event,
            lambda: self.optics.contradiction,
        )
        self._log = (
            None if record is None else ResultLog(record, family, notifier, clock)
        )
        # Held while a result is taken in; and the thread on which its slots run.
        # Re-entrant: a slot may close the session.
        self._taking = threading.RLock()
        self._slot_thread = 0
        self._ended = False

    @property
    def in_slot(self) -> bool:
        """Whether a slot of a result's events calls this."""
        return self._slot_thread == threading.get_ident()

    def end(self) -> None:
        """Take in no more results; wait for the current one.

        Raises
        ------
        TimeoutError
            A slot that was called for the current one does not return.
        """
        if not self._taking.acquire(timeout=_END_TIMEOUT_S):
            raise TimeoutError(
                "a slot connected to the session's events has not returned for "
                f"{_END_TIMEOUT_S:.0f} s"
            )
        self._ended = True
        self._taking.release()

    def take(self, result: FrameResult) -> None:
        """Take in a result; what fails becomes an error of the session."""
        self._slot_thread = threading.get_ident()
        try:
            with self._taking:
                if not self._ended:
                    self._take(result)
        except Exception as error:
            # The thread belongs to the listener and to other slots.
            self._notifier.error(repr(error), f"frame {result.frame.number}: ")
        finally:
            self._slot_thread = 0

    def _take(self, result: FrameResult) -> None:
        self.recorder.add(result)
        self.liveness.result(result)
        self._notifier.time = self.liveness.time
        watch = self.series.of(series_key(result.info.metadata))
        with self._notifier.of_series(watch.key.text):
            self.optics.check_frame(result.frame)
            alert = self._judge(result, watch)
            self._keep(result, watch)
            if alert is not None:
                self._raise(watch.named(alert), watch)
        # A slot may have closed the session.
        if not self._ended:
            self.announcer.update()

    def _judge(self, result: FrameResult, watch: SeriesWatch) -> Alert | None:
        """Take spectrum and estimate into the series; return the alert that is due."""
        frame, track, monitor = result.frame, result.track, watch.monitor
        alert = None
        # Frames captured before the focus was moved show the old blur.
        fresh = not watch.absolute.precedes(frame.time)
        if result.spectrum is not None and fresh:
            alert = monitor.add_spectrum(frame.time, result.spectrum)
        if track is not None and result.estimate is not None:
            # A dark frame, or one without detail, is not another specimen.
            if result.estimate.trusted:
                watch.comparability.update(frame)
            watch.absolute.update(result)
            if fresh:
                alert = monitor.update(track) or alert
        return alert

    def _keep(self, result: FrameResult, watch: SeriesWatch) -> None:
        """Keep a result that has been judged: history, sample, log."""
        truth = self._truth(result)
        self._add_to_history(result, watch, truth)
        if result.state is FrameState.DEBLURRED and result.track is not None:
            size_nm = self.optics.pixel_size_nm
            self.samples.offer(lambda: take_sample(result, size_nm))
        watch.strength.follow(result)
        status = self._overridden(watch.monitor.status)
        self._note_contradiction(watch, status.contradiction)
        self.watched.update(result.frame.time, status, watch.key)
        if self._log is not None:
            self._log.write(
                result,
                status,
                watch.absolute.verification,
                self._statistics(),
                truth,
                self.watched.so_far,
                watch.family,
            )

    def _add_to_history(
        self,
        result: FrameResult,
        watch: SeriesWatch,
        truth: NDArray[np.float64] | None,
    ) -> None:
        track, estimate = result.track, result.estimate
        # A provisional estimate, one PSF for the frame, is not in a field's curves.
        if track is None or estimate is None or estimate.provisional:
            return
        if truth is not None:
            truth = nearest(truth, track.coefficients, watch.equivalents)
        status, spectral = watch.monitor.status, watch.monitor.spectral.status
        watch.history.append(
            result.frame.time,
            track.coefficients,
            np.sqrt(np.diag(track.covariance)),
            truth,
            status.change,
            spectral.strength,
            status.limits,
            spectral.limits,
        )

    def _raise(self, alert: Alert, watch: SeriesWatch) -> None:
        self.alerts = (*self.alerts, alert)[-_MAX_ALERTS:]
        self.announcer.raised(alert, watch)

    def _begin_series(self, key: SeriesKey) -> SeriesWatch:
        watch = begin_series(
            key, self._profile, self._family, self._errors, self._notifier
        )
        if self.snoozed_until > self._notifier.time:
            # From a time of 0, as it has no frame yet.
            watch.monitor.snooze(self.snoozed_until)
        return watch

    def _deny_optics(self, reason: str) -> None:
        """Mark the coefficients as unreliable while the optics are contradicted."""
        wrong, absolute = VerificationState.WRONG_OPTICS, self.series.newest.absolute
        known = absolute.verification
        if (known.state, known.reason) != (wrong, reason):
            absolute.set(wrong, reason)
            self.announcer.update()

    def _settle_optics(self, reason: str) -> None:
        """End this in all series whose coefficients were unreliable for that reason."""
        for watch in self.series.all:
            found = watch.absolute.verification
            wrong = found.state is VerificationState.WRONG_OPTICS
            if wrong and found.reason == reason:
                watch.absolute.set(NOT_VERIFIED.state, NOT_VERIFIED.reason)
        self.announcer.update()

    def _note_contradiction(self, watch: SeriesWatch, reason: str) -> None:
        """Mark estimates that the spectra contradict, once per reason."""
        if reason and reason != watch.contradiction:
            watch.absolute.set(VerificationState.CONTRADICTED, reason)
            self.announcer.update()
        watch.contradiction = reason

    def _truth(self, result: FrameResult) -> NDArray[np.float64] | None:
        truth = read_truth(result.frame.metadata)
        shape = (self._family.n_coefficients,)
        if truth is None or truth.coefficients.shape != shape:
            return None
        return truth.coefficients

    def _status(self) -> DriftStatus:
        return self._overridden(overall(self.series.all, self.series.newest))

    def _overridden(self, status: DriftStatus) -> DriftStatus:
        """Return a status, replaced by STALE or RAW-ONLY where that applies."""
        override = self.liveness.override(self._statistics())
        if override is None:
            return status
        state, reason = override
        return replace(status, state=state, reason=reason)
