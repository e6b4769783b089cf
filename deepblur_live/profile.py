"""One rig: optics, camera, model, drift and display, read from a strict TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import ValidationError, field_validator, model_validator

from deepblur_live.settings import Section, as_toml, explain, setting

__all__ = [
    "NOLL_PRESETS",
    "Alerts",
    "Camera",
    "Channel",
    "Display",
    "Drift",
    "Model",
    "Optics",
    "Profile",
    "ProfileError",
    "Stage",
    "check_profile",
    "load_profile",
    "write_profile",
]

NOLL_PRESETS: Mapping[str, tuple[int, ...]] = {
    "paper": tuple(range(4, 11)),
    "spherical": tuple(range(4, 12)),
}
"""Named sets of Zernike modes: the paper's 4-10, and those with spherical (11)."""


_WIDEST_BLUR_NM = 1000

MODALITIES = ("widefield", "light-sheet")
"""Microscopes whose PSF is the detection's alone."""

# Beyond half a wave rms no image is left.
_LARGEST_WAVES = 0.5


class ProfileError(ValueError):
    """A profile that cannot be used; the text names file, key and remedy."""


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
        1.0, "largest defocus that is looked for, each way", unit="µm", gt=0, le=3
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
        "standard deviation of a fixed Gaussian blur besides the wavefront (vibration, "
        'camera, objective), from 0 to 1000; a bead slide measures it; "vectorial": '
        "that of a perfect objective of high NA, to be used with apodisation 1",
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
                raise ValueError(f"is no preset: give {names}, or a list of indices")
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
                f"piston and tilts, which blur nothing): {right}?"
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
                f"is not supported: give {known}. The PSF of a confocal, a spinning "
                "disk, a two-photon microscope or a SIM reconstruction is another one"
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
                "read_noise_e is in electrons and means nothing without "
                "gain_e_per_adu: give both, or leave both out"
            )
        return self


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
        "deblurring network: quality, or the quicker live; auto: live on a CPU, "
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
        "folder that `deepblur-live calibrate` made from beads, relative to this file: "
        "its modes, Gaussian and prior are used",
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
                    f'{key} = "{value}" does not go with the family {self.family!r}: '
                    "leave one of the two out"
                )
            if self.blur == "field" and key == "psf":
                raise ValueError(
                    f'psf = "{value}" is one blur for the whole frame: leave it '
                    'out, or set blur to "uniform"'
                )
            if self.blur == "field" and self.calibration_set == "hull":
                raise ValueError(
                    'calibration_set = "hull" is that of means over the frame: leave '
                    'it out, or set blur to "uniform"'
                )
        if self.calibration is not None and self.psf is not None:
            raise ValueError(
                "calibration and psf are two blurs: leave one of the two out"
            )
        for key in ("calibration_basis", "calibration_set"):
            value = getattr(self, key)
            if (
                self.calibration is None
                and value != type(self).model_fields[key].default
            ):
                raise ValueError(
                    f'{key} = "{value}" is said of a calibration, and there is none: '
                    "give calibration, or leave it out"
                )
        if self.calibration_basis == "psf" and self.calibration_set != "ellipsoid":
            raise ValueError(
                f'calibration_set = "{self.calibration_set}" is that of states in '
                "modes: leave it out, or "
                'set calibration_basis to "modes"'
            )
        if self.psf is not None and self.bead_diameter_nm is not None:
            raise ValueError(
                "bead_diameter_nm is for the identification, and with psf nothing is "
                "identified: leave one of the two out"
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
            if self.warn > _LARGEST_WAVES:
                hint = " (given in nanometres? then divide by the wavelength)"
            elif "alarm" not in self.model_fields_set:
                hint = " (the default: give both)"
            raise ValueError(
                f"warn {self.warn:g} must be below alarm {self.alarm:g}{hint}"
            )
        # Batches are lengthened up to eightfold; limits exist from an ARL of ten on.
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


class Display(Section):
    """How the window shows it."""

    refresh_hz: float = setting(
        30.0, "refresh rate of the window", unit="Hz", gt=0, le=60
    )
    units: Literal["nm", "waves"] = setting("nm", "unit of the drift plot, rms")
    clip_percent: float = setting(
        0.1,
        "share of pixels that autocontrast ignores at each end",
        unit="%",
        ge=0,
        lt=50,
    )


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
        # What nobody has stated stays so.
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
                    f"wavelength, {self.optics.wavelength_nm:g} nm, and the channel "
                    f"has {channel.emission_nm:g} nm: give it a profile of its own"
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
                f'model.blur = "field" needs the family "zernike"; the blurs of '
                f'{self.model.family!r} are its own: leave blur at "uniform"'
            )
        if self.model.bead_diameter_nm is not None:
            raise ValueError(
                'model.blur = "field" does not go with bead_diameter_nm: the beads of '
                "a frame are averaged to one PSF. Leave one of the two out"
            )
        if 4 not in self.optics.noll and self.model.calibration is None:
            raise ValueError(
                'model.blur = "field" needs defocus among optics.noll: a tilted '
                "specimen, or a curved field, is defocus that varies"
            )
        return self

    @model_validator(mode="after")
    def _check_reference(self) -> Self:
        if self.drift.reference == "calibration" and self.model.calibration is None:
            raise ValueError(
                'drift.reference = "calibration" needs one: give model.calibration'
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
        if zernike and self.drift.alarm > _LARGEST_WAVES:
            raise ValueError(
                f"drift.alarm = {self.drift.alarm:g}: must be at most "
                f"{_LARGEST_WAVES} waves rms for Zernike modes (given in nanometres? "
                "then divide by the wavelength)"
            )
        return self

    def to_toml(self) -> str:
        """Return the profile as TOML, each key with its meaning, unit and range."""
        return as_toml(
            self, "One rig. Every key may be left out; it then has its default value."
        )


def load_profile(path: Path | str) -> Profile:
    """Read a profile.

    Raises
    ------
    ProfileError
        The file cannot be read, is not TOML, holds an unknown key or a value out of
        range; the text names the file, the key, and what would be right.
    """
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ProfileError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ProfileError(f"{path}: not a text file in UTF-8: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(f"{path}: not a TOML file: {error}") from error
    _place_files(content, path.absolute().parent)
    return check_profile(content, str(path))


def _place_files(content: dict[str, Any], folder: Path) -> None:
    """Make the paths of a profile's files absolute; they are relative to its folder."""
    model = content.get("model")
    for key in ("calibration", "psf"):
        if isinstance(model, dict) and model.get(key) and type(model[key]) is str:
            model[key] = str(folder / model[key])


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


def write_profile(profile: Profile, path: Path | str) -> None:
    """Write a profile that `load_profile` reads back, with a comment for each key."""
    Path(path).write_text(profile.to_toml(), encoding="utf-8", newline="\n")
