"""A live session: its state for the window, its controls, its start and its end."""

from __future__ import annotations

import threading
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from deepblur_live.calibration.rig import rig_family
from deepblur_live.drift import (
    Alert,
    DriftStatus,
    DriftWatch,
    random_walk,
)
from deepblur_live.profile import Profile, load_profile
from deepblur_live.runtime.pack import load_manifest
from deepblur_live.runtime.series_key import SeriesKey, series_key
from deepblur_live.session.connection import Connection
from deepblur_live.session.fidelity import with_truth
from deepblur_live.session.folder import require_folder
from deepblur_live.session.intake import Intake
from deepblur_live.session.kept_blur import keep_blur
from deepblur_live.session.measured_blur import why_not_followed
from deepblur_live.session.notifier import Notifier
from deepblur_live.session.record import SessionRecord
from deepblur_live.session.series_watch import SeriesHistory
from deepblur_live.session.sinks import MdaHandles, make_sinks
from deepblur_live.session.summary import SeriesSummary, SessionSummary, summarise
from deepblur_live.session.verification import NOT_VERIFIED, VerificationState

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from pymmcore_plus import CMMCorePlus

    from deepblur_live.acquisition.listener import DeblurListener
    from deepblur_live.blur import BlurFamily
    from deepblur_live.runtime.frame import FrameResult
    from deepblur_live.session.history import History
    from deepblur_live.session.notifier import SessionEvents
    from deepblur_live.session.sinks.base import AlertSink
    from deepblur_live.session.sinks.dispatch import SinkStatistics
    from deepblur_live.session.sweep_judge import KnownBlur
    from deepblur_live.session.verification import Verification
    from deepblur_live.session.watched import Watched

    TruthImage = Callable[[Mapping[str, Any]], NDArray[Any] | None]

__all__ = ["LiveSession"]


