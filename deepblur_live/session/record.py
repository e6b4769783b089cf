"""What a session leaves on disk: drift CSV, JSON beside it, pictures, drift plot."""

from __future__ import annotations

import dataclasses
import platform
import time
from importlib import metadata
from typing import TYPE_CHECKING, Any

from deepblur_live.session.columns import log_columns
from deepblur_live.session.disk_thread import DiskThread
from deepblur_live.session.drift_log import DriftLog
from deepblur_live.session.event_log import EventLog
from deepblur_live.session.folder import new_session_folder, write_json
from deepblur_live.session.model_hashes import engine_hashes, model_hashes
from deepblur_live.session.sinks import without_secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from deepblur_live.profile import Profile
    from deepblur_live.session.fidelity import FollowedFamily, ImageSample
    from deepblur_live.session.history import History
    from deepblur_live.session.summary import SessionSummary

__all__ = ["SessionRecord"]

_PACKAGES = (
    "deepblur-live",
    "torch",
    "numpy",
    "scipy",
    "pymmcore-plus",
    "pymmcore",
    "tensorrt",
)
_MAX_PICTURES = 4
# For the disk to take what waits, and for the pictures to be drawn, at the end.
_FLUSH_S = 10.0
_PICTURES_S = 120.0
_HURRIED_S = 3.0


class SessionRecord:
    """A session's folder, made at the start and completed at the end.

    ``session.json`` is there from the first moment, so that a session that was cut off
    still says what its columns mean. After the start nobody waits for the disk: rows
    and events are written by a thread, and lost, counted, when it does not answer.

    Parameters
    ----------
    parent
        The session's own folder, named by date and time, is made in it.
    profile, family
        Written into the JSON.
    started
        Names the folder.
    on_error
        Told what could not be written; each outage of the disk once.
    clock
        Seconds, monotonic.

    Raises
    ------
    OSError
        The folder or a file cannot be made; the text names it.
    """

    def __init__(
        self,
        parent: Path,
        profile: Profile,
        family: FollowedFamily,
        *,
        started: datetime,
        on_error: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._profile = profile
        self._family = family
        self._on_error = on_error
        self.folder = new_session_folder(parent, started)
        columns = log_columns(family.names)
        self._log = DriftLog(self.folder / "drift.csv", tuple(columns), clock=clock)
        self._events = EventLog(self.folder / "events.jsonl", clock=clock)
        self._refused = 0
        self._in_trouble = False
        self._hurry = False
        self._about: dict[str, Any] = {
            "state": "running",
            "started": started.isoformat(timespec="seconds"),
            "profile": _kept(profile),
            "model": model_hashes(profile.model.name),
            "modes": list(family.names),
            "units": {"coefficients": family.units, "time": "s"},
            "columns": dict(columns),
            "versions": _versions(),
        }
        self._write_about()
        self._disk = DiskThread(lambda error: on_error(f"{self.folder}: {error!r}"))

    @property
    def rows(self) -> int:
        """Rows in the drift log."""
        return self._log.rows

    @property
    def rows_lost(self) -> int:
        """Rows that the disk did not take."""
        return self._log.lost + self._refused

    def row(self, values: Sequence[Any]) -> None:
        """Have a row of the drift log written; returns at once."""
        if not self._disk.put(lambda: self._write_row(values)):
            self._refused += 1
            self._tell_once("the disk does not answer")

    def event(self, event: Mapping[str, Any]) -> None:
        """Have an event written; returns at once."""
        if not self._disk.put(lambda: self._events.write(event)):
            self._tell_once("the disk does not answer")

    def about(self, **more: Any) -> None:
        """Add to ``session.json``, now."""
        self._disk.put(lambda: self._update_about(more))

    def engine(self, executor: str) -> None:
        """Have it written what runs the networks, with the hashes of its engines."""
        self._disk.put(lambda: self._update_about({"engine": engine_hashes(executor)}))

    def flush(self, timeout: float = _FLUSH_S) -> bool:
        """Wait until all so far is written; False after `timeout` seconds."""
        return self._disk.wait(timeout)

    def end(self, ended: datetime, counts: Mapping[str, Any]) -> None:
        """Write that the session is over, and its frames' counts, before all else.

        What follows takes seconds, and may be interrupted.
        """
        self.about(
            state="ended", ended=ended.isoformat(timespec="seconds"), counts=counts
        )
        self._disk.put(self._close_logs)
        if not self.flush():
            self._tell_once("the disk does not answer")

    def finish(
        self,
        summary: SessionSummary,
        history: History,
        samples: Sequence[ImageSample],
    ) -> None:
        """Write the summary, then the pictures and the plot; errors are told.

        Each part is tried whatever became of the others. An interrupt leaves out what
        has not been drawn yet.
        """
        self.about(state="finished", pictures=[], summary=dataclasses.asdict(summary))
        self._disk.put(lambda: self._draw(summary, history, samples))
        try:
            ended = self._disk.close(_PICTURES_S)
        except BaseException:
            self._hurry = True
            self._disk.close(_HURRIED_S)
            raise
        if not ended:
            self._tell_once("the disk does not answer: the session's end is missing")

    def _write_row(self, values: Sequence[Any]) -> None:
        self._log.write(values)
        error = self._log.error
        if error:
            self._tell_once(error)
        else:
            self._in_trouble = False

    def _tell_once(self, error: str) -> None:
        if not self._in_trouble:
            self._in_trouble = True
            self._on_error(f"{self._log.path}: cannot be written: {error}")

    def _close_logs(self) -> None:
        self._log.close()
        self._events.close()

    def _draw(
        self,
        summary: SessionSummary,
        history: History,
        samples: Sequence[ImageSample],
    ) -> None:
        written: list[str] = []
        for name, write in self._parts(summary, history, samples):
            if self._hurry:
                break
            try:
                write(self.folder / name)
                written.append(name)
            except Exception as error:
                # A picture is not worth the session's summary.
                self._on_error(f"{self.folder / name}: cannot be made: {error!r}")
        self._update_about({"pictures": written})

    def _update_about(self, more: Mapping[str, Any]) -> None:
        self._about |= more
        try:
            self._write_about()
        except OSError as error:
            self._on_error(f"{self._about_path}: cannot be written: {error}")

    def _parts(
        self,
        summary: SessionSummary,
        history: History,
        samples: Sequence[ImageSample],
    ) -> Iterator[tuple[str, Callable[[Path], None]]]:
        # matplotlib takes half a second to come: not at the start of every command.
        from deepblur_live.session.pictures import save_comparison
        from deepblur_live.session.plot import save_drift_plot

        if len(history.times):
            yield (
                "drift.png",
                lambda path: save_drift_plot(
                    path, history, self._family.names, self._profile, summary.alerts
                ),
            )
        for sample in _spread(samples, _MAX_PICTURES):
            yield (
                f"frame_{sample.number:06d}.png",
                lambda path, one=sample: save_comparison(  # type: ignore[misc]
                    path, one, self._profile
                ),
            )

    @property
    def _about_path(self) -> Path:
        return self.folder / "session.json"

    def _write_about(self) -> None:
        write_json(self._about_path, self._about)


def _kept(profile: Profile) -> dict[str, Any]:
    content = profile.model_dump(mode="json")
    content["alerts"]["on_alarm"] = [
        without_secret(spec) for spec in profile.alerts.on_alarm
    ]
    return content


def _spread(samples: Sequence[ImageSample], most: int) -> Sequence[ImageSample]:
    if len(samples) <= most:
        return samples
    last = len(samples) - 1
    return [samples[round(k * last / (most - 1))] for k in range(most)]


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "system": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
