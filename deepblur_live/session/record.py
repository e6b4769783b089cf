"""What a session leaves on disk: drift CSV, JSON beside it, pictures, drift plot."""

from __future__ import annotations

import dataclasses
import platform
import time
from importlib import metadata
from typing import TYPE_CHECKING, Any

from deepblur_live.session.columns import log_columns
from deepblur_live.session.drift_log import DriftLog
from deepblur_live.session.folder import new_session_folder, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
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


class SessionRecord:
    """A session's folder, made at the start and completed at the end.

    ``session.json`` is there from the first moment, so that a session that was cut off
    still says what its columns mean.

    Parameters
    ----------
    parent
        The session's own folder, named by date and time, is made in it.
    profile, family
        Written into the JSON.
    started
        Names the folder.
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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._profile = profile
        self._family = family
        self.folder = new_session_folder(parent, started)
        columns = log_columns(family.names)
        self.log = DriftLog(self.folder / "drift.csv", tuple(columns), clock=clock)
        self._about: dict[str, Any] = {
            "state": "running",
            "started": started.isoformat(timespec="seconds"),
            "profile": profile.model_dump(mode="json"),
            "model": profile.model.name,
            "modes": list(family.names),
            "units": {"coefficients": family.units, "time": "s"},
            "columns": dict(columns),
            "versions": _versions(),
        }
        self._write_about()

    def finish(
        self,
        summary: SessionSummary,
        history: History,
        samples: Sequence[ImageSample],
        ended: datetime,
    ) -> list[str]:
        """Write pictures, plot and the final JSON; return what could not be written.

        Each part is tried whatever became of the others.
        """
        self.log.close()
        failures, written = [], []
        for name, write in self._parts(summary, history, samples):
            try:
                write(self.folder / name)
                written.append(name)
            except Exception as error:
                # A picture is not worth the session's summary.
                failures.append(f"{self.folder / name}: cannot be made: {error!r}")
        self._about |= {
            "state": "finished",
            "ended": ended.isoformat(timespec="seconds"),
            "pictures": written,
            "summary": dataclasses.asdict(summary),
        }
        try:
            self._write_about()
        except OSError as error:
            failures.append(f"{self._about_path}: cannot be written: {error}")
        return failures

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
