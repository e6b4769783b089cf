"""A frame's whole deblurring on static buffers: on a card, one CUDA graph."""

from __future__ import annotations

import contextlib
import logging
import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch

from deepblur_live.optics import NoiseModel
from deepblur_live.runtime.cuda_streams import RECORDING
from deepblur_live.runtime.executor import deblur_frame, frame_operator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deepblur_live.blur import BlurFamily, LinearBlur
    from deepblur_live.deblurring import FoldedFista

__all__ = [
    "FrameGraph",
    "FrameSteps",
    "Recorded",
    "no_recording",
    "record",
    "recording_if_free",
    "return_memory",
    "synchronize",
    "wait",
]

_log = logging.getLogger(__name__)
_WARM_UP = 3
_RECORDING = threading.Lock()
# Graphs whose recording failed are kept: torch's allocators still refer to them.
_failed: list[torch.cuda.CUDAGraph] = []


@contextlib.contextmanager
def no_recording() -> Iterator[None]:
    """Prevent the recording of CUDA graphs in the meantime.

    A recording fails when another thread synchronizes with the card, which opening an
    engine may do.
    """
    with _RECORDING:
        yield


@contextlib.contextmanager
def recording_if_free() -> Iterator[bool]:
    """Yield whether a CUDA graph may be recorded now; no other is in the meantime.

    A frame does not wait for an engine being opened: the next one records.
    """
    free = _RECORDING.acquire(blocking=False)
    try:
        yield free
    finally:
        if free:
            _RECORDING.release()


def return_memory(device: torch.device) -> None:
    """Give a card's unused memory back, unless a recording is on, which would fail."""
    if device.type == "cuda":
        with recording_if_free() as free:
            if free:
                torch.cuda.empty_cache()


def wait(device: torch.device) -> None:
    """Wait for all work queued on a card, while no recording runs, which would fail."""
    with no_recording():
        synchronize(device)


def synchronize(device: torch.device) -> None:
    """Wait for all work queued on a card, where no recording can be running."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def record(
    device: torch.device, *parts: Callable[[], object]
) -> list[torch.cuda.CUDAGraph]:
    """Return CUDA graphs of functions that compute on static buffers, one each.

    They are replayed once, in the current stream. Nothing else may be recorded or
    synchronized with the card at the same time: see `no_recording`.

    Raises
    ------
    RuntimeError
        Where recording fails; torch is in the same stream as before.
    """
    before = torch.cuda.current_stream(device)
    stream = torch.cuda.Stream(  # type: ignore[no-untyped-call]
        device, priority=RECORDING
    )
    stream.wait_stream(before)
    fastest = torch.backends.cudnn.flags(
        enabled=True, benchmark=True, allow_tf32=torch.backends.cudnn.allow_tf32
    )
    # A recording that ends with an error leaves torch in the recording's stream: the
    # context within this one does not restore it (`torch.cuda.graph`).
    with torch.cuda.device(device), torch.cuda.stream(before), fastest:
        try:
            graphs = _recorded(stream, device, parts)
        except RuntimeError:
            with contextlib.suppress(RuntimeError):
                torch.cuda.synchronize(device)
            raise
    before.wait_stream(stream)
    return graphs


def _recorded(
    stream: torch.cuda.Stream,
    device: torch.device,
    parts: tuple[Callable[[], object], ...],
) -> list[torch.cuda.CUDAGraph]:
    # At the first use cuFFT plans, cuDNN selects kernels and an engine compiles its
    # own: none of it may be recorded.
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UP):
            for part in parts:
                part()
    torch.cuda.synchronize(device)
    graphs = []
    for part in parts:
        graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
        try:
            # Other threads may allocate at the same time.
            with torch.cuda.graph(
                graph, pool, stream=stream, capture_error_mode="thread_local"
            ):
                part()
        except RuntimeError:
            _give_up(graph, pool)
            raise
        graphs.append(graph)
    for graph in graphs:
        graph.replay()
    torch.cuda.synchronize(device)
    return graphs


def _give_up(graph: torch.cuda.CUDAGraph, pool: tuple[int, int]) -> None:
    """End the allocation for a recording that failed, which torch leaves open.

    While it is open torch refuses to give memory back, and thereby to record again.
    """
    index = torch.cuda.current_device()
    try:
        torch._C._cuda_endAllocateToPool(index, pool)
    except RuntimeError:
        return  # the recording was ended, and the graph frees its memory
    torch._C._cuda_releasePool(index, pool)
    _failed.append(graph)


class Recorded:
    """Functions that compute on static buffers: on a card, a CUDA graph each.

    They are recorded at the first run. While an engine is being opened, if recording
    fails, and on a CPU, the functions themselves run.

    Parameters
    ----------
    device
        Device of the buffers.
    parts
        The functions, in the order in which they depend on each other.

    Attributes
    ----------
    graphs
        Graphs of the functions, once they are recorded.
    why_not
        Why recording failed; empty otherwise.
    """

    def __init__(self, device: torch.device, *parts: Callable[[], object]) -> None:
        self._device, self._parts = device, parts
        self._to_record = device.type == "cuda"
        self.graphs: list[torch.cuda.CUDAGraph] = []
        self.why_not = ""

    def run(self, part: int = 0) -> None:
        """Run one of the functions, in torch's current stream."""
        if self._to_record:
            with recording_if_free() as free:
                if free:
                    self._record()
        if self.graphs:
            self.graphs[part].replay()
        else:
            self._parts[part]()

    def _record(self) -> None:
        self._to_record = False
        try:
            self.graphs = record(self._device, *self._parts)
        except RuntimeError as error:
            self.why_not = str(error).strip().splitlines()[0]
            _log.warning("steps could not be recorded: %s", self.why_not)
            # Recording does not compute anything: compute now.
            for part in self._parts:
                part()


