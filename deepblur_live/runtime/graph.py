"""A frame's whole deblurring on static buffers: on a card, one CUDA graph."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import torch

from deepblur_live.optics import NoiseModel
from deepblur_live.runtime.executor import deblur_frame, frame_operator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deepblur_live.blur import BlurFamily
    from deepblur_live.deblurring import FoldedFista

__all__ = ["FrameGraph", "no_recording"]

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


class FrameGraph:
    """Deblurs frames of one shape on static buffers.

    Launching some three hundred kernels one by one takes longer than running them on
    a small frame. Recorded as a CUDA graph with the first frame, they are launched
    together. Where recording fails, while another thread opens an engine, and on the
    CPU, the same steps run one by one.

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
        self._sharp = torch.zeros(shape, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None
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
        noise
            Of the image, on any device.

        Returns
        -------
        torch.Tensor
            The static buffer: it holds until the next call.
        """
        self._image.copy_(image, non_blocking=True)
        if not self._kernels:
            self._kernels = tuple(torch.empty_like(kernel) for kernel in kernels)
        for static, kernel in zip(self._kernels, kernels, strict=True):
            static.copy_(kernel, non_blocking=True)
        self._set_noise(noise)
        # Do not wait for an engine being opened: the next frame records.
        if self._to_record and _RECORDING.acquire(blocking=False):
            try:
                self._record()
            finally:
                _RECORDING.release()
            self._to_record = False
        if self._graph is None:
            self._steps()
        else:
            self._graph.replay()
        return self._sharp

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
        rows, columns = self._image.shape
        sharp = deblur_frame(
            self._fista,
            self._image,
            frame_operator(self._family, self._kernels, (rows, columns), self._fold),
            self._noise,
            self._family.window,
            self._fold,
        )
        self._sharp.copy_(sharp)

    @torch.no_grad()
    def _record(self) -> None:
        """Record the steps; on any failure they run one by one."""
        stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self._device))
        fastest = torch.backends.cudnn.flags(enabled=True, benchmark=True)
        with torch.cuda.device(self._device), fastest:
            try:
                # At the first use cuFFT plans, cuDNN selects kernels and an engine
                # compiles its own: none of it may be recorded.
                with torch.cuda.stream(stream):
                    for _ in range(_WARM_UP):
                        self._steps()
                torch.cuda.synchronize(self._device)
                graph = torch.cuda.CUDAGraph()
                # Other threads may allocate meanwhile.
                with torch.cuda.graph(
                    graph, stream=stream, capture_error_mode="thread_local"
                ):
                    self._steps()
                graph.replay()
                torch.cuda.synchronize(self._device)
            except RuntimeError as error:
                self.why_not = str(error).strip().splitlines()[0]
                with contextlib.suppress(RuntimeError):
                    torch.cuda.synchronize(self._device)
                return
        torch.cuda.current_stream(self._device).wait_stream(stream)
        self._graph = graph
