"""A frame's whole deblurring on static buffers: on a card, one CUDA graph."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import torch

from deepblur_live.optics import NoiseModel
from deepblur_live.runtime.executor import deblur_frame, frame_operator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deepblur_live.blur import BlurFamily, LinearBlur
    from deepblur_live.deblurring import FoldedFista

__all__ = ["FrameGraph", "no_recording", "record", "recording_if_free"]

_WARM_UP = 3
_RECORDING = threading.Lock()


@contextlib.contextmanager
def no_recording() -> Iterator[None]:
    """Keep CUDA graphs from being recorded meanwhile.

    A recording fails when another thread synchronizes with the card, which opening an
    engine may do.
    """
    with _RECORDING:
        yield


@contextlib.contextmanager
def recording_if_free() -> Iterator[bool]:
    """Yield whether a CUDA graph may be recorded now; nothing else is meanwhile.

    A frame does not wait for an engine being opened: the next one records.
    """
    free = _RECORDING.acquire(blocking=False)
    try:
        yield free
    finally:
        if free:
            _RECORDING.release()


def record(
    device: torch.device, *parts: Callable[[], object]
) -> list[torch.cuda.CUDAGraph]:
    """Return CUDA graphs of functions that compute on static buffers, one each.

    They are replayed once, in the current stream. Nothing else may be recorded or
    synchronized with the card meanwhile: see `no_recording`.

    Raises
    ------
    RuntimeError
        Where recording fails; torch is in the same stream as before.
    """
    before = torch.cuda.current_stream(device)
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(before)
    fastest = torch.backends.cudnn.flags(enabled=True, benchmark=True)
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
        graph = torch.cuda.CUDAGraph()
        # Other threads may allocate meanwhile.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            part()
        graphs.append(graph)
    for graph in graphs:
        graph.replay()
    torch.cuda.synchronize(device)
    return graphs


class FrameGraph:
    """Deblurs frames of one shape on static buffers.

    Launching some three hundred kernels one by one takes longer than running them on
    a small frame. Recorded as a CUDA graph with the first frame, they are launched
    together; those that depend on the blur alone are a graph of their own, launched
    when it changes. Where recording fails, while another thread opens an engine, and on
    the CPU, the same steps run one by one.

    Parameters
    ----------
    fista
        The deblurring network, its proximal network in torch or an engine. Another
        graph may use it between frames.
    shape
        (H, W) of the frames.
    family
        The rig's blurs.
    fold
        The proximal network's `shrink`.
    device
        Where everything lies.

    Attributes
    ----------
    recorded
        Whether frames run as one CUDA graph.
    why_not
        Why recording failed; empty otherwise.
    """

    def __init__(
        self,
        fista: FoldedFista,
        shape: tuple[int, int],
        family: BlurFamily,
        fold: int,
        device: torch.device,
    ) -> None:
        self._fista, self._family = fista, family
        self._fold, self._device = fold, device
        self._image = torch.zeros(shape, device=device)
        self._noise = NoiseModel(*torch.zeros(3, 1, device=device))
        # Allocated with the first frame: their number is the family's matter.
        self._kernels: tuple[torch.Tensor, ...] = ()
        # The kernels that were copied into them last, and their operator.
        self._given: tuple[torch.Tensor, ...] | None = None
        self._operator: LinearBlur | None = None
        self._sharp = torch.zeros(shape, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._renewal: torch.cuda.CUDAGraph | None = None
        self._to_record = device.type == "cuda"
        self.why_not = ""

    @property
    def recorded(self) -> bool:
        """Whether frames run as one CUDA graph."""
        return self._graph is not None

    @torch.no_grad()
    def run(
        self,
        image: torch.Tensor,
        kernels: tuple[torch.Tensor, ...],
        noise: NoiseModel,
    ) -> torch.Tensor:
        """Return the sharp (H, W) of a scaled image, in torch's current stream.

        Parameters
        ----------
        image
            (H, W) scaled to about [0, 1], on any device.
        kernels
            Of one γ, see `BlurFamily.operator_from`; of the same shapes in all calls.
            The same tuple as in the last call means the same blur.
        noise
            Of the image, on any device.

        Returns
        -------
        torch.Tensor
            The static buffer: it holds until the next call.
        """
        self._image.copy_(image, non_blocking=True)
        if kernels is not self._given:
            self._set_kernels(kernels)
        self._set_noise(noise)
        if self._to_record:
            with recording_if_free() as free:
                if free:
                    self._record()
                    self._to_record = False
        if self._graph is None:
            self._steps()
        else:
            self._graph.replay()
        return self._sharp

    def _set_kernels(self, kernels: tuple[torch.Tensor, ...]) -> None:
        if not self._kernels:
            self._kernels = tuple(torch.empty_like(kernel) for kernel in kernels)
        for static, kernel in zip(self._kernels, kernels, strict=True):
            static.copy_(kernel, non_blocking=True)
        self._given = kernels
        if self._renewal is None:
            self._renew()
        else:
            self._renewal.replay()

    def _renew(self) -> None:
        """Make the operator of the static kernels."""
        rows, columns = self._image.shape
        self._operator = frame_operator(
            self._family, self._kernels, (rows, columns), self._fold
        )

    def _set_noise(self, noise: NoiseModel) -> None:
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

    @torch.no_grad()
    def _record(self) -> None:
        """Record the steps; on any failure they run one by one."""
        try:
            self._renewal, self._graph = record(self._device, self._renew, self._steps)
        except RuntimeError as error:
            self.why_not = str(error).strip().splitlines()[0]
            # The values it was made of were never computed while recording.
            self._renew()
