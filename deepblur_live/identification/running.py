"""The running average of power spectra over the frames of the last seconds.

A power spectrum does not depend on the specimen's position: no registration is needed.
"""

from __future__ import annotations

import math

import torch

from deepblur_live.identification.spectrum import FrameSpectrum, weighted

__all__ = ["PowerSpectrum"]

# A deviation from the average that noise does not explain: frames of a simulated
# microscope at rest stay within 0.9 to 1.1, a step of 0.08 waves gives 6.
_CHANGED = 2.0


class PowerSpectrum:
    """Running average spectrum of the frames of the last seconds.

    When two consecutive frames differ from the average by more than their noise, the
    blur or the specimen has changed, and the average starts again with them: it must
    not mix two blurs. A single outlier (closed shutter, passing bubble) is left out.

    Parameters
    ----------
    average_s
        Time constant of the exponential average in seconds; 0 keeps only the newest
        frame.
    cutoff
        Coherent cut-off in cycles per pixel.
    """

    def __init__(self, average_s: float, cutoff: float) -> None:
        self.average_s, self.cutoff = average_s, cutoff
        self.reset()

    def reset(self) -> None:
        """Forget all frames."""
        self._sum: FrameSpectrum | None = None
        self._outlier: FrameSpectrum | None = None
        self._weight = self._weight_squared = 0.0
        self._time, self._began = 0.0, math.nan

    @property
    def frames(self) -> float:
        """Effective number of frames in the average."""
        if not self._weight_squared:
            return 0.0
        return self._weight**2 / self._weight_squared

    @property
    def began(self) -> float:
        """When the average was begun, or begun again, seconds; nan before a frame."""
        return self._began

    @property
    def average(self) -> FrameSpectrum:
        """The average spectrum.

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
            True when the average was started again with it.
        """
        spectrum = self.spectrum_of(image.float())
        if not spectrum.is_finite:
            # Finite pixels may overflow when squared, and NaN would never leave.
            return False
        if self._sum is None or self.average_s <= 0:
            self._begin(spectrum, time)
            return self.average_s > 0
        elif self._differs(spectrum):
            if self._outlier is None:
                self._outlier = spectrum
            else:
                self._begin(self._outlier, time)
                self._accumulate(spectrum, time)
                return True
        else:
            self._accumulate(spectrum, time)
        return False

    def spectrum_of(self, image: torch.Tensor) -> FrameSpectrum:
        """Return the spectrum of a frame (H, W) with this average's weights."""
        return weighted(image, self.cutoff, max(1.0, self.frames))

    def _begin(self, spectrum: FrameSpectrum, time: float) -> None:
        self._sum, self._outlier = spectrum, None
        self._weight, self._weight_squared = 1.0, 1.0
        self._time = self._began = time

    def _accumulate(self, spectrum: FrameSpectrum, time: float) -> None:
        assert self._sum is not None
        keep = math.exp(-max(0.0, time - self._time) / self.average_s)
        self._sum = self._sum.times(keep).plus(spectrum)
        self._weight = keep * self._weight + 1
        self._weight_squared = keep**2 * self._weight_squared + 1
        self._time, self._outlier = time, None

    def _differs(self, spectrum: FrameSpectrum) -> bool:
        """Return whether a frame shows another blur, or another specimen."""
        return self._deviation(spectrum) > _CHANGED

    def _deviation(self, spectrum: FrameSpectrum) -> float:
        """Return how far a spectrum is from the average; 1 when only noise differs.

        The scatter of the logarithm of their ratio, apart from brightness, over its
        expected value. With equal weights, as the others change with the number of
        frames.
        """
        ratio = spectrum.plain.clamp(min=1e-30) / self.average.plain.clamp(min=1e-30)
        logs = torch.log(ratio)
        scatter = float((logs - logs.median()).square().mean().sqrt())
        return scatter / math.sqrt((1 + 1 / self.frames) / spectrum.plain_averages)
