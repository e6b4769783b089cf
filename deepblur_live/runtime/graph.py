"""A frame's whole deblurring on static buffers: on a card, one CUDA graph."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import torch

from deepblur_live.runtime.executor import deblur_frame

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
        The deblurring network, its proximal network in torch or an engine. It may be
        folded for another noise level between frames.
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
        self._sigma = 0.01
        self._image = torch.zeros(shape, device=device)
        zero = torch.zeros(1, family.n_coefficients, device=device)
        self._kernels = tuple(kernel.clone() for kernel in family.kernels(zero))
        self._sharp = torch.zeros(shape, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._to_record = device.type == "cuda"
        self.why_not = ""
        fista.fold(self._sigma)

    @property
    def recorded(self) -> bool:
        """Whether frames run as one CUDA graph."""
        return self._graph is not None

    @torch.no_grad()
    def run(
        self, image: torch.Tensor, kernels: tuple[torch.Tensor, ...], sigma: float
    ) -> torch.Tensor:
        """Return the sharp (H, W) of a scaled image, in torch's current stream.

        Parameters
        ----------
        image
            (H, W) scaled to about [0, 1], on any device.
        kernels
            Of γ (1, P), see `BlurFamily.kernels`.
        sigma
            Standard deviation of the noise.

        Returns
        -------
        torch.Tensor
            The static buffer: it holds until the next call.
        """
        # Another size's graph may have folded the shared weights for its own noise.
        self._fista.fold(sigma)
        self._sigma = sigma
        self._image.copy_(image, non_blocking=True)
        for static, kernel in zip(self._kernels, kernels, strict=True):
            static.copy_(kernel, non_blocking=True)
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

    def _steps(self) -> None:
        sharp = deblur_frame(
            self._fista,
            self._image,
            self._family,
            self._kernels,
            self._sigma,
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
