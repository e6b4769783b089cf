"""A frame's power spectrum: Welch average over windows and frames, floor, reliability.

The windowed spectrum of a blurred frame is nearly S_x(f)·|ĥ(f)|² + σ². Where it rises
above the noise, its logarithm is the specimen's smooth spectrum plus log|ĥ|², whose
notches tell the blur. A power spectrum does not see a moving specimen, so averaging
over frames needs no registration.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch

__all__ = [
    "WINDOW",
    "PowerSpectrum",
    "Reliable",
    "frequencies",
    "has_corner",
    "reliable",
    "welch",
    "windowed",
]

WINDOW = 64
# Half-overlapping Hann windows share little: measured on white noise, a window of a
# large frame counts 0.9.
_LOOKS_PER_WINDOW = 0.9
# A departure from the average that noise does not make: still frames of a simulated
# microscope keep within 0.9 to 1.1, a step of 0.08 waves makes it 6.
_CHANGED = 2.0
# How far the logarithm of a real specimen's spectrum strays from smooth. This rough
# figure weighs the network's input and the library's start; the fit has its own.
_MODEL_ERROR = 0.3


@lru_cache(maxsize=8)
def frequencies(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return |f| (cycles a pixel) and the angle (radians) of the bins, (W, W//2+1)."""
    fy = torch.fft.fftfreq(WINDOW, device=device)[:, None]
    fx = torch.fft.rfftfreq(WINDOW, device=device)[None]
    return torch.hypot(fy, fx).clamp(min=0.5 / WINDOW), torch.atan2(fy, fx)


