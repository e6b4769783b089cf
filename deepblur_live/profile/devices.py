"""The devices of a rig: its camera and its focus drive."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from deepblur_live.settings import Section, setting

__all__ = ["Camera", "Stage"]


class Camera(Section):
    """The camera's calibration; leave a value out to have it estimated."""

    offset_adu: float | None = setting(
        None,
        "mean grey value of a dark frame",
        unit="ADU",
        example=100.0,
        ge=0,
        le=65535,
    )
    gain_e_per_adu: float | None = setting(
        None,
        "gain from the data sheet",
        unit="electrons/ADU",
        example=0.46,
        gt=0,
        le=1000,
    )
    read_noise_e: float | None = setting(
        None,
        "rms read noise, from the data sheet",
        unit="electrons",
        example=1.6,
        ge=0,
        le=1000,
    )

    sensor_rows: int | None = setting(
        None,
        "rows of the whole sensor, unbinned: for a field, where frames are regions of "
        "interest whose sensor the camera does not report",
        unit="pixels",
        example=2048,
        ge=16,
        le=65_536,
    )
    sensor_columns: int | None = setting(
        None,
        "columns of the whole sensor, likewise",
        unit="pixels",
        example=2048,
        ge=16,
        le=65_536,
    )

    @property
    def sensor(self) -> tuple[int, int] | None:
        """Rows and columns of the whole sensor; None if left out."""
        if self.sensor_rows is None or self.sensor_columns is None:
            return None
        return self.sensor_rows, self.sensor_columns

    @model_validator(mode="after")
    def _check_sensor(self) -> Self:
        if (self.sensor_rows is None) != (self.sensor_columns is None):
            raise ValueError(
                "sensor_rows and sensor_columns belong together: give both, or leave "
                "both out"
            )
        return self

    @model_validator(mode="after")
    def _check_gain(self) -> Self:
        if self.read_noise_e is not None and self.gain_e_per_adu is None:
            raise ValueError(
                "read_noise_e is in electrons and has no meaning without "
                "gain_e_per_adu: give both, or leave both out"
            )
        return self


class Stage(Section):
    """The focus drive, for focus sweeps."""

    deeper: Literal["larger", "smaller"] = setting(
        "larger",
        "whether larger or smaller positions focus deeper into the specimen: compare "
        "the positions of the coverslip and of a cell on it; gives even modes their "
        "sign",
    )
