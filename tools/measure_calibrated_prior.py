"""Measure what a microscope's own prior gives the identification, on simulated states.

    python tools/measure_calibrated_prior.py --data data --out prior.md
    python tools/measure_calibrated_prior.py --few --out few.md
    python tools/measure_calibrated_prior.py --data data --real --out real.md

A simulated microscope has twelve modes and drifts along three directions. Its family is
learned from some states, and held-out states are identified with it and with the wide
box: by the spectrum alone, and with the whole identifier on validation micrographs
(docs/decisions/0188-calibrated-prior.md).
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import torch
from evaluation.calibrated_prior import (
    HEAD,
    LIBRARY,
    Microscope,
    Score,
    modes_of,
    rows_of,
    score,
    spectrum_score,
)
from evaluation.held_out import SIDE, blurred, held_out_pictures, scene
from evaluation.real_prior import held_out_planes
from evaluation.table import markdown

from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.calibration.learning import WIDE_MODES, learn_family
from deepblur_live.identification import Identifier
from deepblur_live.identification.refine import SpectralRefiner
from deepblur_live.runtime.pack import load_pack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily, ErrorModel
    from deepblur_live.blur.calibrated import CalibratedZernikeFamily
    from deepblur_live.identification.specimen import SpecimenSpectrum

    Array = NDArray[np.float64]

_NOLL = tuple(range(4, 16))
# States, and the rms change that is assumed between states, nm.
_FEW = (
    (1, 10.0),
    (1, 20.0),
    (1, 40.0),
    (1, 80.0),
    (2, 0.0),
    (2, 20.0),
    (2, 40.0),
    (6, 0.0),
    (6, 20.0),
    (6, 40.0),
    (20, 0.0),
    (20, 20.0),
    (20, 40.0),
)


def _diagonal(local: ZernikeFamily, states: Array) -> CalibratedZernikeFamily:
    """Return the calibrated family of all states without its correlations."""
    family = learn_family(states, local, wide=())
    variances = np.diag(np.diag(family.learned.covariance))
    return replace(family, learned=replace(family.learned, covariance=variances))


def families(microscope: Microscope) -> dict[str, BlurFamily]:
    """Return the priors that are compared, by name."""
    local, wide = microscope.local, WIDE_MODES if microscope.wide else ()
    learned = {
        f"{n} states": learn_family(microscope.measured(n), local, wide=wide)
        for n in (6, 20, 200)
    }
    if microscope.wide:
        return {"wide box": local, **learned}
    diagonal = _diagonal(local, microscope.measured(200))
    return {"wide box": local, "200 states, variances only": diagonal, **learned}


def few_states(microscope: Microscope) -> dict[str, BlurFamily]:
    """Return priors of few states, by the change that is assumed between states, nm."""
    local, nm = microscope.local, microscope.local.wavelength_nm
    found: dict[str, BlurFamily] = {"wide box": local}
    for n, assumed in _FEW:
        name = f"{n} state{'s' * (n > 1)}, assumed {assumed:g} nm"
        states = microscope.measured(n)
        found[name] = learn_family(states, local, assumed=assumed / nm)
    return found


def spectrum_alone(
    microscope: Microscope,
    sigma: float,
    count: int,
    errors: ErrorModel,
    specimen: SpecimenSpectrum,
    priors: dict[str, BlurFamily],
) -> dict[str, list[Score]]:
    """Identify held-out states by simulated spectra of specimens of the prior."""
    local = microscope.local
    truths = microscope.states(count, seed=3)
    scores: dict[str, list[Score]] = {}
    for name, family in priors.items():
        rng = np.random.default_rng(4)
        refiner = SpectralRefiner(family, errors, specimen, library=LIBRARY)
        for truth in truths:
            one = spectrum_score(refiner, local, truth, sigma, specimen, rng)
            scores.setdefault(name, []).append(one)
    return scores


def on_micrographs(
    microscope: Microscope,
    sigma: float,
    paths: Sequence[Path],
    errors: ErrorModel,
    specimen: SpecimenSpectrum,
) -> dict[str, list[Score]]:
    """Identify held-out states with the whole identifier, one frame each."""
    local = microscope.local
    truths = microscope.states(len(paths), seed=3)
    chosen = {
        name: family
        for name, family in families(microscope).items()
        if name in ("wide box", "20 states")
    }
    scores: dict[str, list[Score]] = {}
    for name, family in chosen.items():
        for number, (path, truth) in enumerate(zip(paths, truths, strict=True)):
            sharp = scene(path, SIDE + local.window - 1)
            # The whole range of the picture is 0 to 1, its noise relative to that.
            gamma = torch.from_numpy(truth).float()
            noise = torch.randn(
                SIDE, SIDE, generator=torch.Generator().manual_seed(number)
            )
            frame = blurred(sharp, local, gamma) + sigma * noise
            identifier = Identifier(family, errors, None, 5.0, specimen)
            identifier.observe(frame, 0.0)
            found = identifier.estimate(frame, noise=lambda _: sigma**2)
            modes = modes_of(family, found.coefficients)
            scores.setdefault(name, []).append(
                score(local, truth, modes, found.trusted)
            )
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of held-out pictures")
    parser.add_argument("--out", type=Path, required=True, help="Markdown file")
    parser.add_argument("--states", type=int, default=12, help="held-out states")
    parser.add_argument("--pictures", type=int, default=4, help="micrographs")
    parser.add_argument("--sigma", type=float, nargs="+", default=[0.001, 0.01])
    parser.add_argument(
        "--few", action="store_true", help="one to twenty states, by what is assumed"
    )
    parser.add_argument(
        "--real", action="store_true", help="the real slide's held-out planes alone"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    pack = load_pack("zernike7")
    errors, specimen = pack.manifest.error_model, pack.specimen
    assert specimen is not None
    local = ZernikeFamily(noll=_NOLL)
    rows = []
    if options.real:
        with TemporaryDirectory() as kept:
            rows = held_out_planes(
                options.data,
                Path(kept) / "slide.calib",
                options.pictures,
                options.sigma,
            )
        head = [
            "plane",
            "fit",
            "prior",
            "defocus error, nm",
            "mean bead, dB",
            "trusted",
        ]
        options.out.write_text(markdown(head, rows) + "\n", encoding="utf-8")
        return
    if options.few:
        for drift in (0.4, 1.0):
            microscope = Microscope(local, True, drift)
            for sigma in options.sigma:
                priors = few_states(microscope)
                found = spectrum_alone(
                    microscope, sigma, options.states, errors, specimen, priors
                )
                rows += rows_of(f"drift {drift * 53:.0f} nm", sigma, found)
            options.out.write_text(markdown(HEAD, rows) + "\n", encoding="utf-8")
        return
    for wide in (False, True):
        microscope = Microscope(local, wide)
        label = "4 and 11 wide" if wide else "all learned"
        for sigma in options.sigma:
            begin = time.process_time()
            found = spectrum_alone(
                microscope,
                sigma,
                options.states,
                errors,
                specimen,
                families(microscope),
            )
            rows += rows_of(f"spectrum, {label}", sigma, found)
            print(f"{time.process_time() - begin:.0f} s", flush=True)
    if options.data is not None:
        paths = held_out_pictures(options.data, "validation")["micrographs"]
        paths = paths[:: max(1, len(paths) // options.pictures)][: options.pictures]
        for sigma in options.sigma:
            found = on_micrographs(microscope, sigma, paths, errors, specimen)
            rows += rows_of("identifier, 4 and 11 wide", sigma, found)
    options.out.write_text(markdown(HEAD, rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
