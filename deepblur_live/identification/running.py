"""The running average spectrum: a power spectrum does not see a moving specimen.

Averaging over the frames of some seconds needs no registration.
"""

from __future__ import annotations

import math

import torch

from deepblur_live.identification.spectrum import FrameSpectrum, weighed

__all__ = ["PowerSpectrum"]

# A departure from the average that noise does not make: still frames of a simulated
# microscope keep within 0.9 to 1.1, a step of 0.08 waves makes it 6.
_CHANGED = 2.0


class PowerSpectrum:
    """Running average spectrum of the frames of the last seconds.

    When two frames in a row differ from the average by more than their noise, the blur
    or the specimen has changed and the average begins anew with them: it must not mix
    two blurs. One odd frame alone (a closed shutter, a passing bubble) is left out.

    Parameters
    ----------
    average_s
        Time constant of the exponential forgetting in seconds; 0 keeps the newest
        frame alone.
    cutoff
        Pupil radius NA·px/λ in cycles a pixel.
    """

    def __init__(self, average_s: float, cutoff: float) -> None:
        self.average_s, self.cutoff = average_s, cutoff
        self.reset()

    def reset(self) -> None:
        """Forget all frames."""
        self._sum: FrameSpectrum | None = None
        self._odd: FrameSpectrum | None = None
        self._weight = self._weight_squared = 0.0
        self._time = 0.0

    @property
    def frames(self) -> float:
        """Effective number of frames in the average."""
        if not self._weight_squared:
            return 0.0
        return self._weight**2 / self._weight_squared

    @property
    def average(self) -> FrameSpectrum:
        """What the frames show in the mean.

        Raises
        ------
        RuntimeError
            Before the first frame.
        """
        if self._sum is None:
            raise RuntimeError("no frame has been added to the spectrum yet")
        return self._sum.times(1 / self._weight)

    def add(self, image: torch.Tensor, time: float) -> bool:
        """Add one frame (H, W) taken at `time` seconds.

        Returns
        -------
        bool
            True when the average began anew with it.
        """
        seen = self.look(image.float())
        if not seen.is_finite:
            # Finite pixels may overflow when squared; NaN would stay for good.
            return False
        if self._sum is None or self.average_s <= 0:
            self._begin(seen, time)
            return self.average_s > 0
        elif self._departure(seen) > _CHANGED:
            if self._odd is None:
                self._odd = seen
            else:
                self._begin(self._odd, time)
                self._accumulate(seen, time)
                return True
        else:
            self._accumulate(seen, time)
        return False

    def look(self, image: torch.Tensor) -> FrameSpectrum:
        """Return a frame's (H, W) spectrum as this average takes it in."""
        return weighed(image, self.cutoff, max(1.0, self.frames))

    def _begin(self, seen: FrameSpectrum, time: float) -> None:
        self._sum, self._odd = seen, None
        self._weight, self._weight_squared, self._time = 1.0, 1.0, time

    def _accumulate(self, seen: FrameSpectrum, time: float) -> None:
        assert self._sum is not None
        keep = math.exp(-max(0.0, time - self._time) / self.average_s)
        self._sum = self._sum.times(keep).plus(seen)
        self._weight = keep * self._weight + 1
        self._weight_squared = keep**2 * self._weight_squared + 1
        self._time, self._odd = time, None

    def _departure(self, seen: FrameSpectrum) -> float:
        """Return how far a spectrum is from the average, 1 when noise is all.

        The scatter of the logarithm of their ratio, brightness aside, over what the
        number of windows lets one expect. With every window alike: weights change as
        frames gather.
        """
        ratio = seen.plain.clamp(min=1e-30) / self.average.plain.clamp(min=1e-30)
        logs = torch.log(ratio)
        scatter = float((logs - logs.median()).square().mean().sqrt())
        return scatter / math.sqrt((1 + 1 / self.frames) / seen.plain_looks)
