"""The scaling of frames between inspections: on a card, one CUDA graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from deepblur_live.runtime.device import page_locked
from deepblur_live.runtime.graph import Recorded
from deepblur_live.runtime.line_offsets import remove_line_offsets
from deepblur_live.runtime.repair import repair_unread

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ScalingGraph"]


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
        self._low, self._high = torch.zeros(2, device=device).unbind()
        self.parts = Recorded(device, self._steps)

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
            self.parts = Recorded(self._device, self._steps)
        if self._device.type == "cuda":
            values = page_locked(pixels)
        self._raw.copy_(values, non_blocking=True)
        self._low.fill_(low)
        self._high.fill_(high)
        self.parts.run()
        # The next frame is scaled while this one is deblurred.
        return self._image.clone()

    def _steps(self) -> None:
        self._image.copy_(self._raw)
        self._image.sub_(self._low).div_(self._high - self._low)
        repair_unread(self._image, self._cutoff)
        remove_line_offsets(self._image, unread=True)
