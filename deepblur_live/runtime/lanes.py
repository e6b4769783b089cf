"""CUDA streams side by side: a frame goes up, one is deblurred, one comes down."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Lanes"]


class Lanes:
    """Where the steps of a frame's way are queued; on a CPU they are simply taken.

    Frames come to each lane in the order in which they were begun. What lies on the
    card must be held until the frame is down: its memory belongs to the lane that
    made it, which does not know of the others.

    Parameters
    ----------
    device
        Of the frames.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._streams: list[Any] = []
        if device.type == "cuda":
            self._streams = [
                torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
                for _ in range(4)
            ]
            # What was made before, networks above all, was made in another stream.
            for stream in self._streams:
                stream.wait_stream(torch.cuda.current_stream(device))

    def up(self) -> contextlib.AbstractContextManager[None]:
        """Queue what is done with a frame on its way up: scaled, identified."""
        return self._lane(0)

    def deblurring(self) -> contextlib.AbstractContextManager[None]:
        """Queue its deblurring, after all that has been queued on the way up."""
        return self._lane(1, 0)

    def down(self) -> contextlib.AbstractContextManager[None]:
        """Queue its way down, after all that has been queued for deblurring."""
        return self._lane(2, 1)

    def landed(self) -> contextlib.AbstractContextManager[None]:
        """Queue what is done with a frame that is down, after nothing else.

        By then the next one may be in all other lanes.
        """
        return self._lane(3)

    def landing(self) -> tuple[Callable[[], bool], Callable[[], None]]:
        """Return whether all on its way down has come, and what waits for it."""
        if not self._streams:
            return (lambda: True), (lambda: None)
        event = self._streams[2].record_event()
        return event.query, event.synchronize

    @contextlib.contextmanager
    def _lane(self, index: int, after: int | None = None) -> Iterator[None]:
        if not self._streams:
            yield
            return
        stream = self._streams[index]
        if after is not None:
            stream.wait_stream(self._streams[after])
        with torch.cuda.stream(stream):
            yield
