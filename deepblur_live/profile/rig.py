"""The whole profile: its sections, and the checks that concern several of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import ValidationError, model_validator

from deepblur_live.profile.devices import Camera, Stage
from deepblur_live.profile.display import Display
from deepblur_live.profile.drift import LARGEST_WAVES, Alerts, Drift
from deepblur_live.profile.model import Model
from deepblur_live.profile.optics import Channel, Optics
from deepblur_live.settings import Section, as_toml, explain, setting

__all__ = ["Profile", "ProfileError", "check_profile"]


class ProfileError(ValueError):
    """A profile that cannot be used; the text names file, key and remedy."""


class Profile(Section):
    """One rig."""

    name: str = setting("default", "name of the rig, as the session's log shows it")
    optics: Optics = Optics()
    channels: Mapping[str, Channel] = setting({}, "channels of MDAs, by their names")
    camera: Camera = Camera()
    stage: Stage = Stage()
    model: Model = Model()
    drift: Drift = Drift()
    alerts: Alerts = Alerts()
    display: Display = Display()

    @property
    def uniform(self) -> Profile:
        """The same rig with one PSF for the whole frame."""
        model = self.model.model_copy(update={"blur": "uniform"})
        return self.model_copy(update={"model": model})

    def at_wavelength(self, wavelength_nm: float) -> Profile:
        """Return the same rig with another emission wavelength.

        Raises
        ------
        ProfileError
            The optics do not allow it; the text says what would be right.
        """
        if wavelength_nm == self.optics.wavelength_nm:
            return self
        # Optics that the profile does not state remain unstated.
        content = self.optics.model_dump(exclude_unset=True)
        content["wavelength_nm"] = wavelength_nm
        checked = check_profile({"optics": content}, f"at {wavelength_nm:g} nm")
        return self.model_copy(update={"optics": checked.optics})

    def wavelength_of(self, channel: str) -> float:
        """Return the emission wavelength of a channel, in nm."""
        own = self.channels.get(channel)
        return self.optics.wavelength_nm if own is None else own.emission_nm

    @model_validator(mode="after")
    def _check_channels(self) -> Self:
        measured = next(
            (key for key in ("calibration", "psf") if getattr(self.model, key)), None
        )
        for name, channel in self.channels.items():
            if measured and channel.emission_nm != self.optics.wavelength_nm:
                raise ValueError(
                    f"channels.{name}: model.{measured} was measured at one "
                    f"wavelength, {self.optics.wavelength_nm:g} nm, but the channel "
                    f"has {channel.emission_nm:g} nm: use a separate profile for it"
                )
            try:
                self.at_wavelength(channel.emission_nm)
            except ProfileError as error:
                raise ValueError(f"channels.{name}: {error}") from error
        return self

    @model_validator(mode="after")
    def _check_field(self) -> Self:
        if self.model.blur == "uniform":
            return self
        if self.model.family != "zernike":
            raise ValueError(
                f'model.blur = "field" needs the family "zernike", not '
                f'{self.model.family!r}: set blur to "uniform"'
            )
        if self.model.bead_diameter_nm is not None:
            raise ValueError(
                'model.blur = "field" cannot be combined with bead_diameter_nm: the '
                "beads of a frame are averaged to one PSF. Leave one of them out"
            )
        if 4 not in self.optics.noll and self.model.calibration is None:
            raise ValueError(
                'model.blur = "field" needs defocus among optics.noll: a tilted '
                "specimen or a curved field is defocus that varies over the frame"
            )
        return self

    @model_validator(mode="after")
    def _check_reference(self) -> Self:
        if self.drift.reference == "calibration" and self.model.calibration is None:
            raise ValueError(
                'drift.reference = "calibration" needs a calibration: give '
                "model.calibration"
            )
        if self.drift.reference == "calibration" and self._in_psf_space:
            raise ValueError(
                'drift.reference = "calibration" compares modes: leave it out, or set '
                'model.calibration_basis to "modes"'
            )
        return self

    @property
    def _in_psf_space(self) -> bool:
        model = self.model
        return model.calibration is not None and model.calibration_basis == "psf"

    @model_validator(mode="after")
    def _check_unit_of_limits(self) -> Self:
        if self._in_psf_space and self.model.blur == "field":
            # Nothing is identified, and no limit is used.
            return self
        zernike = self.model.family == "zernike" and not self._in_psf_space
        if not zernike and not {"warn", "alarm"} <= self.drift.model_fields_set:
            of = "eigen-PSFs" if self._in_psf_space else repr(self.model.family)
            raise ValueError(
                f"drift: give warn and alarm in the unit of {of}; "
                "their defaults are in waves rms, for Zernike modes"
            )
        if zernike and self.drift.alarm > LARGEST_WAVES:
            raise ValueError(
                f"drift.alarm = {self.drift.alarm:g}: must be at most "
                f"{LARGEST_WAVES} waves rms for Zernike modes (given in nanometres? "
                "then divide by the wavelength)"
            )
        return self

    def to_toml(self) -> str:
        """Return the profile as TOML, each key with its meaning, unit and range."""
        return as_toml(
            self, "One rig. Every key may be left out; it then has its default value."
        )


def check_profile(content: Mapping[str, Any], origin: str) -> Profile:
    """Return the profile with these settings, the defaults for what is left out.

    Parameters
    ----------
    content
        Settings by section, as TOML gives them or `Profile.model_dump`.
    origin
        Where they come from: each sentence of the error begins with it.

    Raises
    ------
    ProfileError
        A key is unknown or a value out of range; the text says what would be right.
    """
    try:
        return Profile.model_validate(content)
    except ValidationError as error:
        sentences = explain(error, Profile, content)
        raise ProfileError(
            "\n".join(f"{origin}: {line}" for line in sentences)
        ) from error