@lru_cache(maxsize=8)
def _hann(dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    line = torch.hann_window(WINDOW, dtype=dtype, device=device)
    window = line[:, None] * line[None]
    return window / (window**2).mean().sqrt()


def welch(image: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Return the power spectrum (..., W, W//2+1) of images (..., H, W) and its looks.

    White noise of variance σ² has the spectrum σ². Looks is the number of independent
    windows in the average.

    Raises
    ------
    ValueError
        When the image is smaller than one window.
    """
    if min(image.shape[-2:]) < WINDOW:
        raise ValueError(
            f"an image of {image.shape[-2]} × {image.shape[-1]} pixels is smaller than "
            f"one window of {WINDOW} × {WINDOW}"
        )
    windows = image.unfold(-2, WINDOW, WINDOW // 2).unfold(-2, WINDOW, WINDOW // 2)
    count = windows.shape[-4] * windows.shape[-3]
    windows = windows - windows.mean((-2, -1), keepdim=True)
    spectra = torch.fft.rfft2(windows * _hann(image.dtype, image.device))
    power = (spectra.real**2 + spectra.imag**2).mean((-4, -3)) / WINDOW**2
    return power, max(1.0, count * _LOOKS_PER_WINDOW)


def windowed(power: torch.Tensor) -> torch.Tensor:
    """Return a power spectrum (..., W, W//2+1) as a Hann window shows it.

    A Hann window's own spectrum has amplitudes of -1/4, 1/2, -1/4 along each axis, so
    it mixes a frequency's power and its neighbours' as 1 : 4 : 1.
    """
    rows = (power.roll(1, -2) + power.roll(-1, -2)) / 6 + power * (2 / 3)
    # A real image has the same power at f and -f: beyond the first and the last column.
    beyond = rows.flip(-2).roll(1, -2)
    wide = torch.cat([beyond[..., 1:2], rows, beyond[..., -2:-1]], -1)
    return (wide[..., :-2] + wide[..., 2:]) / 6 + rows * (2 / 3)


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
    """

    def __init__(self, average_s: float) -> None:
        self.average_s = average_s
        self.reset()

    def reset(self) -> None:
        """Forget all frames."""
        self._sum: torch.Tensor | None = None
        self._odd: torch.Tensor | None = None
        self._weight = self._weight_squared = self._looks = 0.0
        self._time = 0.0

    @property
    def frames(self) -> float:
        """Effective number of frames in the average."""
        if not self._weight_squared:
            return 0.0
        return self._weight**2 / self._weight_squared

    @property
    def looks(self) -> float:
        """Effective number of windows a frame in the average."""
        return self._looks

    @property
    def value(self) -> torch.Tensor:
        """The average spectrum (W, W//2+1).

        Raises
        ------
        RuntimeError
            Before the first frame.
        """
        if self._sum is None:
            raise RuntimeError("no frame has been added to the spectrum yet")
        return self._sum / self._weight

    def add(self, image: torch.Tensor, time: float) -> bool:
        """Add one frame (H, W) taken at `time` seconds.

        Returns
        -------
        bool
            True when the average began anew with it.
        """
        spectrum, looks = welch(image.float())
        # Wherever the frame lies, what is made of so few numbers is made here.
        spectrum = spectrum.cpu()
        if not bool(torch.isfinite(spectrum).all()):
            # Finite pixels may overflow when squared; NaN would stay for good.
            return False
        if self._sum is None or self.average_s <= 0:
            self._begin(spectrum, looks, time)
            return self.average_s > 0
        elif self._departure(spectrum, looks) > _CHANGED:
            if self._odd is None:
                self._odd = spectrum
            else:
                self._begin(self._odd, looks, time)
                self._accumulate(spectrum, time)
                return True
        else:
            self._accumulate(spectrum, time)
        return False

    def _begin(self, spectrum: torch.Tensor, looks: float, time: float) -> None:
        self._sum, self._looks, self._odd = spectrum, looks, None
        self._weight, self._weight_squared, self._time = 1.0, 1.0, time

    def _accumulate(self, spectrum: torch.Tensor, time: float) -> None:
        assert self._sum is not None
        keep = math.exp(-max(0.0, time - self._time) / self.average_s)
        self._sum = keep * self._sum + spectrum
        self._weight = keep * self._weight + 1
        self._weight_squared = keep**2 * self._weight_squared + 1
        self._time, self._odd = time, None

    def _departure(self, spectrum: torch.Tensor, looks: float) -> float:
        """Return how far a spectrum is from the average, 1 when noise is all.

        The scatter of the logarithm of their ratio, brightness aside, over what the
        number of windows lets one expect.
        """
        ratio = torch.log(spectrum.clamp(min=1e-30) / self.value.clamp(min=1e-30))
        scatter = float((ratio - ratio.median()).square().mean().sqrt())
        return scatter / math.sqrt((1 + 1 / self.frames) / looks)


@dataclass(frozen=True)
class Reliable:
    """The part of a spectrum that rises above the noise.

    Parameters
    ----------
    log_signal
        (..., W, W//2+1) log(S_y - σ²), 0 where unreliable.
    weight
        One over its standard deviation, 0 where unreliable.
    floor
        (...) the noise's σ², in the image's units squared.
    """

    log_signal: torch.Tensor
    weight: torch.Tensor
    floor: torch.Tensor

    @property
    def bins(self) -> torch.Tensor:
        """(...) how many bins are reliable."""
        return (self.weight > 0).sum((-2, -1))


def has_corner(cutoff: float) -> bool:
    """Return whether a spectrum has frequencies beyond the OTF, which hold noise only.

    Below about 3 pixels for λ/(NA·px) it has none.
    """
    radius, _ = frequencies(torch.device("cpu"))
    return int((radius > 2 * cutoff * 1.04).sum()) >= 12


def reliable(
    spectrum: torch.Tensor,
    looks: float,
    frames: float,
    cutoff: float,
    noise_variance: float | None = None,
) -> Reliable:
    """Find the noise floor and what rises above it.

    Parameters
    ----------
    spectrum
        (..., W, W//2+1), from `welch`.
    looks, frames
        Independent windows a frame, and frames, in the average.
    cutoff
        Pupil radius NA·px/λ in cycles a pixel: the OTF ends at twice that, and what
        lies beyond is noise.
    noise_variance
        The camera's, where it is calibrated. Where the OTF leaves no corner free
        (`has_corner`) the noise is but bounded without it.
    """
    radius, _ = frequencies(spectrum.device)
    if noise_variance is not None:
        floor = spectrum.new_full(spectrum.shape[:-2], noise_variance)
    else:
        corner = radius > 2 * cutoff * 1.04
        if has_corner(cutoff):
            # The median of an average of n exponentials is (1 - 1/(9n))³ of its mean
            # (Wilson & Hilferty 1931).
            below = (1 - 1 / (9 * looks * frames)) ** 3
            floor = spectrum[..., corner].median(-1).values / below
        else:
            # Signal everywhere: the weakest frequencies bound the noise from above.
            floor = spectrum.flatten(-2).quantile(0.02, -1)
    # A noiseless spectrum still ends at the precision of its numbers.
    peak = spectrum.amax((-2, -1))
    floor = torch.maximum(floor, 1e-9 * peak)[..., None, None]
    signal = spectrum - floor
    usable = (
        (signal > 2 * floor / math.sqrt(frames))
        & (radius > 1.2 / WINDOW)
        & (radius < 2 * cutoff)
    )
    signal = torch.where(usable, signal, torch.ones_like(signal))
    spread = spectrum / signal / math.sqrt(looks * frames)
    weight = usable / torch.sqrt(spread**2 + _MODEL_ERROR**2)
    return Reliable(torch.log(signal) * usable, weight, floor[..., 0, 0])
