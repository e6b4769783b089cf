"""The scaling of frames between inspections: on a card, one CUDA graph."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch

from deepblur_live.runtime.graph import record, recording_if_free
from deepblur_live.runtime.line_offsets import remove_line_offsets
from deepblur_live.runtime.repair import repair_unread

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ScalingGraph"]

_log = logging.getLogger(__name__)


class ScalingGraph:
    """Scales a camera's frames, and removes its defects, without reading values back.

    Launching its two hundred small kernels one by one takes longer than running them:
    on a card they are recorded with the first frame of a size.

    Parameters
    ----------
    device
        Where frames are scaled.
    cutoff
        The optics' coherent cut-off in cycles per pixel (`repair_unread`).
    """

    def __init__(self, device: torch.device, cutoff: float) -> None:
        self._device, self._cutoff = device, cutoff
        self._raw = self._image = torch.empty(0, device=device)
        self._limits = torch.zeros(2, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._to_record = False

    @torch.no_grad()
    def run(
        self, pixels: NDArray[np.unsignedinteger], low: float, high: float
    ) -> torch.Tensor:
        """Return (H, W) float32: (pixels - low) / (high - low), without defects.

        In torch's current stream; the host waits for nothing.
        """
        values = torch.from_numpy(pixels)
        if values.shape != self._raw.shape or values.dtype != self._raw.dtype:
            self._raw = torch.empty_like(values, device=self._device)
            self._image = torch.empty(values.shape, device=self._device)
            self._graph, self._to_record = None, self._device.type == "cuda"
        if self._device.type == "cuda":
            # Uploaded as integers: half as many bytes as float32.
            values = values.pin_memory()
        self._raw.copy_(values, non_blocking=True)
        for limit, value in zip(self._limits, (low, high), strict=True):
            limit.fill_(value)
        if self._to_record:
            with recording_if_free() as free:
                if free:
                    self._record()
        if self._graph is None:
            self._steps()
        else:
            self._graph.replay()
        # The next frame is scaled while this one is deblurred.
        return self._image.clone()

    def _record(self) -> None:
        self._to_record = False
        try:
            (self._graph,) = record(self._device, self._steps)
        except RuntimeError as error:
            # The same steps run one by one, more slowly.
            _log.warning("scaling could not be recorded as a CUDA graph: %s", error)

    def _steps(self) -> None:
        low, high = self._limits
        self._image.copy_(self._raw)
        self._image.sub_(low).div_(high - low)
        repair_unread(self._image, self._cutoff)
        remove_line_offsets(self._image, unread=True)
