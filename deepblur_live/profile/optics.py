"""The optics of a rig: its objective, wavelengths and modes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import field_validator, model_validator

from deepblur_live.settings import Section, setting

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MODALITIES", "NOLL_PRESETS", "Channel", "Optics"]

NOLL_PRESETS: Mapping[str, tuple[int, ...]] = {
    "paper": tuple(range(4, 11)),
    "spherical": tuple(range(4, 12)),
}
"""Named sets of Zernike modes: the paper's 4-10, and those with spherical (11)."""

MODALITIES = ("widefield", "light-sheet")
"""Microscopes whose PSF is the detection's alone."""

_WIDEST_BLUR_NM = 1000
# Finest sampling λ/(NA·px); the shipped model reads up to 6 pixels.
_MOST_PIXELS = 64


class Optics(Section):
    """The microscope: objective, emission, sampling, modes followed."""

    numerical_aperture: float = setting(
        1.41, "NA of the objective, as engraved on it", ge=0.05, le=1.7
    )
    wavelength_nm: float = setting(
        540.0, "emission wavelength, not excitation", unit="nm", ge=300, le=1200
    )
    refractive_index: float = setting(
        1.51,
        "index of the immersion: air 1.0, water 1.33, glycerol 1.47",
        ge=1.0,
        le=1.8,
    )
    pixel_size_nm: float = setting(
        100.0, "camera pixel divided by the magnification", unit="nm", ge=10, le=2000
    )
    noll: tuple[int, ...] = setting(
        NOLL_PRESETS["spherical"],
        'Zernike modes to identify, as Noll indices 4 to 37; or "spherical" (4-11) or '
        '"paper" (4-10)',
    )
    defocus_range_um: float = setting(
        1.0,
        "largest defocus that is searched for, in either direction",
        unit="µm",
        gt=0,
        le=3,
    )
    defocus: Literal["exact", "paraxial"] = setting(
        "exact", "wavefront of a shift of the focus: exact, or Noll 4 alone"
    )
    apodisation: float = setting(
        0.5,
        "amplitude over the pupil: 0 uniform, 1 aplanatic (1/√cos θ)",
        ge=0,
        le=1,
    )
    pixel_aperture: float = setting(
        0.7,
        "side of a pixel's sensitive area over the pixel pitch; 0 for points",
        ge=0,
        le=1,
    )
    bandwidth_nm: float = setting(
        0.0, "full width of the emission band; 0 for one wavelength", unit="nm", ge=0
    )
    extra_blur_nm: float | Literal["vectorial"] = setting(
        0.0,
        "standard deviation of a fixed Gaussian blur in addition to the wavefront "
        "(vibration, camera, objective), from 0 to 1000; measured with a bead slide; "
        '"vectorial": that of a perfect objective of high NA, with apodisation 1',
        unit="nm",
    )
    modality: str = setting(
        "widefield", 'how the specimen is lit: "widefield" or "light-sheet"'
    )

    @field_validator("noll", mode="before")
    @classmethod
    def _expand_preset(cls, value: Any) -> Any:
        if isinstance(value, str):
            if value not in NOLL_PRESETS:
                names = " or ".join(f'"{name}"' for name in NOLL_PRESETS)
                raise ValueError(f"is not a preset: give {names}, or a list of indices")
            return NOLL_PRESETS[value]
        if isinstance(value, list | tuple) and all(type(v) is int for v in value):
            return tuple(value)
        raise ValueError("must be a list of Noll indices, such as [4, 5, 6]")

    @field_validator("noll")
    @classmethod
    def _check_indices(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        right = sorted({index for index in value if 4 <= index <= 37})
        if not right:
            raise ValueError("lists no mode: give Noll indices from 4 to 37")
        if list(value) != right:
            raise ValueError(
                "must be Noll indices from 4 to 37, each once, in order (1 to 3 are "
                f"piston and tilts, which do not blur): {right}?"
            )
        return value

    @field_validator("extra_blur_nm", mode="before")
    @classmethod
    def _check_blur(cls, value: Any) -> Any:
        number = type(value) in (int, float) and 0 <= value <= _WIDEST_BLUR_NM
        if not number and value != "vectorial":
            # Python counts true as 1.
            true = ", and true is not a number" if value is True else ""
            raise ValueError(
                f'must be from 0 to {_WIDEST_BLUR_NM} nm, or "vectorial"{true}'
            )
        return value

    @field_validator("modality")
    @classmethod
    def _check_modality(cls, value: str) -> str:
        if value not in MODALITIES:
            known = " or ".join(f'"{name}"' for name in MODALITIES)
            raise ValueError(
                f"is not supported: give {known}. A confocal, a spinning disk, a "
                "two-photon microscope or a SIM reconstruction has a different PSF"
            )
        return value

    @model_validator(mode="after")
    def _check_bandwidth(self) -> Self:
        if self.bandwidth_nm >= self.wavelength_nm:
            raise ValueError(
                f"bandwidth_nm {self.bandwidth_nm:g} must be below wavelength_nm "
                f"{self.wavelength_nm:g}"
            )
        return self

    @model_validator(mode="after")
    def _check_sampling(self) -> Self:
        # Nyquist: coarser pixels alias fine structure, which no fit can undo.
        coarsest = self.wavelength_nm / (2 * self.numerical_aperture)
        if self.pixel_size_nm >= coarsest:
            raise ValueError(
                f"pixel_size_nm {self.pixel_size_nm:g} is too coarse to show the blur: "
                f"with numerical_aperture {self.numerical_aperture:g} and "
                f"wavelength_nm {self.wavelength_nm:g} it must be below {coarsest:.0f} "
                "(camera pixel over magnification)"
            )
        # Grids grow with the square of the blur's width in pixels.
        finest = 2 * coarsest / _MOST_PIXELS
        if self.pixel_size_nm < finest:
            raise ValueError(
                f"pixel_size_nm {self.pixel_size_nm:g} is much finer than the blur: "
                f"with numerical_aperture {self.numerical_aperture:g} and "
                f"wavelength_nm {self.wavelength_nm:g} it must be at least "
                f"{math.ceil(finest)} (camera pixel over magnification)"
            )
        return self

    @model_validator(mode="after")
    def _check_aperture(self) -> Self:
        if self.numerical_aperture > self.refractive_index:
            raise ValueError(
                f"numerical_aperture {self.numerical_aperture:g} cannot exceed "
                f"refractive_index {self.refractive_index:g}: correct the aperture, or "
                "give the immersion's index (air 1.0, water 1.33, glycerol 1.47, "
                "oil 1.515)"
            )
        return self


class Channel(Section):
    """A channel of MDAs: what differs from [optics]."""

    emission_nm: float = setting(
        540.0,
        "emission wavelength of the channel, in place of optics.wavelength_nm",
        unit="nm",
        ge=300,
        le=1200,
    )
