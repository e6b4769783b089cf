"""The files of a session: drift log, event log, session.json and pictures."""

from __future__ import annotations

import dataclasses
import platform
import time
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Any

from deepblur_live.session.columns import log_columns
from deepblur_live.session.disk_thread import DiskThread
from deepblur_live.session.folder import new_session_folder, write_json
from deepblur_live.session.line_file import LineFile, csv_line, json_line
from deepblur_live.session.model_hashes import engine_hashes, model_hashes
from deepblur_live.session.public_profile import public_profile
from deepblur_live.session.stated_optics import assumed_optics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from deepblur_live.blur import BlurFamily
    from deepblur_live.profile import Profile
    from deepblur_live.session.fidelity import ImageSample
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
# Longest waits at the end: for the disk, for the drawing of the pictures, and for the
# drawing to stop after an interrupt.
_FLUSH_S = 10.0
_PICTURES_S = 120.0
_INTERRUPTED_S = 3.0
_HANGS = "the disk does not respond"
_LOST = "rows are lost until it can be; the session continues"


class SessionRecord:
    """A session's folder, created at the start and completed at the end.

    ``session.json`` exists from the start, so that a session that was cut off still
    explains its columns. A thread writes the rows and events; those it cannot take
    because the disk does not respond are counted as lost.

    Parameters
    ----------
    parent
        The session's own folder, named by date and time, is created in it.
    profile, family
        Described in ``session.json``.
    coverage_factor
        Number of standard deviations that contain 95 % of the errors.
    started
        Start of the session, after which the folder is named.
    on_error
        Called with a description of what could not be written; once per outage.
    clock
        Seconds, monotonic.

    Raises
    ------
    OSError
        The folder or a file cannot be created; the message names it.
    """

    def __init__(
        self,
        parent: Path,
        profile: Profile,
        family: BlurFamily,
        *,
        coverage_factor: float,
        started: datetime,
        on_error: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._profile = profile
        self._on_error = on_error
        # With a fixed PSF there is no curve to draw.
        self._identified = family.n_coefficients > 0
        self.folder = new_session_folder(parent, started)
        columns = log_columns(family, coverage_factor)
        self._refused = 0
        self._outage = self._closed = False
        self._interrupted = False
        self._about: dict[str, Any] = {
            "state": "running",
            "started": started.isoformat(timespec="seconds"),
            "profile": public_profile(profile),
            "optics": assumed_optics(profile) or "stated",
            "model": model_hashes(profile.model.name),
            "coefficients": list(family.names),
            "units": {
                "coefficients": family.unit,
                "change": family.metric.unit,
                "time": "s",
            },
            "coverage_factor": {"95 %": coverage_factor},
            "columns": columns,
            "versions": _versions(),
        }
        try:
            self._log = LineFile(
                self.folder / "drift.csv", csv_line(list(columns)), clock=clock
            )
            self._events = LineFile(self.folder / "events.jsonl", clock=clock)
            self._write_about()
        except OSError as error:
            # A full disk names no file.
            raise OSError(error.errno, error.strerror, str(self.folder)) from error
        self._disk = DiskThread(lambda error: on_error(f"{self.folder}: {error!r}"))

    @property
    def rows(self) -> int:
        """Rows in the drift log."""
        return self._log.lines

    @property
    def rows_lost(self) -> int:
        """Rows that could not be written."""
        return self._log.lost + self._refused

    def row(self, values: Sequence[Any]) -> None:
        """Queue a row of the drift log; returns at once."""
        if not self._disk.put(lambda: self._write(self._log, csv_line(values))):
            self._refused += 1
            self._report_outage(_HANGS)

    def event(self, event: Mapping[str, Any]) -> None:
        """Queue an event; returns at once."""
        if not self._disk.put(lambda: self._write(self._events, json_line(event))):
            self._report_outage(_HANGS)

    def engine(self, executor: str) -> None:
        """Queue writing the executor of the networks, with hashes of its engines."""
        self._disk.put(lambda: self._update_about(engine=engine_hashes(executor)))

    def flush(self, timeout: float = _FLUSH_S) -> bool:
        """Wait until everything so far is written; False after `timeout` seconds."""
        return self._disk.wait(timeout)

    def end(self, ended: datetime, counts: Mapping[str, Any]) -> None:
        """Write the session's end and its frame counts, before anything slow."""
        when = ended.isoformat(timespec="seconds")
        self._disk.put(
            lambda: self._update_about(state="ended", ended=when, counts=counts)
        )
        self._disk.put(self._close_logs)
        if not self.flush():
            self._report_outage(_HANGS)

    def finish(self, summary: SessionSummary, samples: Sequence[ImageSample]) -> None:
        """Write the summary, then draw the pictures; errors are reported.

        A part that fails leaves the others. An interrupt leaves out what has not been
        drawn yet.
        """
        content = dataclasses.asdict(summary)
        self._disk.put(
            lambda: self._update_about(state="finished", pictures=[], summary=content)
        )
        try:
            self._disk.put(lambda: self._draw(samples))
            ended = self._disk.close(_PICTURES_S)
        except BaseException:
            self._interrupted = True
            self._disk.close(_INTERRUPTED_S)
            raise
        if not ended:
            self._report_outage(_HANGS, outcome="the end of the session is not written")

    def _write(self, file: LineFile, line: bytes) -> None:
        if file.write(line) or self._closed:
            # Rows and events are on the same disk.
            self._outage = self._outage and bool(self._log.error or self._events.error)
        else:
            self._report_outage(file.error, file.path)

    def _report_outage(
        self, error: str, path: Path | None = None, outcome: str = _LOST
    ) -> None:
        """Report that nothing can be written at present, once."""
        if not self._outage:
            self._outage = True
            path = path or self._log.path
            self._on_error(f"{path}: cannot be written ({error}); {outcome}")

    def _close_logs(self) -> None:
        self._closed = True
        self._log.close()
        self._events.close()

    def _draw(self, samples: Sequence[ImageSample]) -> None:
        written: list[str] = []
        for name, write in self._pictures(samples):
            if self._interrupted:
                break
            try:
                write(self.folder / name)
                written.append(name)
            except Exception as error:
                # A failed picture must not prevent the summary.
                self._on_error(f"{self.folder / name}: cannot be drawn: {error!r}")
        self._update_about(pictures=[name for name in written if name.endswith("png")])

    def _pictures(
        self, samples: Sequence[ImageSample]
    ) -> Iterator[tuple[str, Callable[[Path], None]]]:
        # matplotlib takes half a second to import: not at the start of every command.
        from deepblur_live.session.pictures import save_comparison
        from deepblur_live.session.report import save_blurs, save_overview
        from deepblur_live.session.report.read import read_session
        from deepblur_live.session.report.stored import FILE

        if self._log.lines and self._identified:
            data = cache(lambda: read_session(self.folder))
            yield "drift.png", lambda path: save_overview(data(), path)
            yield FILE, lambda path: save_blurs(data(), path)
        for sample in _spread(samples, _MAX_PICTURES):
            yield (
                f"frame_{sample.number:06d}.png",
                lambda path, one=sample: save_comparison(  # type: ignore[misc]
                    path, one, self._profile
                ),
            )

    def _update_about(self, **more: Any) -> None:
        self._about |= more
        try:
            self._write_about()
        except OSError as error:
            self._on_error(
                f"{self.folder / 'session.json'}: cannot be written: "
                f"{error.strerror or error}"
            )

    def _write_about(self) -> None:
        write_json(self.folder / "session.json", self._about)


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
