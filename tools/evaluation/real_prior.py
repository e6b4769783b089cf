"""What a real slide's calibration gives the identification of its held-out planes.

The slide is calibrated from every other plane; a plane that was left out is identified
as an independent frame, with the calibrated prior and with the wide one. The PSF that
is found is compared with the mean of the beads in that plane, which no model made.
So are frames of other specimens: micrographs that were blurred by this mean bead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.calibration import Source, calibrate_stack, save_calibration
from deepblur_live.calibration.folder import load_calibration
from deepblur_live.calibration.rig import calibrated_family
from deepblur_live.identification import BeadIdentifier, Identifier
from deepblur_live.identification.beads import sphere_transfer
from deepblur_live.identification.beads.registration import shifted
from deepblur_live.profile import Profile
from deepblur_live.runtime.calibration import scale
from deepblur_live.runtime.pack import load_pack
from evaluation.held_out import SIDE, held_out_pictures, scene
from evaluation.stacks import STACKS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily, Estimate
    from deepblur_live.calibration import Calibration

    Array = NDArray[np.float64]

__all__ = ["held_out_planes"]

# Of the plane in focus: those that are calibrated from, and those that are left out.
_USED, _LEFT_OUT = (-4, -2, 0, 2, 4), (-3, -1, 1, 3)
# Half of the side of the mean bead, pixels.
_HALF = 12


def held_out_planes(
    data: Path, folder: Path, pictures: int, sigmas: Sequence[float]
) -> list[list[str]]:
    """Return table rows: plane, fit, prior, error of the defocus, PSF, trusted.

    Parameters
    ----------
    data
        With the folder ``real`` and validation pictures.
    folder
        Where the calibration is written.
    pictures
        How many micrographs are blurred by each plane's mean bead; medians over them
        are returned.
    sigmas
        Standard deviations of their noise.
    """
    scenes = held_out_pictures(data, "validation")["micrographs"]
    scenes = scenes[:: max(1, len(scenes) // pictures)][:pictures]
    slide = STACKS["beads"]
    update = {"apodisation": 1.0, "pixel_aperture": 1.0}
    profile = Profile(optics=slide.optics.model_copy(update=update))
    planes, z_um = slide.read(data), slide.z_um(len(slide.read(data)))
    used = [slide.focus + k for k in _USED]
    diameter = slide.bead_diameter_nm
    assert diameter is not None
    one = calibrate_stack(
        [planes[k] for k in used], [z_um[k] for k in used], profile, diameter
    )
    save_calibration(folder, [(Source(slide.file), one)], "slide", "", "evaluation")
    calibrated = calibrated_family(load_calibration(folder), profile.optics)
    print(calibrated.describe(), flush=True)
    priors: dict[str, BlurFamily] = {
        "wide": calibrated.local,
        "calibrated": calibrated,
    }
    # Where the beads are in focus, on the drive.
    heights = [bead.fit.bead.z_um for bead in one.used if bead.fit is not None]
    first = used[one.stack.numbers[0]]
    focus = z_um[first] - one.stack.z_um[0] + float(np.median(heights))
    print(f"the beads are in focus at {focus:+.2f} µm", flush=True)
    per_um = one.model.waves_per_um
    rows = []
    for offset in _LEFT_OUT:
        k = slide.focus + offset
        true = per_um * (z_um[k] - focus)
        bead = _mean_bead(one, planes[k])
        best = np.zeros(calibrated.n_coefficients)
        best[0] = true
        known = _explained(one, calibrated, best, bead)
        rows.append([f"{offset:+d}", "–", "its mean, stage", "–", f"{known:.1f}", "–"])
        for name, family in priors.items():
            for kind in ("any specimen", "beads of 200 nm"):
                found = _identified(family, planes[k], profile, kind, diameter)
                away = (found.coefficients[0] - true) / per_um * 1000
                snr = _explained(one, family, found.coefficients, bead)
                rows.append(
                    [
                        f"{offset:+d}",
                        kind,
                        name,
                        f"{away:+.0f}",
                        f"{snr:.1f}",
                        "yes" if found.trusted else found.reason,
                    ]
                )
                print(*rows[-1], flush=True)
            for sigma in sigmas:
                estimates = [
                    _of_specimen(family, bead, path, sigma, number)
                    for number, path in enumerate(scenes)
                ]
                snrs = [
                    _explained(one, family, f.coefficients, bead) for f in estimates
                ]
                away = [(f.coefficients[0] - true) / per_um * 1000 for f in estimates]
                rows.append(
                    [
                        f"{offset:+d}",
                        f"micrographs, σ = {sigma:g}",
                        name,
                        f"{np.median(np.abs(away)):.0f} (median size)",
                        f"{np.median(snrs):.1f}",
                        f"{sum(f.trusted for f in estimates)} of {len(estimates)}",
                    ]
                )
                print(*rows[-1], np.round(snrs, 1), np.round(away), flush=True)
    return rows


def _identified(
    family: BlurFamily,
    pixels: NDArray[np.generic],
    profile: Profile,
    kind: str,
    diameter_nm: float,
) -> Estimate:
    pack = load_pack("zernike7")
    errors, specimen = pack.manifest.error_model, pack.specimen
    pixel_nm = profile.optics.pixel_size_nm
    image = scale(pixels, cutoff=family.cutoff).image
    identifier: Identifier = Identifier(family, errors, None, 5.0, specimen)
    if kind != "any specimen":
        size = diameter_nm / pixel_nm
        identifier = BeadIdentifier(family, errors, size, None, 5.0, specimen, pixel_nm)
    identifier.observe(image, 0.0)
    return identifier.estimate(image)


def _of_specimen(
    family: BlurFamily, bead: torch.Tensor, path: Path, sigma: float, seed: int
) -> Estimate:
    """Return the estimate from a micrograph that a mean bead (K, K) has blurred."""
    border = torch.cat([bead[0], bead[-1], bead[:, 0], bead[:, -1]])
    psf = bead - border.median()
    psf = psf / psf.sum()
    cut = len(psf) - 1
    shape = (SIDE + cut, SIDE + cut)
    spectrum = torch.fft.rfft2(scene(path, SIDE + cut).double())
    spectrum = spectrum * torch.fft.rfft2(psf, s=shape)
    clean = torch.fft.irfft2(spectrum, s=shape)[cut:, cut:].float()
    noise = torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    pack = load_pack("zernike7")
    errors, specimen = pack.manifest.error_model, pack.specimen
    identifier: Identifier = Identifier(family, errors, None, 5.0, specimen)
    frame = clean + sigma * noise
    identifier.observe(frame, 0.0)
    return identifier.estimate(frame, noise=lambda _: sigma**2)


def _mean_bead(one: Calibration, pixels: NDArray[np.generic]) -> torch.Tensor:
    """Return the mean image (K, K) of the calibration's beads in a plane."""
    crops, by = [], []
    for bead in one.used:
        assert bead.fit is not None
        row, column = bead.found.row, bead.found.column
        crop = pixels[
            row - _HALF : row + _HALF + 1, column - _HALF : column + _HALF + 1
        ]
        if crop.shape == (2 * _HALF + 1,) * 2:
            crops.append(crop.astype(np.float64) / bead.fit.bead.brightness)
            by.append((-bead.fit.bead.row, -bead.fit.bead.column))
    moved = shifted(torch.from_numpy(np.array(crops)), torch.tensor(by).double())
    return moved.mean(0)


