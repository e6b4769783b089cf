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
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import torch
from evaluation.held_out import SIDE, blurred, held_out_pictures, scene
from evaluation.real_prior import held_out_planes
from evaluation.table import markdown

from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.calibration.learning import WIDE_MODES, learn_family
from deepblur_live.identification import Identifier
from deepblur_live.identification.otf import log_otf
from deepblur_live.identification.refine import SpectralRefiner
from deepblur_live.identification.spectrum import WINDOW
from deepblur_live.optics import psf_snr
from deepblur_live.runtime.pack import load_pack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily, ErrorModel
    from deepblur_live.blur.calibrated import CalibratedZernikeFamily
    from deepblur_live.identification.specimen import SpecimenSpectrum

    Array = NDArray[np.float64]

_NOLL = tuple(range(4, 16))
# Drift along three directions, of 53 nm rms in all, about a mean of 30 nm rms; and what
# the measurement of a state leaves uncertain, nm.
_DRIFT_NM, _MEAN_NM, _ERROR_NM = (40.0, 29.0, 19.0), 30.0, 2.0
# Half-ranges of defocus and spherical where focus and specimen change them, waves rms.
_FOCUS, _SPHERICAL = 0.1, 0.05
# A spectrum's averages, and the standard deviation of the specimen.
_AVERAGES, _CONTRAST = 40.0, 0.2
_STARTS, _LIBRARY = 12, 3000
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


@dataclass(frozen=True)
class Score:
    """How right one identification is.

    Parameters
    ----------
    nm
        Error of the wavefront, up to the sign and 180° ambiguities.
    snr
        PSF SNR up to a rotation by 180°, dB.
    signed
        Whether the sign of the even modes is right.
    trusted
        Whether the estimate is trusted; None if nothing judged it.
    """

    nm: float
    snr: float
    signed: bool
    trusted: bool | None = None


@dataclass(frozen=True)
class Microscope:
    """Simulated states: mean + three directions of drift, and focus if it is wide.

    `drift` is how large it is, relative to 53 nm rms.
    """

    local: ZernikeFamily
    wide: bool
    drift: float = 1.0

    def states(self, n: int, seed: int) -> Array:
        """Return (n, M) states, waves rms."""
        fixed = np.random.default_rng(5)
        rng = np.random.default_rng(seed)
        modes, nm = self.local.n_coefficients, self.local.wavelength_nm
        wide = [self.local.noll.index(noll) for noll in WIDE_MODES if self.wide]
        axes, mean = fixed.normal(size=(3, modes)), fixed.normal(size=modes)
        axes[:, wide] = mean[wide] = 0
        axes /= np.linalg.norm(axes, axis=1, keepdims=True)
        mean *= _MEAN_NM / nm / np.linalg.norm(mean)
        size = self.drift * np.array(_DRIFT_NM) / nm
        drift = rng.normal(size=(n, 3)) * size @ axes
        states: Array = mean + drift
        for mode, half in zip(wide, (_FOCUS, _SPHERICAL), strict=False):
            states[:, mode] = rng.uniform(-half, half, n)
        return states

    def measured(self, n: int) -> Array:
        """Return (n, M) states as a calibration measures them, with errors."""
        states = self.states(n, seed=1)
        error = _ERROR_NM / self.local.wavelength_nm
        noise = np.random.default_rng(2).normal(size=states.shape)
        return states + error * noise


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


def modes_of(family: BlurFamily, coefficients: Array) -> Array:
    """Return the Zernike modes (M,) of a family's coefficients."""
    learned = getattr(family, "learned", None)
    return coefficients if learned is None else learned.modes(coefficients)


def score(
    local: ZernikeFamily, truth: Array, found: Array, trusted: bool | None = None
) -> Score:
    """Compare modes (M,) with the truth (M,), both in waves rms."""
    even = np.where(local.even, -1.0, 1.0)
    images = np.stack([found, found * even, -found * even, -found])
    distances = np.linalg.norm(images - truth, axis=1)
    psfs = local.psf(torch.from_numpy(np.stack([truth, images[0], images[2]])))
    snr = float(psf_snr(psfs[1:], psfs[:1]).max())
    # Unchanged, or rotated by 180°.
    signed = int(distances.argmin()) in (0, 2)
    nm = float(distances.min()) * local.wavelength_nm
    return Score(nm, snr, signed, trusted)


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
        refiner = SpectralRefiner(family, errors, specimen, library=_LIBRARY)
        for truth in truths:
            power = _spectrum(local, truth, sigma, specimen, rng)
            data = refiner.prepare(power, _AVERAGES, 1.0, sigma**2)
            fit = refiner.fit(data, refiner.starts(data, _STARTS))
            found = modes_of(family, fit.coefficients[0])
            scores.setdefault(name, []).append(score(local, truth, found))
    return scores


def spectrum_of(
    local: ZernikeFamily,
    prior: BlurFamily,
    truth: Array,
    sigma: float,
    errors: ErrorModel,
    specimen: SpecimenSpectrum,
    seed: int,
) -> Score:
    """Identify one blur (M,) by a simulated spectrum, with a prior of its own."""
    refiner = SpectralRefiner(prior, errors, specimen, library=_LIBRARY)
    power = _spectrum(local, truth, sigma, specimen, np.random.default_rng(seed))
    data = refiner.prepare(power, _AVERAGES, 1.0, sigma**2)
    fit = refiner.fit(data, refiner.starts(data, _STARTS))
    return score(local, truth, modes_of(prior, fit.coefficients[0]))


def _spectrum(
    local: ZernikeFamily,
    gamma: Array,
    sigma: float,
    specimen: SpecimenSpectrum,
    rng: np.random.Generator,
) -> torch.Tensor:
    """Return an average power spectrum (W, W//2+1) of a random specimen, blurred."""
    own = specimen.mean.numpy().astype(np.float64)
    patterns = specimen.basis[:, 1:].numpy()
    own = own + patterns @ rng.normal(size=patterns.shape[1])
    own = np.exp(own + specimen.deviation.numpy() * rng.normal(size=own.shape))
    own *= _CONTRAST**2 / own.mean()
    blur = log_otf(local, torch.from_numpy(gamma[None]).float())[0].exp().numpy()
    power = own * blur + sigma**2
    power *= rng.gamma(_AVERAGES, 1 / _AVERAGES, power.shape)
    return torch.from_numpy(power).float().view(WINDOW, WINDOW // 2 + 1)


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


def rows_of(
    label: str, sigma: float, scores: dict[str, list[Score]]
) -> list[list[str]]:
    """Return table rows of medians and shares."""
    rows = []
    for name, found in scores.items():
        judged = [one.trusted for one in found if one.trusted is not None]
        rows.append(
            [
                label,
                f"{sigma:g}",
                name,
                f"{np.median([one.nm for one in found]):.0f}",
                f"{np.median([one.snr for one in found]):.0f}",
                f"{sum(one.signed for one in found)} of {len(found)}",
                f"{sum(judged)} of {len(judged)}" if judged else "–",
            ]
        )
        print(*rows[-1], flush=True)
    return rows


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
        head = ["data", "σ", "prior", "error, nm", "PSF, dB", "sign right", "trusted"]
        options.out.write_text(markdown(head, rows) + "\n", encoding="utf-8")
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
    head = ["data", "σ", "prior", "error, nm", "PSF, dB", "sign right", "trusted"]
    options.out.write_text(markdown(head, rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
