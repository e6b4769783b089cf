"""A session: takes in results, watches the drift, keeps history, log and summary."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from deepblur_live.acquisition.truth import read_truth
from deepblur_live.blur import ResolvedBy, nearest, orbit
from deepblur_live.calibration.rig import rig_family
from deepblur_live.drift import (
    Alert,
    DriftMonitor,
    DriftStatus,
    DriftWatch,
    EstimateCheck,
    SpectralMonitor,
    random_walk,
)
from deepblur_live.profile import Profile, load_profile
from deepblur_live.runtime.frame import FrameResult, FrameState
from deepblur_live.runtime.pack import load_manifest
from deepblur_live.runtime.series_key import SeriesKey, series_key
from deepblur_live.session.absolute import AbsoluteEstimates
from deepblur_live.session.announcer import Announcer
from deepblur_live.session.comparability import Comparability
from deepblur_live.session.connection import Connection
from deepblur_live.session.fidelity import ImageSample, take_sample, with_truth
from deepblur_live.session.folder import require_folder
from deepblur_live.session.history import EvenSample, History, HistoryBuffer
from deepblur_live.session.kept_blur import keep_blur
from deepblur_live.session.liveness import Liveness
from deepblur_live.session.measured_blur import monitor_of, why_not_followed
from deepblur_live.session.notifier import Notifier
from deepblur_live.session.optics_check import OpticsCheck
from deepblur_live.session.record import SessionRecord
from deepblur_live.session.recording import Recorder
from deepblur_live.session.result_log import ResultLog
from deepblur_live.session.series_watch import (
    SeriesHistory,
    SeriesWatch,
    SeriesWatches,
    overall,
)
from deepblur_live.session.sinks import MdaHandles, make_sinks
from deepblur_live.session.strength import StrengthWatch
from deepblur_live.session.summary import SeriesSummary, SessionSummary, summarise
from deepblur_live.session.verification import NOT_VERIFIED, VerificationState
from deepblur_live.session.watched import Watched, WatchedTime

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from pymmcore_plus import CMMCorePlus

    from deepblur_live.acquisition.listener import DeblurListener
    from deepblur_live.blur import BlurFamily
    from deepblur_live.session.notifier import SessionEvents
    from deepblur_live.session.sinks.base import AlertSink
    from deepblur_live.session.sinks.dispatch import SinkStatistics
    from deepblur_live.session.sweep_judge import KnownBlur
    from deepblur_live.session.verification import Verification

    TruthImage = Callable[[Mapping[str, Any]], NDArray[Any] | None]

__all__ = ["LiveSession"]

_MAX_SAMPLES = 12
_MAX_ALERTS = 1000
_CLOSE_TIMEOUT_S = 10.0


class LiveSession:
    """Follows a listener's results until it is closed; a context manager.

    Results are taken in on the thread that emits them, and nothing here raises into
    it: errors are kept in :attr:`background_errors` and logged once, and the session
    goes on. Everything else may be called from any thread and does not block.

    Most programs call :meth:`from_profile`; this constructor is for a listener of their
    own, which they start and close themselves.

    Parameters
    ----------
    profile
        The rig: drift limits, model, display.
    family
        The blurs followed.
    listener
        Its ``resultReady`` is followed.
    folder
        The session's own folder is made in it; None keeps nothing on disk.
    truth_image
        From a frame's metadata to its sharp image, (H, W) in the frame's unit, or
        None; called at the end, for a few frames.
    sinks
        Destinations of alarms, in addition to the signals; they end with the session.
    clock
        Seconds, monotonic.
    now
        The wall clock, for the folder's name.
    stale_after_s
        Longest silence, beyond exposure and usual interval, before STALE.

    Attributes
    ----------
    core
        The microscope that the session was made with, or None.
    summary
        After the end; None before.
    recorder
        Keeps the deblurred frames on disk from its ``start`` to its ``stop``.
    optics
        Says which optics are not stated, and whether frames contradict them.

    Raises
    ------
    OSError
        The session's folder cannot be made; the message names it.
    """

    def __init__(
        self,
        profile: Profile,
        family: BlurFamily,
        listener: DeblurListener,
        folder: Path | None = None,
        *,
        truth_image: TruthImage | None = None,
        sinks: Sequence[AlertSink] = (),
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now().astimezone(),
        stale_after_s: float = 10.0,
    ) -> None:
        self.profile = profile
        self.family = family
        self.listener = listener
        self.core: CMMCorePlus | None = None
        self.summary: SessionSummary | None = None
        errors = self._errors = load_manifest(profile.model.name)[1].error_model
        self._notifier = Notifier(profile.name, sinks, now)
        self._snoozed_until = 0.0
        self._series = SeriesWatches(
            self._make_series,
            lambda channel: (
                profile.wavelength_of(channel) == profile.optics.wavelength_nm
            ),
        )
        self._truth_image = truth_image
        self._now = now
        self._liveness = Liveness(clock, stale_after_s)
        self._samples: EvenSample[ImageSample] = EvenSample(_MAX_SAMPLES)
        self._alerts: tuple[Alert, ...] = ()
        self._connection: Connection | None = None
        self._closed = False
        # Re-entrant, as is the next: a slot may close the session.
        self._closing = threading.RLock()
        self._ending = False
        # Held while a result is taken in; and the thread whose slots run meanwhile.
        self._taking = threading.RLock()
        self._slot_thread = 0
        self._watched = WatchedTime()
        self.optics = OpticsCheck(
            profile, self._notifier, self._deny_optics, self._settle_optics
        )
        self._announcer = Announcer(
            self._notifier, lambda: self._series.all, self._current_status
        )
        self._record: SessionRecord | None = None
        self._log: ResultLog | None = None
        if folder is not None:
            self._record = SessionRecord(
                folder,
                profile,
                family,
                coverage_factor=errors.coverage_factor(0.95),
                started=now(),
                on_error=self._notifier.error,
                clock=clock,
            )
            self._notifier.record = self._record
            self._log = ResultLog(self._record, family, self._notifier, clock)
            try:
                keep_blur(profile, self._record.folder)
            except OSError as error:
                self._notifier.error(f"the measured blur cannot be copied: {error}")
        self.recorder = Recorder(
            profile,
            family,
            "" if self._record is None else self._record.folder.name,
            self._notifier.error,
            self._notifier.event,
        )
        self._notifier.event("sessionStarted", rig=profile.name, blur=family.describe())
        listener.events.resultReady.connect(self._on_result)
        listener.events.errorRaised.connect(self._on_listener_note)

    @classmethod
    def from_profile(
        cls,
        profile: Profile | Path | str,
        core: CMMCorePlus | None = None,
        folder: Path | str | None = None,
        *,
        every_frame: bool = False,
        in_process: bool = False,
        truth_image: TruthImage | None = None,
        sinks: Sequence[AlertSink] | None = None,
    ) -> Self:
        """Start a worker and a session, and process a core's frames, if there is one.

        The session owns its listener: :meth:`close`, or the end of the ``with`` block,
        stops live mode, waits for the frames in flight, ends the worker and completes
        the session::

            with LiveSession.from_profile("rig.toml", core, "sessions") as session:
                session.events.alertRaised.connect(print)
                core.startContinuousSequenceAcquisition()
                ...

        Parameters
        ----------
        profile
            The rig, or the file that describes it.
        core
            The microscope; None if frames come from ``session.listener.submit``.
        folder
            The session's own folder is made in it; None keeps nothing on disk.
        every_frame
            Process every frame, as for a recording, instead of the newest; those of a
            core wait on disk while they come faster (`process_every_frame`).
        in_process
            Run the pipeline on a thread instead of in a process of its own.
        truth_image
            As for `LiveSession`.
        sinks
            Destinations of alarms; those of the profile's ``alerts.on_alarm`` if None.

        Raises
        ------
        ProfileError
            The profile cannot be read; the message names the file and the key.
        ValueError
            An alarm cannot be sent where the profile says.
        RuntimeError
            The pipeline cannot be made; the message says why.
        OSError
            The session's folder cannot be made; known before the pipeline starts.
        """
        if not isinstance(profile, Profile):
            profile = load_profile(Path(profile))
        family = rig_family(profile)
        if sinks is None:
            mda = None if core is None else MdaHandles(core)
            sinks = make_sinks(profile.alerts.on_alarm, "alerts.on_alarm", mda)
        if folder is not None:
            # The pipeline takes seconds to start.
            require_folder(Path(folder), "the sessions")
        connection = Connection(
            profile, every_frame=every_frame and core is None, in_process=in_process
        )
        session: Self | None = None
        try:
            session = cls(
                profile,
                family,
                connection.listener,
                None if folder is None else Path(folder),
                truth_image=truth_image,
                sinks=sinks,
            )
            if core is not None:
                session.core = core
                if (size_um := core.getPixelSizeUm()) > 0:
                    session.optics.check(1000 * size_um, "the microscope")
                session.process_every_frame(every_frame)
                connection.attach(core, session.specimen_changed)
        except BaseException:
            connection.listener.close()
            if session is not None:
                session.close()
            raise
        session._connection = connection
        return session

    def _make_series(self, key: SeriesKey) -> SeriesWatch:
        """Begin to follow a channel, position and plane."""
        profile, errors, notifier = self.profile, self._errors, self._notifier
        wavelength = profile.wavelength_of(key.channel)
        family = self.family
        if wavelength != profile.optics.wavelength_nm:
            family = rig_family(profile.at_wavelength(wavelength))
        monitor = DriftWatch(
            monitor_of(profile, family, errors)
            or DriftMonitor(family, profile.drift, errors),
            SpectralMonitor(family.cutoff, profile.drift),
            check=EstimateCheck(family, profile.drift),
        )
        if self._snoozed_until > notifier.time:
            # From a time of 0, as it has no frame yet.
            monitor.snooze(self._snoozed_until)
        return SeriesWatch(
            key,
            family,
            monitor,
            Comparability(monitor, notifier, profile.camera.offset_adu),
            AbsoluteEstimates(
                family,
                errors,
                monitor,
                notifier,
                profile.drift,
                beads=profile.model.bead_diameter_nm is not None,
            ),
            HistoryBuffer(family.n_coefficients),
            StrengthWatch(notifier),
            orbit(family, ResolvedBy.NEVER),
        )

    def __enter__(self) -> Self:
        """Return the session, which is running already."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close the session."""
        self._close(wait_for_first=kind is None)

    @property
    def events(self) -> SessionEvents:
        """The session's signals."""
        return self._notifier.signals

    @property
    def background_errors(self) -> deque[str]:
        """Errors that were not raised, oldest first; the last 100."""
        return self._notifier.errors

    @property
    def status(self) -> DriftStatus:
        """The state of the optics; a change found on reading it is announced."""
        return self._announcer.update()

    @property
    def monitor(self) -> DriftWatch:
        """What watches the series of the newest frame."""
        return self._series.newest.monitor

    @property
    def history(self) -> History:
        """The points so far of the series of the newest frame, at most 5000.

        A snapshot, cached between points. An MDA with several channels, positions or
        planes has more: see `series_history`.
        """
        return self._series.newest.history.snapshot()

    @property
    def series(self) -> tuple[SeriesKey, ...]:
        """Channels, positions and planes so far, in the order of their first frames."""
        return tuple(watch.key for watch in self._series.all)

    def family_of(self, result: FrameResult) -> BlurFamily:
        """Return the blurs of a result, at the wavelength of its channel."""
        return self._series.find(series_key(result.info.metadata)).family

    def series_history(self, key: SeriesKey | None = None) -> SeriesHistory:
        """Return one series; that of the newest frame for None, or if it has ended."""
        watch = self._series.find(key)
        name = watch.key.text
        return SeriesHistory(
            watch.key,
            watch.family,
            watch.history.snapshot(),
            tuple(alert for alert in self._alerts if alert.series == name),
            watch.absolute.verification,
        )

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """The alerts so far, oldest first."""
        return self._alerts

    @property
    def closed(self) -> bool:
        """Whether the session is closed, or is being closed."""
        return self._ending or self.summary is not None

    @property
    def folder(self) -> Path | None:
        """The session's own folder, or None."""
        return None if self._record is None else self._record.folder

    @property
    def sinks(self) -> tuple[SinkStatistics, ...]:
        """Deliveries to each sink so far."""
        return self._notifier.sinks

    @property
    def watched(self) -> Watched:
        """What share of the session was watched for changes so far."""
        return self._watched.so_far

    def acknowledge(self) -> None:
        """Acknowledge all standing warnings and alarms; announced at once."""
        for watch in self._series.all:
            watch.monitor.acknowledge()
        self._announcer.update()

    def snooze(self, seconds: float) -> None:
        """Raise no alert for so long; the state is still shown. 0 ends it.

        Raises
        ------
        ValueError
            `seconds` is negative or not finite.
        """
        for watch in self._series.all:
            watch.monitor.snooze(seconds)
        self._snoozed_until = self._notifier.time + seconds
        self._notifier.event("snoozed", seconds=seconds)
        self._announcer.update()

    def rebaseline(self) -> None:
        """Measure new baselines of all series from now on; announced at once.

        A focus sweep is no longer used: neither for workers that are started again, nor
        to verify estimates.
        """
        self.listener.forget_known()
        for watch in self._series.all:
            if watch.absolute.verification.state is NOT_VERIFIED.state:
                # They may be awaited, to be compared with the sweep.
                watch.absolute.set(NOT_VERIFIED.state, NOT_VERIFIED.reason)
            watch.monitor.rebaseline()
        self._notifier.event("rebaselined")
        self._announcer.update()

    @property
    def verification(self) -> Verification:
        """Whether evidence beyond the frames confirms the absolute estimates.

        Those of the series of the newest frame.
        """
        return self._series.newest.absolute.verification

    def set_verification(
        self,
        state: VerificationState,
        reason: str,
        series: SeriesKey | None = None,
    ) -> None:
        """Set what evidence says of the absolute estimates, until the specimen changes.

        Those of one series; of that of the newest frame for None.

        `reason` names the evidence, as in `Verification.text`. Contradicted estimates
        are not used for charts and alerts.
        """
        self._series.find(series).absolute.set(state, reason)
        self._announcer.update()

    def start_from(self, known: KnownBlur, series: SeriesKey | None = None) -> None:
        """Go on from coefficients that a focus sweep has measured; announced at once.

        In one series; in that of the newest frame for None. The worker's estimates
        start there, the first of them are compared with it, and new baselines are
        measured.
        """
        watch = self._series.find(series)
        watch.absolute.start_from(known)
        self.listener.start_from(known.blur, random_walk(watch.family), watch.key)
        self._notifier.event("rebaselined")
        self._announcer.update()

    def process_every_frame(self, on: bool) -> None:
        """Process every frame of the core from now on, or the newest again.

        Frames that come faster than they are processed wait in a temporary file in the
        session's folder, so that images and alerts are behind the camera;
        ``listener.drain`` waits for them. They are dropped when this is ended.

        Raises
        ------
        OSError
            The temporary file cannot be made.
        """
        self.listener.process_every_frame(on, self.folder)

    def note(self, event: str, **values: Any) -> None:
        """Write an event of one's own, with JSON values, to the session's log."""
        self._notifier.event(event, **values)

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until all so far is on the disk; False after `timeout` seconds."""
        return self._record is None or self._record.flush(timeout)

    def specimen_changed(self, reason: str) -> None:
        """Measure a new baseline from the next frame on, which shows something else.

        For scripts that move what the session cannot see. A core's stage, turrets and
        presets are followed without it. What a focus sweep has measured is not used for
        workers that are started again: the objective may be another.
        """
        self.listener.forget_known()
        for watch in self._series.all:
            watch.comparability.acquisition.report(reason)

    def close(self) -> SessionSummary:
        """Stop following, write what remains, and return the summary.

        A session made by :meth:`from_profile` first stops live mode, and ends its
        worker. Closing again returns the same summary.

        Raises
        ------
        RuntimeError
            The session is being closed already, and this is called from a slot that
            its end waits for.
        """
        return self._close(wait_for_first=True)

    def _close(self, *, wait_for_first: bool) -> SessionSummary:
        # A thread that closes waits for a result's slots, so they must not wait for it.
        in_slot = self._slot_thread == threading.get_ident()
        if not self._closing.acquire(blocking=not in_slot):
            raise RuntimeError("the session is being closed by another thread")
        if self._ending:
            self._closing.release()
            raise RuntimeError("the session is being closed")
        try:
            if self.summary is None:
                self._ending = True
                try:
                    if self._connection is not None:
                        self._connection.close(wait_for_first=wait_for_first)
                finally:
                    self.summary = self._finish()
            return self.summary
        finally:
            self._ending = False
            self._closing.release()

    def _finish(self) -> SessionSummary:
        self._stop_taking()
        self.recorder.stop()
        self._notifier.close()
        statistics = self.listener.statistics
        record = self._record
        if record is not None:
            self._notifier.event("sessionEnded")
            record.end(self._now(), vars(statistics))
        self.recorder.close()
        samples = with_truth(
            self._samples.items, self._truth_image, self._notifier.error
        )
        summary = summarise(
            statistics,
            self._liveness,
            self.history,
            samples,
            self._series.newest.family,
            alerts=self._alerts,
            sinks=self.sinks,
            recordings=self.recorder.counts,
            not_followed=why_not_followed(self.monitor.status),
            series=tuple(
                SeriesSummary.of(watch.key, watch.monitor.status, len(watch.history))
                for watch in self._series.all
            ),
            watched=self.watched,
            rows=0 if record is None else record.rows,
            rows_lost=0 if record is None else record.rows_lost,
            folder=self.folder,
        )
        if record is not None:
            record.finish(summary, samples)
        return summary

    def _stop_taking(self) -> None:
        # Before disconnecting, which waits without a limit for the slots of a result.
        if not self._taking.acquire(timeout=_CLOSE_TIMEOUT_S):
            raise TimeoutError(
                f"a result has been in a slot for {_CLOSE_TIMEOUT_S:.0f} s: a slot "
                "connected to the session's events does not return"
            )
        self._closed = True
        self._taking.release()
        events = self.listener.events
        events.resultReady.disconnect(self._on_result, missing_ok=True)
        events.errorRaised.disconnect(self._on_listener_note, missing_ok=True)

    def _on_listener_note(self, text: str) -> None:
        """Log what the pipeline tells the user, such as a blur that was projected."""
        self._notifier.event("note", text=text)

    def _on_result(self, result: FrameResult) -> None:
        self._slot_thread = threading.get_ident()
        try:
            with self._taking:
                if not self._closed:
                    self._take(result)
        except Exception as error:
            # The thread belongs to the listener and to other slots.
            self._notifier.error(repr(error), f"frame {result.frame.number}: ")
        finally:
            self._slot_thread = 0

    def _take(self, result: FrameResult) -> None:
        self.recorder.add(result)
        self._liveness.result(result)
        self._notifier.time = self._liveness.time
        watch = self._series.of(series_key(result.info.metadata))
        with self._notifier.of_series(watch.key.text):
            self._follow(result, watch)
        # A slot may have closed the session.
        if not self._closed:
            self._announcer.update()

    def _follow(self, result: FrameResult, watch: SeriesWatch) -> None:
        """Take a result into its series, and into the log."""
        frame, track, monitor = result.frame, result.track, watch.monitor
        truth = self._truth(result)
        self.optics.check_frame(frame)
        alert = None
        # Frames that were on their way when the focus was moved show the old blur.
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
            # One PSF is no point of a field's curves.
            if not result.estimate.provisional:
                watch.history.append(
                    frame.time,
                    track.coefficients,
                    np.sqrt(np.diag(track.covariance)),
                    None
                    if truth is None
                    else nearest(truth, track.coefficients, watch.equivalents),
                    monitor.status.change,
                    monitor.spectral.status.strength,
                )
        if result.state is FrameState.DEBLURRED and track is not None:
            self._samples.offer(lambda: take_sample(result))
        watch.strength.follow(result)
        status = self._overridden(monitor.status)
        self._note_contradiction(watch, status.contradiction)
        self._watched.update(frame.time, status, watch.key)
        if self._log is not None:
            statistics = self.listener.statistics
            self._log.write(
                result,
                status,
                watch.absolute.verification,
                statistics,
                truth,
                self.watched,
                watch.family,
            )
        if alert is not None:
            alert = watch.named(alert)
            self._alerts = (*self._alerts, alert)[-_MAX_ALERTS:]
            self._announcer.raised(alert, watch)

    def _deny_optics(self, reason: str) -> None:
        """Rely on no coefficients while the optics are contradicted."""
        wrong = VerificationState.WRONG_OPTICS
        if (self.verification.state, self.verification.reason) != (wrong, reason):
            self.set_verification(wrong, reason)

    def _settle_optics(self, reason: str) -> None:
        """Rely again on the coefficients of all series that it was the reason for."""
        for watch in self._series.all:
            found = watch.absolute.verification
            wrong = found.state is VerificationState.WRONG_OPTICS
            if wrong and found.reason == reason:
                watch.absolute.set(NOT_VERIFIED.state, NOT_VERIFIED.reason)
        self._announcer.update()

    def _note_contradiction(self, watch: SeriesWatch, reason: str) -> None:
        """Count estimates that the spectra contradict as such, once."""
        if reason and reason != watch.contradiction:
            watch.absolute.set(VerificationState.CONTRADICTED, reason)
            self._announcer.update()
        watch.contradiction = reason

    def _truth(self, result: FrameResult) -> NDArray[np.float64] | None:
        truth = read_truth(result.frame.metadata)
        if truth is None or truth.coefficients.shape != (self.family.n_coefficients,):
            return None
        return truth.coefficients

    def _current_status(self) -> DriftStatus:
        return self._overridden(overall(self._series.all, self._series.newest))

    def _overridden(self, status: DriftStatus) -> DriftStatus:
        """Return a status, or that no frame comes or is deblurred."""
        override = self._liveness.override(self.listener.statistics)
        if override is None:
            return status
        state, reason = override
        return replace(status, state=state, reason=reason)
