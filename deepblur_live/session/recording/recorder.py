"""A session's recordings: one at a time, each ended with the session at the latest."""

from __future__ import annotations

import threading
import uuid
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from deepblur_live.session.model_hashes import model_hashes
from deepblur_live.session.public_profile import public_profile
from deepblur_live.session.recording.frame_values import (
    deblurred_columns,
    raw_columns,
)
from deepblur_live.session.recording.names import check_recording, file_of_part
from deepblur_live.session.recording.recording import Recording
from deepblur_live.session.recording.store import SeriesHead

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from deepblur_live.blur import BlurFamily
    from deepblur_live.profile import Profile
    from deepblur_live.runtime.frame import FrameResult
    from deepblur_live.session.recording.recording import RecordingCounts

__all__ = ["Recorder"]

# Longest wait for the disk at the end of the session.
_END_S = 120.0


class Recorder:
    """Keeps deblurred frames on disk when it is asked to.

    Nothing here waits for a disk but `close`.

    Parameters
    ----------
    profile, family
        Of the session.
    session
        Name of the session's folder, or empty.
    on_error
        Called with what cannot be written, from any thread.
    on_event
        Called with the name and the values of an event of the session.
    contradiction
        Returns what contradicts the profile's pixel size, or empty. Meanwhile a new
        series is written that states no size, and why.

    Attributes
    ----------
    raw_file
        Where all raw frames of the session are anyway (a recording that is replayed),
        or None.
    """

    def __init__(
        self,
        profile: Profile,
        family: BlurFamily,
        session: str,
        on_error: Callable[[str], None],
        on_event: Callable[..., None],
        contradiction: Callable[[], str] = str,
    ) -> None:
        self._profile, self._family, self._session = profile, family, session
        self._on_error, self._on_event = on_error, on_event
        self._contradiction = contradiction
        self.raw_file: Path | str | None = None
        self._recordings: list[Recording] = []
        self._current: Recording | None = None
        self._lock, self._closed = threading.Lock(), False

    def start(self, path: Path | str, raw: Path | str | None = None) -> None:
        """Keep every result from now on.

        Parameters
        ----------
        path
            ``NAME.ome.zarr`` or ``NAME.ome.tiff``. Frames of another size begin
            ``NAME-2…``, and so do those of a pixel size that is now contradicted.
        raw
            The file in which the raw frames are anyway, if not in `raw_file`; without
            either they are written to ``NAME_raw…`` beside it.

        Raises
        ------
        ValueError
            The name is of no known format, a recording runs already, or the session is
            closed.
        OSError
            The file exists already, or cannot be written there.
        """
        self._require_idle()
        path, raw = check_recording(path), raw or self.raw_file
        about = self._about(raw)

        def head_of(result: FrameResult, file: Path, is_raw: bool) -> SeriesHead:
            return self._head(result, file, is_raw, about)

        with self._lock:
            self._require_idle()  # still
            self._current = Recording(
                path,
                self._family,
                head_of,
                stated=lambda: not self._contradiction(),
                raw=raw is None,
                on_error=self._on_error,
            )
            self._recordings.append(self._current)
        self._on_event("recordingStarted", path=str(path))

    def stop(self) -> None:
        """End the recording; frames that wait are still written. Returns at once."""
        current, self._current = self._current, None
        if current is not None:
            current.end()
            self._on_event("recordingStopped", path=str(current.counts.path))

    def add(self, result: FrameResult) -> None:
        """Keep a result if a recording runs; returns at once."""
        current = self._current
        if current is not None:
            current.add(result)

    @property
    def recording(self) -> bool:
        """Whether a recording runs."""
        return self._current is not None

    @property
    def has_room(self) -> bool:
        """Whether the disk keeps up; for sources that can wait."""
        current = self._current
        return current is None or current.has_room

    @property
    def counts(self) -> tuple[RecordingCounts, ...]:
        """All recordings so far, oldest first."""
        return tuple(recording.counts for recording in self._recordings)

    def close(self, timeout: float = _END_S) -> None:
        """End the recording and wait for the disk; no other can be started."""
        with self._lock:
            self._closed = True
        self.stop()
        for recording in self._recordings:
            if not recording.join(timeout):
                self._on_error(
                    f"{recording.counts.path}: the disk does not respond: "
                    f"{recording.counts.waiting} frames are not written"
                )

    def _require_idle(self) -> None:
        if self._closed:
            raise ValueError("the session is closed: no recording can be started")
        if self._current is not None:
            raise ValueError(f"already recording to {self._current.counts.path}")

    def _about(self, raw: Path | str | None) -> dict[str, Any]:
        """Return how the frames were made, as JSON values."""
        return {
            "software": "deepblur-live",
            "version": metadata.version("deepblur-live"),
            "session": self._session,
            "profile": public_profile(self._profile),
            "model": model_hashes(self._profile.model.name),
            "raw": None if raw is None else str(raw),
        }

    def _head(
        self, result: FrameResult, file: Path, is_raw: bool, about: dict[str, Any]
    ) -> SeriesHead:
        """Return the description of a series from its first frame."""
        rows, columns = result.raw.shape
        kind = "raw" if is_raw else "deblurred (estimate)"
        provenance = about | {"uuid": str(uuid.uuid4()), "content": kind}
        if is_raw:
            del provenance["raw"]
        elif about["raw"] is None:
            provenance["raw"] = file_of_part(file, 1, raw=True).name
        if contradicted := self._contradiction():
            provenance["optics_contradicted"] = contradicted
        if binning := result.info.metadata.get("binning"):
            provenance["binning"] = binning
        # A recording that states no times is given some, for the drift.
        timed = result.info.source != "replay" or "time_s" in result.info.metadata
        return SeriesHead(
            name=f"{self._profile.name}, {kind}",
            shape=(rows, columns),
            dtype=result.raw.dtype.newbyteorder("=") if is_raw else np.dtype("=f4"),
            pixel_size_nm=None if contradicted else self._profile.optics.pixel_size_nm,
            columns=raw_columns() if is_raw else deblurred_columns(self._family),
            provenance=provenance,
            timed=timed,
        )
