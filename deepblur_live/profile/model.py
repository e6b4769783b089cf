"""The networks of a rig, what blurs they look for, and how they are run."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import field_validator, model_validator

from deepblur_live.settings import Section, setting

__all__ = ["Model"]


class Model(Section):
    """Which networks, and how they are run."""

    name: str = setting("zernike7", "name of an installed model, or its folder")
    family: str = setting(
        "zernike", 'family of blurs: "zernike", or your own as "package.module:Class"'
    )
    blur: Literal["uniform", "field"] = setting(
        "uniform",
        'whether the blur is the same all over the frame: "uniform", or "field" where '
        "it varies: known from calibration, or identified in frames of at least 768 "
        "pixels a side",
    )
    device: Literal["auto", "cpu", "cuda"] = setting(
        "auto", "device of the networks; auto: a CUDA card if there is one"
    )
    deblurring: Literal["auto", "live", "quality"] = setting(
        "auto",
        "deblurring network: quality, or the faster live; auto: live on a CPU, "
        "quality on a card",
    )
    average_frames: int = setting(
        1,
        "largest number of frames of a still specimen that are averaged before "
        "deblurring; 1 for none",
        ge=1,
        le=100,
    )
    threads: int | None = setting(
        None,
        "number of CPU threads of torch; left out: one less than cores",
        example=3,
        ge=1,
        le=64,
    )
    identify_every_s: float = setting(
        1.0, "shortest time between two identifications", unit="s", ge=0, le=60
    )
    average_s: float = setting(
        5.0,
        "time constant of the running average of spectra",
        unit="s",
        ge=0,
        le=600,
    )
    calibration: str | None = setting(
        None,
        "folder that `deepblur-live calibrate` wrote from beads, relative to this "
        "file: its modes, Gaussian and prior are used",
        example="rig.calib",
    )
    calibration_basis: Literal["modes", "psf"] = setting(
        "modes",
        "what the blurs of the calibration consist of: Zernike modes of the pupil, or "
        "the mean and the principal components of the beads' images, for instruments "
        "that no pupil describes",
    )
    calibration_set: Literal["ellipsoid", "box", "hull"] = setting(
        "ellipsoid",
        "blurs that the calibration allows: the ellipsoid of the states' covariance, "
        "the box around it, or their convex hull, for many states",
    )
    psf: str | None = setting(
        None,
        "OME-TIFF of a measured PSF, relative to this file: frames are deblurred with "
        "it, nothing is identified and no drift is followed",
        example="psf.ome.tif",
    )
    bead_diameter_nm: float | None = setting(
        None,
        "diameter of the equal beads on a bead slide; left out: any specimen",
        unit="nm",
        example=200.0,
        ge=20,
        le=20_000,
    )

    @field_validator("calibration", "psf")
    @classmethod
    def _check_path(cls, value: str | None) -> str | None:
        if value == "":
            raise ValueError("is empty: give a path, or leave the key out")
        return value

    @model_validator(mode="after")
    def _check_measured(self) -> Self:
        for key in ("calibration", "psf"):
            value = getattr(self, key)
            if value is None:
                continue
            if self.family != "zernike":
                raise ValueError(
                    f'{key} = "{value}" cannot be combined with the family '
                    f"{self.family!r}: leave one of them out"
                )
            if self.blur == "field" and key == "psf":
                raise ValueError(
                    f'psf = "{value}" is one blur for the whole frame: leave it '
                    'out, or set blur to "uniform"'
                )
            if self.blur == "field" and self.calibration_set == "hull":
                raise ValueError(
                    'calibration_set = "hull" is made from means over the frame: leave '
                    'it out, or set blur to "uniform"'
                )
        if self.calibration is not None and self.psf is not None:
            raise ValueError(
                "calibration and psf both define the blur: leave one of them out"
            )
        for key in ("calibration_basis", "calibration_set"):
            value = getattr(self, key)
            if (
                self.calibration is None
                and value != type(self).model_fields[key].default
            ):
                raise ValueError(
                    f'{key} = "{value}" applies to a calibration, but none is given: '
                    f"give calibration, or leave {key} out"
                )
        if self.calibration_basis == "psf" and self.calibration_set != "ellipsoid":
            raise ValueError(
                f'calibration_set = "{self.calibration_set}" needs states in modes: '
                'leave it out, or set calibration_basis to "modes"'
            )
        if self.psf is not None and self.bead_diameter_nm is not None:
            raise ValueError(
                "bead_diameter_nm is used by the identification, which psf switches "
                "off: leave one of them out"
            )
        return self
