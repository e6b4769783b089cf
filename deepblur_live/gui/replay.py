"""A recording that is being replayed, and its frames afterwards."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from deepblur_live.acquisition import Series, SeriesError, open_series
from deepblur_live.runtime.frame import Frame, FrameResult, FrameState

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.session.recording import Recorder

__all__ = ["Replay"]


class Replay:
    """What the thread that feeds a recording reports to the window, and its frames.

    Parameters
    ----------
    source
        The recording; it must stay open while this is used.

    Attributes
    ----------
    finished
        Set when every frame has its result, or the replay has failed.
    error
        Reason of the failure, or empty; set before `finished`.
    """

    def __init__(self, source: Series) -> None:
        self.source = source
        self.finished = threading.Event()
        self.error = ""
        self._kept: Series | None = None

    def __len__(self) -> int:
        return len(self.source)

    def frame(self, index: int, recorder: Recorder) -> FrameResult:
        """Return a frame as a result: raw, and deblurred if it was kept.

        Parameters
        ----------
        index
            Number of the frame in the recording, from 0.
        recorder
            Recorder of the session that processed it.

        Raises
        ------
        SeriesError
            The frame cannot be read.
        """
        pixels = self.source[index]
        time = index * (self.source.interval_s or 0.0)
        deblurred, reason = self._deblurred(index, recorder)
        if deblurred is not None and np.array_equal(deblurred, pixels):
            # It has an entry in the series, but no estimate.
            deblurred, reason = None, "this frame was passed on raw"
        return FrameResult(
            Frame(pixels, index, time, "replay").info,
            FrameState.RAW_ONLY if deblurred is None else FrameState.DEBLURRED,
            reason=reason,
            raw=pixels,
            deblurred=deblurred,
        )

    def close(self) -> None:
        """Close the file of the deblurred frames."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _deblurred(
        self, index: int, recorder: Recorder
    ) -> tuple[NDArray[Any] | None, str]:
        """Return a deblurred frame; or None, and the reason why it is missing."""
        if not recorder.counts:
            return None, (
                "the deblurred frames were not recorded: use Record,\n"
                "or replay with --save-deblurred"
            )
        counts = recorder.counts[-1]
        if recorder.recording or counts.waiting:
            return None, "the deblurred frames are still being written"
        try:
            if self._kept is None:
                self._kept = open_series(counts.path)
            # Only then do the numbers of the frames agree.
            kept = len(self._kept)
            if kept == len(self.source):
                return self._kept[index], ""
            # The last frames may still come.
            self.close()
            return None, (
                f"{counts.path.name} has {kept} of the {len(self.source)} frames: open "
                "it separately"
            )
        except (SeriesError, OSError) as error:
            return None, str(error)
