"""The recordings of a session, one at a time; the last ends with the session."""

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
    """Records deblurred frames on disk, from `start` to `stop`.

    Only `close` waits for the disk.

    Parameters
    ----------
    profile, family
        Profile and blurs of the session.
    session
        Name of the session's folder, or empty.
    on_error
        Called with a description of what cannot be written, from any thread.
    on_event
        Called with the name and the values of an event of the session.
    contradiction
        Returns what contradicts the profile's pixel size, or empty. While it is
        contradicted, a new series is written that states the reason instead of a size.

    Attributes
    ----------
    raw_file
        File that already holds all raw frames of the session (a replayed recording), or
        None.
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
        """Record every result from now on.

        Parameters
        ----------
        path
            ``NAME.ome.zarr`` or ``NAME.ome.tiff``. Frames of another size begin
            ``NAME-2…``, and so do those of a pixel size that is now contradicted.
        raw
            File that already holds the raw frames, if that is not `raw_file`; without
            either they are written to ``NAME_raw…`` in the same folder.

        Raises
        ------
        ValueError
            The name has no known ending, a recording is running already, or the session
            is closed.
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
        """End the recording; waiting frames are still written. Returns at once."""
        current, self._current = self._current, None
        if current is not None:
            current.end()
            self._on_event("recordingStopped", path=str(current.counts.path))

    def add(self, result: FrameResult) -> None:
        """Record a result if a recording is running; returns at once."""
        current = self._current
        if current is not None:
            current.add(result)

    @property
    def recording(self) -> bool:
        """Whether a recording is running."""
        return self._current is not None

    @property
    def has_room(self) -> bool:
        """Whether the disk keeps up with the frames; for sources that can wait."""
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
        """Return the provenance of the frames, as JSON values."""
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
        # The times of a replayed recording that states none are assumed ones.
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