def _explained(
    one: Calibration, family: BlurFamily, coefficients: Array, bead: torch.Tensor
) -> float:
    """Return how well a PSF explains the mean bead, dB: scaled, on a background."""
    side = family.window + 2 * _HALF
    psf = family.psf(torch.from_numpy(coefficients))
    spectrum = torch.fft.rfft2(psf, s=(side, side))
    row = torch.fft.fftfreq(side, dtype=torch.float64)[:, None]
    column = torch.fft.rfftfreq(side, dtype=torch.float64)[None]
    diameter = one.model.diameter_nm / one.model.optics.pixel_size_nm
    spectrum = spectrum * sphere_transfer(diameter, (row**2 + column**2).sqrt())
    image = torch.fft.irfft2(spectrum, s=(side, side))
    middle = family.window // 2
    image = image[
        middle - _HALF : middle + _HALF + 1, middle - _HALF : middle + _HALF + 1
    ]
    design = torch.stack([image.flatten(), torch.ones(image.numel()).double()], 1)
    fitted = torch.linalg.lstsq(design, bead.flatten()[:, None]).solution
    left = bead.flatten() - (design @ fitted)[:, 0]
    light = bead.flatten() - fitted[1]
    return float(-10 * torch.log10(left.square().sum() / light.square().sum()))
