"""CUDA streams that overlap upload, computation and download of successive frames."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["RECORDING", "CudaStreams", "background_stream"]

# Priorities of CUDA streams: kernels of the lower number start first.
_FIRST, _LATER = -3, 0
RECORDING = -2
"""Priority of streams in which CUDA graphs are recorded.

Their kernels keep it, whatever stream they are replayed in: a frame's short steps
outside graphs do not wait for the long ones of the frame before. Torch hands out its
few streams of each priority in turn: no other thread may compute in those of this
priority, as that would be recorded too.
"""


class CudaStreams:
    """The streams that the steps of a frame are queued in; on a CPU they run at once.

    Each stream receives the frames in the order of their submission. Tensors on the
    device must be kept until the frame is downloaded: their memory belongs to the
    stream that allocated it, which does not know of the others.

    Parameters
    ----------
    device
        Device of the frames.
    """

    def __init__(self, device: torch.device) -> None:
        self._streams: list[Any] = []
        if device.type == "cuda":
            self._streams = [
                torch.cuda.Stream(device, priority=_FIRST)  # type: ignore[no-untyped-call]
                for _ in range(3)
            ]
            # Networks and other tensors were made before, in the current stream.
            for stream in self._streams:
                stream.wait_stream(torch.cuda.current_stream(device))

    def upload(self) -> contextlib.AbstractContextManager[None]:
        """Queue the upload: scaling and identification."""
        return self._stream(0)

    def compute(self) -> contextlib.AbstractContextManager[None]:
        """Queue the deblurring, after everything in `upload`."""
        return self._stream(1, 0)

    def download(self) -> contextlib.AbstractContextManager[None]:
        """Queue the download and the check, after everything in `compute`."""
        return self._stream(2, 1)

    def downloaded(self) -> Any:
        """Return the event of all downloads queued so far; None on a CPU."""
        return self._streams[2].record_event() if self._streams else None

    @contextlib.contextmanager
    def _stream(self, index: int, after: int | None = None) -> Iterator[None]:
        if not self._streams:
            yield
            return
        stream = self._streams[index]
        if after is not None:
            stream.wait_stream(self._streams[after])
        with torch.cuda.stream(stream):
            yield


def background_stream(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Return a stream for another thread that computes while frames are deblurred.

    Its kernels start only when no kernel of a frame is waiting.
    """
    if device.type != "cuda":
        return contextlib.nullcontext()
    stream = torch.cuda.Stream(device, priority=_LATER)  # type: ignore[no-untyped-call]
    # Wait for the networks, which were made in the current stream.
    stream.wait_stream(torch.cuda.current_stream(device))
    return torch.cuda.stream(stream)
