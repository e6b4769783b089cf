"""The command demo: a simulated microscope, and the truth to compare with."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from deepblur_live.acquisition.bead_slide import bead_slide
from deepblur_live.acquisition.simulated import simulated_core
from deepblur_live.acquisition.simulated_sample import SimulatedSample
from deepblur_live.acquisition.truth import read_truth
from deepblur_live.blur import family_from_profile
from deepblur_live.blur.field_basis import FieldView
from deepblur_live.blur.fixed_psf import FixedPsf
from deepblur_live.blur.zernike_field import ZernikeField
from deepblur_live.calibration.rig import rig_family
from deepblur_live.cli.alarms import alarm_sinks
from deepblur_live.cli.console import say
from deepblur_live.cli.console_session import (
    check_files,
    prepare_window,
    running_session,
)
from deepblur_live.cli.headless import watch_live
from deepblur_live.profile import Profile, check_profile

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily
    from deepblur_live.cli.console_session import Options

__all__ = ["demo_profile", "run_demo", "simulated_sample"]

# Within two minutes in all, on a slow machine too (docs/decisions/0082).
_DEMO_S = 75.0
_DEMO_WHOLE_S = 100.0
_DEMO_LEAST_S = 30.0
_STARTED = time.monotonic()

# Exposure of the simulated camera, and its frame where the blur varies: computing one
# takes up to 0.2 s of a core there, deblurring it 1.5 s.
_UNIFORM_MS, _FIELD_MS = 50.0, 400.0
_FIELD_SHAPE = (768, 768)
# Half of the frame's side.
_LARGEST_PSF = 256

# Fewer and shorter points than a real microscope needs (docs/decisions/0082).
_DEMO_DRIFT = {
    "batch_s": 4.0,
    "baseline_points": 4,
    "false_alarm_hours": 2.0,
    "cooldown_s": 30.0,
}

_BEAD_NM = 200.0
_BEADS_TEXT = (
    "A simulated microscope with a slide of equal beads; its optics do not drift. To "
    "measure its blur, choose Session > Calibrate with beads … in the window."
)


def run_demo(options: Options, *, field: bool = False, beads: bool = False) -> None:
    """Run a simulated microscope, and compare the results with the truth.

    Without a window it ends within two minutes, including the start. With `field` the
    blur varies over the field; with `beads` there is a bead slide, and nothing drifts.

    Raises
    ------
    ProfileError
        The profile's blur cannot vary over the field.
    ValueError
        The blur varies over the field, and the specimen is a bead slide.
    """
    check_files(options)
    rig = options.profile or Profile()
    if field:
        rig = _with_field(rig)
    field = rig.model.blur == "field"
    if beads and field:
        raise ValueError(
            "--beads simulates one blur over the whole frame: leave out --beads, or "
            "--field and model.blur"
        )
    sample = _simulated_slide(rig) if beads else simulated_sample(rig)
    profile = demo_profile(sample, rig.model.blur) if options.profile is None else rig
    if beads and options.profile is None:
        model = profile.model.model_copy(update={"bead_diameter_nm": _BEAD_NM})
        profile = profile.model_copy(update={"model": model})

    def truth_image(metadata: Mapping[str, Any]) -> NDArray[np.float32] | None:
        truth = read_truth(metadata)
        return None if truth is None else sample.truth_image(truth.time)

    say(
        options.console,
        _BEADS_TEXT
        if beads
        else "A simulated microscope: a real micrograph, blurred by aberrations that "
        f"{'vary over the field, ' if field else ''}drift and then jump, with camera "
        "noise. The blur is identified from the frames alone, removed, and compared "
        "with the truth.",
    )
    sinks, _ = alarm_sinks(options.alarms)
    prepare_window(options)
    core = simulated_core(sample, exposure_ms=_FIELD_MS if field else _UNIFORM_MS)
    with running_session(
        options, profile, core=core, truth_image=truth_image, sinks=sinks
    ) as session:
        if options.window:
            from deepblur_live.cli.windowed import show_live

            show_live(session, start=True, seconds=options.seconds)
        else:
            left = _DEMO_WHOLE_S - (time.monotonic() - _STARTED)
            default = min(_DEMO_S, max(_DEMO_LEAST_S, left))
            watch_live(session, options.console, options.seconds or default)


def demo_profile(sample: SimulatedSample, blur: str = "uniform") -> Profile:
    """Return a profile with the calibration of the simulated camera."""
    noise = sample.noise
    camera = {
        "offset_adu": noise.offset_adu,
        "gain_e_per_adu": noise.gain_e_per_adu,
        "read_noise_e": noise.read_noise_e,
    }
    content = {
        "name": "simulated microscope",
        "optics": Profile().optics.model_dump()
        | {"pixel_size_nm": sample.pixel_size_nm},
        "camera": camera,
        "model": {"blur": blur},
        "drift": _DEMO_DRIFT,
    }
    return check_profile(content, "the simulated camera")


def simulated_sample(rig: Profile) -> SimulatedSample:
    """Return the simulated camera's sample, blurred by a rig's family of blurs.

    With a fixed PSF, which does not change, the blurs are those of its optics.
    """
    pixel_size_nm = rig.optics.pixel_size_nm
    family = _simulated_family(rig)
    if not isinstance(family, ZernikeField):
        return SimulatedSample(family=family, pixel_size_nm=pixel_size_nm)
    return SimulatedSample(
        family=replace(family, view=FieldView(*_FIELD_SHAPE)),
        shape=_FIELD_SHAPE,
        pixel_size_nm=pixel_size_nm,
    )


def _simulated_family(rig: Profile) -> BlurFamily:
    """Return a rig's blurs, or those of its optics where they are fixed.

    Raises
    ------
    ValueError
        The PSF is too large for the simulated camera's frame.
    """
    family = rig_family(rig) if rig.model.psf is None else family_from_profile(rig)
    if isinstance(family, FixedPsf):
        family = family_from_profile(rig)
    if family.window > _LARGEST_PSF:
        optics = rig.optics
        raise ValueError(
            f"--profile: with NA {optics.numerical_aperture:g} and pixels of "
            f"{optics.pixel_size_nm:g} nm the PSF is {family.window} pixels wide, too "
            "large for the simulated camera: give a larger optics.pixel_size_nm"
        )
    return family


def _simulated_slide(rig: Profile) -> SimulatedSample:
    """Return a simulated bead slide, blurred by a rig's family of blurs."""
    return bead_slide(
        _simulated_family(rig),
        rig.model.bead_diameter_nm or _BEAD_NM,
        pixel_size_nm=rig.optics.pixel_size_nm,
    )


def _with_field(rig: Profile) -> Profile:
    """Return a profile with a blur that varies over the field."""
    content = rig.model_dump(exclude_unset=True)
    content.setdefault("model", {})["blur"] = "field"
    return check_profile(content, "--field")
