"""Which changes of a rig's blur raise an alert, and what an alarm triggers."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import field_validator, model_validator

from deepblur_live.settings import Section, setting

__all__ = ["LARGEST_WAVES", "Alerts", "Drift"]

LARGEST_WAVES = 0.5
"""Largest limit for Zernike modes, in waves rms: beyond it no image is left."""


class Drift(Section):
    """How large a change from the baseline is a warning, and how large an alarm."""

    warn: float = setting(
        0.036,
        "size of the change that raises a warning, in the unit of the family's metric: "
        "waves rms for Zernike modes, at most 0.5",
        gt=0,
        le=1e6,
    )
    alarm: float = setting(
        0.072,
        "size of the change that raises an alarm, in the unit of the family's metric: "
        "waves rms for Zernike modes, at most 0.5",
        gt=0,
        le=1e6,
    )
    warn_contrast: float = setting(
        0.03,
        "size of the change of the spectra that raises a warning: the rms change of "
        "the contrast of details, 0.03 is 3 %",
        unit="Np",
        gt=0,
        le=10,
    )
    alarm_contrast: float = setting(
        0.08,
        "size of the change of the spectra that raises an alarm, likewise",
        unit="Np",
        gt=0,
        le=10,
    )
    reference: Literal["session", "calibration"] = setting(
        "session",
        "what the coefficients are compared with: session, the session's own first "
        "points; or calibration, the state in model.calibration, without defocus and "
        "spherical",
    )
    batch_s: float = setting(
        30.0,
        "time averaged into one control-chart point: at least six times "
        "model.average_s",
        unit="s",
        ge=1,
        le=3600,
    )
    baseline_points: int = setting(
        20, "number of control-chart points in the baseline", ge=4, le=10_000
    )
    false_alarm_hours: float = setting(
        160.0,
        "mean time between false signals of the control charts: 160 h is one in 20 "
        "sessions of 8 h",
        unit="h",
        ge=0.1,
        le=10_000,
    )
    cooldown_s: float = setting(
        300.0,
        "shortest time between two notifications of the same level",
        unit="s",
        ge=0,
        le=86_400,
    )

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.warn >= self.alarm:
            hint = ""
            if self.warn > LARGEST_WAVES:
                hint = " (given in nanometres? then divide by the wavelength)"
            elif "alarm" not in self.model_fields_set:
                hint = " (the default: give both)"
            raise ValueError(
                f"warn {self.warn:g} must be below alarm {self.alarm:g}{hint}"
            )
        # Batches may be lengthened eightfold, and limits need an average run length of
        # ten.
        if self.false_alarm_hours * 3600 < 80 * self.batch_s:
            raise ValueError(
                f"false_alarm_hours {self.false_alarm_hours:g} must be at least 80 "
                f"batches of {self.batch_s:g} s: {self.batch_s / 45:.3g} hours"
            )
        return self


class Alerts(Section):
    """What is done at an alarm, in addition to showing it."""

    on_alarm: tuple[str, ...] = setting(
        (),
        'list of "log", "jsonl:PATH", "webhook:URL", "command:PROGRAM ARGUMENTS", '
        '"python:module:function", "mda-pause", "mda-recalibrate:module:function"',
    )

    @field_validator("on_alarm", mode="before")
    @classmethod
    def _check_texts(cls, value: Any) -> Any:
        if isinstance(value, list | tuple) and all(type(v) is str for v in value):
            return tuple(value)
        raise ValueError(
            'must be a list of strings, such as ["log", "webhook:https://…"]'
        )