class FrameSteps(ABC):
    """Computes with frames of one shape, their blur and their noise, on static buffers.

    Launching some hundred kernels one by one takes longer than running them on a small
    frame. Recorded as a CUDA graph, they are launched together; those that depend on
    the blur alone are a graph of their own, launched when it changes.

    Parameters
    ----------
    family
        The rig's blurs.
    shape
        (H, W) of the frames.
    device
        Device of the buffers.

    Attributes
    ----------
    parts
        The steps that depend on the blur alone, and the others.
    """

    def __init__(
        self, family: BlurFamily, shape: tuple[int, int], device: torch.device
    ) -> None:
        self._family = family
        self._image = torch.zeros(shape, device=device)
        self._noise = NoiseModel(*torch.zeros(3, 1, device=device))
        # Allocated with the first frame: their number depends on the family.
        self._kernels: tuple[torch.Tensor, ...] = ()
        # The kernels that were copied into them last, and their operator.
        self._copied: tuple[torch.Tensor, ...] | None = None
        self._operator: LinearBlur | None = None
        self.parts = Recorded(device, self._renew, self._steps)

    @torch.no_grad()
    def start(
        self,
        image: torch.Tensor,
        kernels: tuple[torch.Tensor, ...],
        noise: NoiseModel,
    ) -> None:
        """Run the steps on a frame, in torch's current stream.

        Parameters
        ----------
        image
            (H, W) scaled to about [0, 1], on any device.
        kernels
            Kernels of one γ, see `BlurFamily.operator_from`; of the same shapes in all
            calls. The same tuple as in the last call means the same blur.
        noise
            Noise of the image, on any device.
        """
        self._image.copy_(image, non_blocking=True)
        own = self._noise
        for static, value in (
            (own.slope, noise.slope),
            (own.intercept, noise.intercept),
            (own.least, noise.least),
        ):
            if value.device.type == "cpu":
                # Filled on the device: a copy would wait for all queued work of a card.
                static.fill_(float(value))
            else:
                static.copy_(value)
        if kernels is not self._copied:
            if not self._kernels:
                where = self._image.device
                self._kernels = tuple(
                    torch.empty_like(kernel, device=where) for kernel in kernels
                )
            for buffer, kernel in zip(self._kernels, kernels, strict=True):
                buffer.copy_(kernel, non_blocking=True)
            # If this fails for lack of memory, it is tried again with the next frame.
            self._copied = None
            self.parts.run(0)
            self._copied = kernels
        self.parts.run(1)

    def _renew(self) -> None:
        self._operator = self._make_operator()

    @abstractmethod
    def _make_operator(self) -> LinearBlur:
        """Return the operator of the static kernels."""

    @abstractmethod
    def _steps(self) -> None:
        """Compute from the contents of the static buffers."""


class FrameGraph(FrameSteps):
    """Deblurs frames of one shape.

    Parameters
    ----------
    fista
        The deblurring network, its proximal network in torch or an engine. Another
        graph may use it between frames.
    shape, family, device
        As `FrameSteps`.
    fold
        The proximal network's `shrink`.
    """

    def __init__(
        self,
        fista: FoldedFista,
        shape: tuple[int, int],
        family: BlurFamily,
        fold: int,
        device: torch.device,
    ) -> None:
        super().__init__(family, shape, device)
        self._fista, self._fold = fista, fold
        self._sharp = torch.zeros(shape, device=device)

    def run(
        self,
        image: torch.Tensor,
        kernels: tuple[torch.Tensor, ...],
        noise: NoiseModel,
    ) -> torch.Tensor:
        """Return the sharp (H, W) of a frame, in a buffer that the next call changes.

        Parameters as `FrameSteps.start`.
        """
        self.start(image, kernels, noise)
        return self._sharp

    def _make_operator(self) -> LinearBlur:
        rows, columns = self._image.shape
        return frame_operator(self._family, self._kernels, (rows, columns), self._fold)

    def _steps(self) -> None:
        assert self._operator is not None
        sharp = deblur_frame(
            self._fista,
            self._image,
            self._operator,
            self._noise,
            self._family.window,
            self._fold,
        )
        self._sharp.copy_(sharp)
