"""The camera: photons to grey values, Poisson and Gaussian."""

from __future__ import annotations

from dataclasses import dataclass

import torch

__all__ = ["CameraNoise"]


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
        """Refuse impossible values."""
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
