"""A frame's whole deblurring on static buffers: on a card, one CUDA graph."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import torch

from deepblur_live.runtime.executor import deblur_frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deepblur_live.deblurring import FoldedFista
    from deepblur_live.optics import Convolution

__all__ = ["FrameGraph", "apart_from_recordings"]

_WARM_UP = 3
_RECORDING = threading.Lock()


@contextlib.contextmanager
def apart_from_recordings() -> Iterator[None]:
    """Hold what another thread does to the card apart from any recording there.

    A recording breaks when meanwhile anyone waits for the whole card, which opening an
    engine may do.
    """
    with _RECORDING:
        yield


class FrameGraph:
    """Deblurs frames of one shape; all that changes lies in buffers that do not move.

    Launching some three hundred kernels one by one takes longer than running them on
    a small frame. Recorded with the first frame, they are launched together. Where
    recording fails, while another thread opens an engine, and on a CPU, the same steps
    are taken one by one.

    Parameters
    ----------
    fista
        The deblurring network, its proximal network in torch or an engine. It may be
        folded anew between frames.
    shape
        (H, W) of the frames.
    window
        Side of the PSFs.
    fold
        What the proximal network folds.
    device
        Where everything lies.
    record
        Whether to try to record, on a card.

    Attributes
    ----------
    recorded
        Whether frames run as one CUDA graph.
    why_not
        Where recording failed: why.
    """

    def __init__(
        self,
        fista: FoldedFista,
        shape: tuple[int, int],
        window: int,
        fold: int,
        device: torch.device,
        *,
        record: bool = True,
    ) -> None:
        self._fista, self._fold, self._device = fista, fold, device
        self._sigma = 0.01
        self._image = torch.zeros(shape, device=device)
        self._psf = torch.zeros(1, window, window, device=device)
        self._psf[:, window // 2, window // 2] = 1
        self._sharp = torch.zeros(shape, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._to_record = record and device.type == "cuda"
        self.why_not = ""
        fista.fold(self._sigma)

    @property
    def recorded(self) -> bool:
        """Whether frames run as one CUDA graph."""
        return self._graph is not None

    @torch.no_grad()
    def run(self, image: torch.Tensor, psf: torch.Tensor, sigma: float) -> torch.Tensor:
        """Return the sharp (H, W) of a scaled image, in torch's current stream.

        Parameters
        ----------
        image
            (H, W) scaled to about [0, 1], on any device.
        psf
            (K, K), K the window.
        sigma
            Standard deviation of the noise.

        Returns
        -------
        torch.Tensor
            The static buffer: it holds until the next call.
        """
        # Another size's graph may have folded the same weights for its noise meanwhile.
        self._fista.fold(sigma)
        self._sigma = sigma
        self._image.copy_(image, non_blocking=True)
        self._psf[0].copy_(psf, non_blocking=True)
        # A frame does not wait for what goes on beside it: the next one records.
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
        def network(whole: torch.Tensor, operator: Convolution) -> torch.Tensor:
            return self._fista(whole, operator, self._sigma)

        sharp = deblur_frame(network, self._image, self._psf, self._fold)
        self._sharp.copy_(sharp)

    @torch.no_grad()
    def _record(self) -> None:
        """Record the steps; on any failure they are taken one by one."""
        stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self._device))
        quickest = torch.backends.cudnn.flags(enabled=True, benchmark=True)
        with torch.cuda.device(self._device), quickest:
            try:
                # cuFFT makes its plans, cuDNN chooses its kernels and an engine
                # compiles its own at the first use, which a recording must not hold.
                with torch.cuda.stream(stream):
                    for _ in range(_WARM_UP):
                        self._steps()
                torch.cuda.synchronize(self._device)
                graph = torch.cuda.CUDAGraph()
                # Other threads may allocate meanwhile: only this one is recorded.
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
