"""Measure what the calibrated field's value at a region of interest gives.

    python tools/measure_place_prior.py --out place.md

A simulated microscope has a linear field of random direction, and drifts. Its family is
learned from six states, and blurs at random places are identified by the spectrum alone
with the wide range, with the mean over the field and with the field's value at the
place (docs/decisions/0235-value-of-the-field-at-a-region.md).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from evaluation.calibrated_prior import HEAD, LIBRARY, Score, rows_of, spectrum_score
from evaluation.table import markdown

from deepblur_live.calibration.place import place_family
from deepblur_live.calibration.rig import calibrated_family
from deepblur_live.identification.refine import SpectralRefiner
from deepblur_live.profile import Optics
from deepblur_live.runtime.pack import load_pack

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur import ErrorModel
    from deepblur_live.calibration import SavedCalibration
    from deepblur_live.identification.specimen import SpecimenSpectrum

    Array = NDArray[np.float64]

_NOLL = tuple(range(5, 12))
_OPTICS = Optics(refractive_index=1.515, apodisation=1.0, pixel_aperture=1.0)
# States, their rms drift, the size of the mean and the error of a measured mode, nm.
_STATES, _DRIFT_NM, _MEAN_NM, _ERROR_NM, _GAUSSIAN_NM = 6, 21.0, 30.0, 2.0, 70.0
# Sides of the frame and of a region, and where the beads are, pixels.
_SIDE, _REGION, _BEADS = 170, 40, (15, 60, 110, 155)
# Half-ranges of defocus and spherical, waves rms.
_FOCUS, _SPHERICAL = 0.1, 0.05


def calibration(states: Array, slopes: Array) -> SavedCalibration:
    """Return a calibration of states (S, P) with the slopes (2, P) over the frame."""
    places = np.array([(r, c, 0.0) for r in _BEADS for c in _BEADS])
    field = (places[:, :2] / _SIDE - 0.5) @ slopes
    tensors = {}
    for k, state in enumerate(states):
        tensors[f"{k}.coefficients"] = state + field
        tensors[f"{k}.places"] = places
    state = SimpleNamespace(
        shape=[_SIDE, _SIDE], blur_nm=_GAUSSIAN_NM, blur_error_nm=0.2
    )
    manifest = SimpleNamespace(states=[state] * len(states), noll=list(_NOLL))
    saved = SimpleNamespace(folder=Path("simulated"), manifest=manifest)
    saved.tensors = tensors
    return cast("SavedCalibration", saved)


def measure(
    field_nm: float,
    sigma: float,
    count: int,
    errors: ErrorModel,
    specimen: SpecimenSpectrum,
) -> dict[str, list[Score]]:
    """Return the scores of each prior for blurs at `count` places."""
    nm = _OPTICS.wavelength_nm
    rng = np.random.default_rng(11)
    mean = rng.normal(size=7)
    mean *= _MEAN_NM / nm / np.linalg.norm(mean)
    axes = rng.normal(size=(3, 7))
    axes *= _DRIFT_NM / np.sqrt(3) / nm / np.linalg.norm(axes, axis=1, keepdims=True)
    slopes = rng.normal(size=(2, 7))
    slopes *= field_nm / nm * np.sqrt(12) / np.linalg.norm(slopes)
    states = mean + rng.normal(size=(_STATES, 3)) @ axes
    states += _ERROR_NM / nm * rng.normal(size=states.shape)
    saved = calibration(states, slopes)
    family = calibrated_family(saved, _OPTICS)
    scores: dict[str, list[Score]] = {}
    for _ in range(count):
        top, left = (int(first) for first in rng.integers(0, _SIDE - _REGION, 2))
        place = np.array([top, left]) + _REGION / 2
        truth = np.zeros(8)
        truth[1:] = mean + rng.normal(size=3) @ axes + (place / _SIDE - 0.5) @ slopes
        truth[0] = rng.uniform(-_FOCUS, _FOCUS)
        truth[7] = rng.uniform(-_SPHERICAL, _SPHERICAL)
        region = (top, left, _REGION, _REGION)
        priors = {
            "wide range": family.local,
            "mean over the field": family,
            "value at the place": place_family(saved, family, region),
        }
        seed = int(rng.integers(1 << 30))
        for name, prior in priors.items():
            refiner = SpectralRefiner(prior, errors, specimen, library=LIBRARY)
            draws = np.random.default_rng(seed)
            one = spectrum_score(refiner, family.local, truth, sigma, specimen, draws)
            scores.setdefault(name, []).append(one)
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="Markdown file")
    parser.add_argument("--places", type=int, default=10, help="of each row")
    parser.add_argument("--sigma", type=float, nargs="+", default=[0.001, 0.01])
    parser.add_argument("--field", type=float, nargs="+", default=[15.0, 40.0])
    options = parser.parse_args()
    torch.set_num_threads(1)
    pack = load_pack("zernike7")
    errors, specimen = pack.manifest.error_model, pack.specimen
    assert specimen is not None
    rows = []
    for field_nm in options.field:
        for sigma in options.sigma:
            found = measure(field_nm, sigma, options.places, errors, specimen)
            rows += rows_of(f"field of {field_nm:g} nm", sigma, found)
    options.out.write_text(markdown(HEAD, rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