class LiveSession:
    """Follows a listener's results until it is closed; a context manager.

    Results are taken in on the thread that emits them, and nothing here raises into
    it: errors are kept in :attr:`background_errors` and logged once, and the session
    continues. Everything else may be called from any thread and does not block.

    Most programs call :meth:`from_profile`; this constructor is for a listener of their
    own, which they start and close themselves.

    Parameters
    ----------
    profile
        The rig: drift limits, model, display.
    family
        The family of blurs.
    listener
        The listener whose ``resultReady`` is followed.
    folder
        The session's own folder is created in it; None writes nothing to disk.
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
        Summary of the session; None before its end.
    recorder
        Writes the deblurred frames to disk between its ``start`` and its ``stop``.
    optics
        States which optics are assumed, and whether frames contradict them.

    Raises
    ------
    OSError
        The session's folder cannot be created; the message names it.
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
        self._now, self._truth_image = now, truth_image
        self._notifier = Notifier(profile.name, sinks, now)
        errors = load_manifest(profile.model.name)[1].error_model
        self._record: SessionRecord | None = None
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
            try:
                keep_blur(profile, self._record.folder)
            except OSError as error:
                self._notifier.error(f"the measured blur cannot be copied: {error}")
        self._intake = Intake(
            profile,
            family,
            errors,
            self._notifier,
            self._record,
            lambda: self.listener.statistics,
            clock,
            stale_after_s,
        )
        self.recorder, self.optics = self._intake.recorder, self._intake.optics
        self._series, self._announcer = self._intake.series, self._intake.announcer
        self._connection: Connection | None = None
        # Re-entrant: a slot may close the session.
        self._closing = threading.RLock()
        self._ending = False
        self._notifier.event("sessionStarted", rig=profile.name, blur=family.describe())
        listener.events.resultReady.connect(self._intake.take)
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
            The session's own folder is created in it; None writes nothing to disk.
        every_frame
            Process every frame, as for a recording, instead of the newest; those of a
            core wait on disk while they come faster (`process_every_frame`).
        in_process
            Run the pipeline on a thread instead of in a separate process.
        truth_image
            As for `LiveSession`.
        sinks
            Destinations of alarms; those of the profile's ``alerts.on_alarm`` if None.

        Raises
        ------
        ProfileError
            The profile cannot be read; the message names the file and the key.
        ValueError
            An action at an alarm in the profile is invalid or impossible.
        RuntimeError
            The pipeline cannot be built; the message says why.
        OSError
            The session's folder cannot be created; raised before the pipeline starts.
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
        """The drift monitor of the series of the newest frame."""
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
            tuple(alert for alert in self.alerts if alert.series == name),
            watch.absolute.verification,
        )

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """The alerts so far, oldest first."""
        return self._intake.alerts

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
        """The share of the session so far that was monitored for changes."""
        return self._intake.watched.so_far

    def acknowledge(self) -> None:
        """Acknowledge all standing warnings and alarms; announced at once."""
        for watch in self._series.all:
            watch.monitor.acknowledge()
        self._announcer.update()

    def snooze(self, seconds: float) -> None:
        """Raise no alert for `seconds`; the state is still shown. 0 ends it.

        Raises
        ------
        ValueError
            `seconds` is negative or not finite.
        """
        for watch in self._series.all:
            watch.monitor.snooze(seconds)
        self._intake.snoozed_until = self._notifier.time + seconds
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
        """Set the verification of the absolute estimates, until the specimen changes.

        Of one series; of that of the newest frame for None. `reason` names the
        evidence, as in `Verification.text`. Contradicted estimates are not used for
        charts and alerts.
        """
        self._series.find(series).absolute.set(state, reason)
        self._announcer.update()

    def start_from(self, known: KnownBlur, series: SeriesKey | None = None) -> None:
        """Continue from coefficients measured by a focus sweep; announced at once.

        In one series; in that of the newest frame for None. The worker's estimates
        start from them, the first ones are compared with them, and new baselines are
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
        session's folder, so that images and alerts lag behind the camera;
        ``listener.drain`` waits for them. They are dropped when this is switched off.

        Raises
        ------
        OSError
            The temporary file cannot be created.
        """
        self.listener.process_every_frame(on, self.folder)

    def note(self, event: str, **values: Any) -> None:
        """Write a custom event, with JSON values, to the session's event log."""
        self._notifier.event(event, **values)

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until everything so far is on disk; False after `timeout` seconds."""
        return self._record is None or self._record.flush(timeout)

    def specimen_changed(self, reason: str) -> None:
        """Measure a new baseline from the next frame on, which shows another specimen.

        For scripts that move devices unknown to the session. A core's stage, turrets
        and presets are followed without it. The result of a focus sweep is no longer
        used for workers that are restarted, as the objective may have changed.
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
            The session is being closed already, and this is called from a slot for
            which its end waits.
        """
        return self._close(wait_for_first=True)

    def _close(self, *, wait_for_first: bool) -> SessionSummary:
        # A thread that closes waits for a result's slots, so they must not wait for it.
        if not self._closing.acquire(blocking=not self._intake.in_slot):
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
        # Before disconnecting, which waits without limit for the slots of a result.
        self._intake.end()
        events = self.listener.events
        events.resultReady.disconnect(self._intake.take, missing_ok=True)
        events.errorRaised.disconnect(self._on_listener_note, missing_ok=True)
        self.recorder.stop()
        self._notifier.close()
        statistics = self.listener.statistics
        record = self._record
        if record is not None:
            self._notifier.event("sessionEnded")
            record.end(self._now(), vars(statistics))
        self.recorder.close()
        samples = with_truth(
            self._intake.samples.items, self._truth_image, self._notifier.error
        )
        summary = summarise(
            statistics,
            self._intake.liveness,
            self.history,
            samples,
            self._series.newest.family,
            alerts=self.alerts,
            sinks=self.sinks,
            recordings=self.recorder.counts,
            not_followed=why_not_followed(self.monitor.status),
            series=tuple(
                SeriesSummary.of(watch.key, watch.monitor.status, len(watch.history))
                for watch in self._series.all
            ),
            watched=self.watched,
            contradiction=self.optics.contradiction,
            rows=0 if record is None else record.rows,
            rows_lost=0 if record is None else record.rows_lost,
            folder=self.folder,
        )
        if record is not None:
            record.finish(summary, samples)
        return summary

    def _on_listener_note(self, text: str) -> None:
        """Log a message of the pipeline to the user, such as on a projected blur."""
        self._notifier.event("note", text=text)
