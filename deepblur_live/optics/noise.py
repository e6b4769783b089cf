"""The camera's noise: how it arises, and its size at each pixel of a frame."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from deepblur_live.optics.means import box_mean

__all__ = ["CameraNoise", "NoiseModel", "local_light"]


@dataclass(frozen=True)
class CameraNoise:
    """A camera with shot noise, read noise, gain and offset.

    Parameters
    ----------
    offset_adu
        Grey value without light.
    gain_e_per_adu
        Electrons per grey value.
    read_noise_e
        Rms read noise in electrons.
    """

    offset_adu: float = 100.0
    gain_e_per_adu: float = 0.5
    read_noise_e: float = 1.5

    def __post_init__(self) -> None:
        """Check the parameters."""
        if self.gain_e_per_adu <= 0:
            raise ValueError(f"gain_e_per_adu {self.gain_e_per_adu}: must be positive")
        if self.read_noise_e < 0:
            raise ValueError(f"read_noise_e {self.read_noise_e}: must not be negative")

    def mean(self, electrons: torch.Tensor) -> torch.Tensor:
        """Return the expected grey value of a mean number of electrons."""
        return self.offset_adu + electrons / self.gain_e_per_adu

    def variance(self, electrons: torch.Tensor) -> torch.Tensor:
        """Return the variance in grey values squared: (e + read²) / gain²."""
        return (electrons + self.read_noise_e**2) / self.gain_e_per_adu**2

    def sample(
        self, electrons: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Draw grey values (floating, not clipped) for mean electrons ≥ 0."""
        shot = torch.poisson(electrons, generator=generator)
        read = torch.randn(
            electrons.shape,
            dtype=electrons.dtype,
            device=electrons.device,
            generator=generator,
        )
        return self.mean(shot + self.read_noise_e * read)


def local_light(image: torch.Tensor) -> torch.Tensor:
    """Return images (..., H, W), each pixel a weighted mean of the 5 × 5 around it.

    The light that a pixel's noise belongs to: without the mean, a pixel that is dark by
    chance would also state too little noise.
    """
    return box_mean(box_mean(image, 3), 3)


@dataclass(frozen=True)
class NoiseModel:
    """Noise whose variance is a line in the light: slope · light + intercept.

    Shot noise is the slope, read noise the intercept. White noise has the slope 0.

    Parameters
    ----------
    slope, intercept
        (B,) each, for images in the units in which `map` is asked.
    least
        (B,) least variance: rounding to grey values that are s apart has s²/12.
    """

    slope: torch.Tensor
    intercept: torch.Tensor
    least: torch.Tensor

    @classmethod
    def white(cls, sigma: float) -> NoiseModel:
        """Return noise of the same standard deviation everywhere, for one image."""
        nothing = torch.zeros(1)
        return cls(nothing, torch.full((1,), sigma**2), nothing)

    def to(self, device: torch.device) -> NoiseModel:
        """Return the model on a device."""
        values = (self.slope, self.intercept, self.least)
        if device.type == "cuda" and self.slope.device.type == "cpu":
            # One copy from page-locked memory: any other would wait for the card.
            together = torch.stack(values).pin_memory()
            return NoiseModel(*together.to(device, non_blocking=True))
        return NoiseModel(*(value.to(device) for value in values))

    def times(self, factor: float) -> NoiseModel:
        """Return the model with `factor` times the variance."""
        values = (self.slope, self.intercept, self.least)
        return NoiseModel(*(factor * value for value in values))

    def scaled(self, low: torch.Tensor, span: torch.Tensor) -> NoiseModel:
        """Return the model for images (image - low) / span."""
        return NoiseModel(
            self.slope / span,
            (self.intercept + self.slope * low) / span**2,
            self.least / span**2,
        )

    def map(self, image: torch.Tensor) -> torch.Tensor:
        """Return the standard deviation of the noise at each pixel of (B, H, W)."""
        slope, intercept, least = (
            values[:, None, None] for values in (self.slope, self.intercept, self.least)
        )
        variance = slope * local_light(image) + intercept
        return torch.maximum(variance, least).sqrt()
