"""Calibrate a microscope from a z-stack of a bead slide."""

import numpy as np
import tifffile

import deepblur_live as dbl
from deepblur_live.acquisition.bead_slide import bead_slide
from deepblur_live.blur import family_from_profile
from deepblur_live.profile import Optics

FILE = "beads.ome.tif"
OPTICS = Optics(numerical_aperture=1.41, wavelength_nm=540, refractive_index=1.515)
PROFILE = dbl.Profile(optics=OPTICS)


def record() -> None:
    """Write a simulated stack; leave this out if you have one."""
    slide = bead_slide(family_from_profile(PROFILE), beads=9, shape=(104, 104), seed=17)
    stack = [slide.frame(0.0, z_um=z).pixels for z in np.linspace(-0.75, 0.75, 7)]
    sizes = {"PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1, "PhysicalSizeZ": 0.25}
    metadata = {"axes": "ZYX", **sizes}
    tifffile.imwrite(FILE, np.stack(stack), ome=True, metadata=metadata)


if __name__ == "__main__":
    record()
    profile = PROFILE  # or "rig.toml"
    made = dbl.calibrate_files(
        [FILE],  # one stack a state of the microscope
        profile,
        bead_nm=200,
        output="rig.calib",
        progress=lambda text, share: print(f"{text} ({share:.0%})"),
        on_message=print,
    )
    state = made.calibrations[0]
    wavelength_nm = state.model.optics.wavelength_nm
    for noll, waves in zip(state.model.noll, state.trend.terms[0], strict=True):
        print(f"Noll {noll}: {waves * wavelength_nm:+.0f} nm in the field's middle")
    print(f"for model.calibration: {made.path}")
