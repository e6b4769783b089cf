"""Frames through a card without a pause: up, deblurred and down at the same time."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.runtime.graph import FrameGraph

__all__ = ["FrameStream"]


@dataclass
class _Slot:
    """One frame's place: page-locked on the host, and its twin on the card."""

    host_in: torch.Tensor
    host_out: torch.Tensor
    card_in: torch.Tensor
    card_out: torch.Tensor
    uploaded: Any = None
    deblurred: Any = None
    downloaded: Any = None
    begun: float = 0.0


class FrameStream:
    """A ring of frames in grey values, on three CUDA streams.

    While one frame is deblurred the next goes up and the last comes down. On a CPU the
    same steps follow each other. For one thread.

    Parameters
    ----------
    graph
        Deblurs frames of one shape.
    shape
        (H, W) of the frames.
    dtype
        Of the grey values, in and out: ``uint8``, ``uint16`` or ``float32``.
    device
        The graph's.
    slots
        Frames that may be under way at once, 3 for an overlap of all three steps.

    Attributes
    ----------
    last_latency_ms
        From submit to collect, of the frame collected last.
    """

    def __init__(
        self,
        graph: FrameGraph,
        shape: tuple[int, int],
        dtype: np.dtype[Any],
        device: torch.device,
        slots: int = 3,
    ) -> None:
        self._graph, self._device, self._cuda = graph, device, device.type == "cuda"
        self._dtype = np.dtype(dtype)
        # Torch's unsigned 16-bit integers can be copied and converted, no more.
        kind = torch.from_numpy(np.zeros(1, self._dtype)).dtype

        def host() -> torch.Tensor:
            return torch.empty(shape, dtype=kind, pin_memory=self._cuda)

        def card() -> torch.Tensor:
            return torch.empty(shape, dtype=kind, device=device)

        self._slots = [_Slot(host(), host(), card(), card()) for _ in range(slots)]
        self._up, self._compute, self._down = (self._stream() for _ in range(3))
        self._free = deque(self._slots)
        self._under_way: deque[_Slot] = deque()
        self.last_latency_ms = float("nan")

    @property
    def under_way(self) -> int:
        """Frames that were submitted and not yet collected."""
        return len(self._under_way)

    @property
    def full(self) -> bool:
        """Whether one must be collected before the next can be submitted."""
        return not self._free

    @torch.no_grad()
    def submit(
        self,
        pixels: NDArray[Any],
        low: float,
        span: float,
        psf: torch.Tensor,
        sigma: float,
    ) -> None:
        """Begin with a frame; returns before it is done.

        Parameters
        ----------
        pixels
            (H, W) grey values, ``low + span · image``, image in about [0, 1].
        low, span
            Of the scaling.
        psf
            (K, K), on the graph's device.
        sigma
            Noise of the image.

        Raises
        ------
        RuntimeError
            When the ring is full: `collect` first.
        ValueError
            When the frame is of another shape or dtype.
        """
        if self.full:
            raise RuntimeError(f"{len(self._slots)} frames are under way: collect one")
        slot = self._free[0]
        if pixels.shape != tuple(slot.host_in.shape) or pixels.dtype != self._dtype:
            raise ValueError(
                f"a frame of {pixels.dtype} {pixels.shape}: this stream is for "
                f"{self._dtype} {tuple(slot.host_in.shape)}"
            )
        self._free.popleft()
        slot.begun = time.perf_counter()
        slot.host_in.numpy()[...] = pixels
        with self._on(self._up):
            slot.card_in.copy_(slot.host_in, non_blocking=True)
            slot.uploaded = self._mark()
        # The PSF may still be in the making.
        ready = self._mark()
        with self._on(self._compute):
            self._wait(ready)
            self._wait(slot.uploaded)
            if psf.is_cuda:
                # Whoever made it may let go of it before it has been read here.
                psf.record_stream(torch.cuda.current_stream())
            image = (slot.card_in.float() - low) / span
            sharp = self._graph.run(image, psf, sigma) * span + low
            slot.card_out.copy_(self._rounded(sharp))
            slot.deblurred = self._mark()
        with self._on(self._down):
            self._wait(slot.deblurred)
            slot.host_out.copy_(slot.card_out, non_blocking=True)
            slot.downloaded = self._mark()
        self._under_way.append(slot)

    def collect(self) -> NDArray[Any]:
        """Wait for the oldest frame, and return it, (H, W) grey values of its own.

        Raises
        ------
        RuntimeError
            When none is under way.
        """
        if not self._under_way:
            raise RuntimeError("no frame is under way: submit one")
        slot = self._under_way.popleft()
        if slot.downloaded is not None:
            slot.downloaded.synchronize()
        sharp: NDArray[Any] = slot.host_out.numpy().copy()
        self.last_latency_ms = (time.perf_counter() - slot.begun) * 1e3
        self._free.append(slot)
        return sharp

    def _rounded(self, sharp: torch.Tensor) -> torch.Tensor:
        if self._dtype.kind == "f":
            return sharp
        highest = np.iinfo(self._dtype).max
        # The copy converts it further: by way of 32 bits every device can.
        return sharp.round().clamp(0, highest).to(torch.int32)

    # On a CPU there are no streams, and nothing to wait for.

    def _stream(self) -> Any:
        if not self._cuda:
            return None
        return torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]

    def _on(self, stream: Any) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext() if stream is None else torch.cuda.stream(stream)

    def _mark(self) -> Any:
        return torch.cuda.current_stream().record_event() if self._cuda else None

    def _wait(self, event: Any) -> None:
        if event is not None:
            torch.cuda.current_stream().wait_event(event)
