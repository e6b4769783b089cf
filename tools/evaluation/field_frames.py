"""A held-out frame whose blur varies over the field, and how it is identified."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from deepblur_live.blur.field_basis import FieldView
from deepblur_live.blur.one_psf import of_mean
from deepblur_live.blur.product_convolution import ProductConvolution
from deepblur_live.blur.symmetry import ResolvedBy, nearest, orbit
from deepblur_live.blur.zernike import PAPER_MODES
from deepblur_live.blur.zernike_field import ZernikeField
from deepblur_live.identification.field.identifier import FieldIdentifier
from deepblur_live.identification.field.search import model_of
from deepblur_live.optics import NoiseModel, psf_snr, psnr, ssim
from deepblur_live.runtime.executor import TorchExecutor
from deepblur_live.runtime.pack import load_pack
from evaluation.held_out import held_out_pictures, scene

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from deepblur_live.identification.field.problem import FieldSolution
    from evaluation.table import Row

__all__ = [
    "DEBLURRED_COLUMNS",
    "FieldFrame",
    "blurred_field",
    "deblurred",
    "field_pictures",
    "identified_field",
    "pack_of",
    "places",
    "score",
    "side_of",
    "snr_of",
]

# Of a table of deblurred frames: PSNR in dB and SSIM.
DEBLURRED_COLUMNS = {
    "raw": "{raw_psnr:.2f} / {raw_ssim:.3f}",
    "one PSF": "{one_psnr:.2f} / {one_ssim:.3f}",
    "**as reported**": "**{reported_psnr:.2f} / {reported_ssim:.3f}**",
    "true field": "{true_psnr:.2f} / {true_ssim:.3f}",
    "least against one PSF": "{worst:+.2f}",
}

# Range of every mode, waves rms; eigen-PSFs of the simulation; places, along each side,
# at which PSFs are compared; sides of frames: a multiple of this, at most so large.
_RANGE, _EIGEN, _PLACES, _MULTIPLE, _LARGEST = 0.15, 32, 7, 64, 1024
_LEAST = 768
# Seconds between frames that are averaged.
_INTERVAL_S = 0.05
# A common shift of all PSFs shifts the image and is no error: it is found to this many
# pixels.
_SHIFT_STEP = 0.02

pack_of = lru_cache(maxsize=2)(load_pack)


@dataclass(frozen=True)
class FieldFrame:
    """Names one frame of the evaluation.

    Parameters
    ----------
    path, kind
        The picture.
    number
        Seed of field and noise.
    sigma
        Standard deviation of the noise.
    frames
        Number of frames that are averaged.
    strength
        Factor of the field's coefficients.
    """

    path: Path
    kind: str
    number: int
    sigma: float
    frames: int = 1
    strength: float = 1.0


def field_pictures(folder: Path, split: str) -> list[tuple[str, Path]]:
    """Return the held-out pictures that are large enough, with their kinds."""
    found = held_out_pictures(folder, split)
    return [(k, p) for k, paths in found.items() for p in paths if side_of(p) >= _LEAST]


def side_of(path: Path) -> int:
    """Return the side of the largest frame of a picture, with a border for the blur."""
    with Image.open(path) as image:
        shorter = min(image.size)
    if path.parent.name == "microscopy":
        shorter //= 2
    border = pack_of("zernike7").family.window - 1
    return min(_LARGEST, (shorter - border) // _MULTIPLE * _MULTIPLE)


@lru_cache(maxsize=1)
def blurred_field(
    path: Path, number: int, model: str, strength: float = 1.0
) -> tuple[torch.Tensor, ZernikeField, torch.Tensor, torch.Tensor]:
    """Return a frame without noise, its truth's family, the field and the sharp frame.

    The truth has the sixteen terms of nodal aberration theory for Noll 4 to 10. A
    picture too small for a field is extended by reflection.
    """
    side, local = max(_LEAST, side_of(path)), pack_of(model).family
    local = replace(local, noll=PAPER_MODES, ranges=_RANGE)
    family = ZernikeField(local, FieldView(side, side), remainder=0.0)
    sharp = scene(path, side + local.window - 1)
    generator = torch.Generator().manual_seed(5000 + number)
    truth = strength * family.sample(1, generator)[0]
    shape = sharp.shape[0], sharp.shape[1]
    blur = ProductConvolution.of_family(
        family, truth, shape, (side, side), count=_EIGEN
    )
    inside = (slice(local.window // 2, -(local.window // 2)),) * 2
    return blur.forward(sharp)[inside], family, truth, sharp[inside]


def _blurred(
    frame: FieldFrame, model: str
) -> tuple[torch.Tensor, ZernikeField, torch.Tensor, torch.Tensor]:
    return blurred_field(frame.path, frame.number, model, frame.strength)


@lru_cache(maxsize=1)
def identified_field(
    frame: FieldFrame, model: str
) -> tuple[ZernikeField, FieldSolution, torch.Tensor]:
    """Return the fitted family, the solution, and the newest frame."""
    pack = pack_of(model)
    clean, family, _, _ = _blurred(frame, model)
    fitted = ZernikeField(pack.family, family.view)
    errors = pack.manifest.error_model
    identifier = FieldIdentifier(fitted, errors, None, 5.0, pack.specimen)
    generator = torch.Generator().manual_seed(frame.number)
    for number in range(frame.frames):
        observed = clean + frame.sigma * torch.randn(clean.shape, generator=generator)
        identifier.observe(observed, _INTERVAL_S * number)
    return fitted, identifier.solve(identifier.prepare(observed)), observed


def score(frame: FieldFrame, model: str) -> Row:
    """Return how well a field is identified; PSF SNR in dB over 7 × 7 places."""
    clean, family, truth, _ = _blurred(frame, model)
    fitted, solution, _ = identified_field(frame, model)
    found, fit = solution.found, solution.fit
    assert solution.one is not None and found is not None and fit is not None
    true = _psfs(family, truth.double())
    even = torch.from_numpy(np.where(fitted.even, 1.0, -1.0))
    spectrum = found.used @ found.fit.coefficients
    phases = found.used @ fit.coefficients
    one = fitted.constant(solution.one.estimate.coefficients)
    scores = {
        "oracle": snr_of(true.mean(0).expand_as(true), true),
        "one": snr_of(_psfs(fitted, torch.from_numpy(one)), true),
        # The spectrum alone does not know the orientation.
        "joint": max(snr_of(_psfs(fitted, s * spectrum), true) for s in (1.0, even)),
        "phases": snr_of(_psfs(fitted, phases), true),
        "reported": snr_of(
            _psfs(fitted, torch.from_numpy(solution.estimate.coefficients)), true
        ),
    }
    row: Row = {name: mean for name, (mean, _) in scores.items()}
    row |= {f"{name}_worst": worst for name, (_, worst) in scores.items()}
    turned = snr_of(_psfs(fitted, even * phases), true)[0]
    return row | {
        "kind": frame.kind,
        "file": frame.path.name,
        "side": len(clean),
        "sigma": frame.sigma,
        "averaged": frame.frames,
        "allowed": _allowed(fitted, phases, solution),
        "orientation": float(row["phases"] >= turned),
        "field": float(solution.tracked is not None),
        "answered": float(solution.estimate.trusted),
        "gain": found.gain,
        "misfit": fit.quality,
        "deviations": _deviations(fitted, family, truth, phases, solution),
    }


@torch.no_grad()
def deblurred(frame: FieldFrame, model: str) -> Row:
    """Return PSNR and SSIM of a frame deblurred with what is known of its field.

    With the weights for quality. Noise and, but for the true field, covariance are
    those that were identified.
    """
    pack = pack_of(model)
    _, family, truth, sharp = _blurred(frame, model)
    fitted, solution, observed = identified_field(frame, model)
    assert solution.one is not None
    single, estimate = solution.one.estimate, solution.estimate
    into = fitted.constant(np.eye(fitted.local.n_coefficients)).T
    fields = {
        "one": (
            fitted,
            fitted.constant(single.coefficients),
            into @ single.covariance @ into.T,
        ),
        "reported": (
            fitted,
            estimate.coefficients,
            of_mean(fitted, estimate.coefficients, estimate.covariance),
        ),
        "true": (family, truth.numpy(), np.zeros((len(truth), len(truth)))),
    }
    noise = NoiseModel.white(solution.problem.one.noise_sigma)
    images = {"raw": observed}
    for name, (blurs, *gaussian) in fields.items():
        executor = TorchExecutor(pack, blurs, torch.device("cpu"))
        gamma, covariance = (torch.as_tensor(a, dtype=torch.float32) for a in gaussian)
        images[name] = executor.deblur(observed, gamma, covariance, noise)
    row: Row = {}
    for name, image in images.items():
        row[f"{name}_psnr"] = psnr(image.numpy(), sharp.numpy())
        row[f"{name}_ssim"] = ssim(image.numpy(), sharp.numpy())
    return row


def places() -> NDArray[np.float64]:
    """Return the 7 × 7 places (49, 2) at which PSFs are compared."""
    return FieldView().grid(_PLACES)


def _psfs(family: ZernikeField, coefficients: torch.Tensor) -> torch.Tensor:
    """Return the PSFs (49, K, K) of a field."""
    return family.local.psf(family.at(coefficients, places()).float())


def snr_of(found: torch.Tensor, true: torch.Tensor) -> tuple[float, float]:
    """Return the mean and the least PSF SNR, after the best common shift."""
    side = 2 * true.shape[-1]
    spectrum = torch.fft.rfft2(found, s=(side, side))
    rows, columns = torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)

    def shifted(shift: tuple[float, float]) -> torch.Tensor:
        ramp = torch.exp(-2j * math.pi * (rows * shift[0] + columns * shift[1]))
        moved = torch.fft.irfft2(spectrum * ramp, s=(side, side))
        return psf_snr(moved[..., : true.shape[-2], : true.shape[-1]], true)

    best, at, step = shifted((0.0, 0.0)), (0.0, 0.0), 0.5
    while step > _SHIFT_STEP:
        tried = [(at[0] + dy, at[1]) for dy in (step, -step)]
        tried += [(at[0], at[1] + dx) for dx in (step, -step)]
        values = [shifted(shift) for shift in tried]
        means = [float(value.mean()) for value in values]
        if max(means) > float(best.mean()):
            k = int(np.argmax(means))
            best, at = values[k], tried[k]
        else:
            step /= 2
    return float(best.mean()), float(best.min())


def _allowed(
    family: ZernikeField, coefficients: torch.Tensor, solution: FieldSolution
) -> float:
    """Return the mean PSF SNR that the fit's curvature implies, to first order."""
    cells, fit, found = solution.problem.cells, solution.fit, solution.found
    assert cells is not None and fit is not None and found is not None
    model = model_of(family, cells.cells.positions).within(found.used)
    design = torch.from_numpy(family.design(places())) @ found.used
    local = design @ fit.covariance(model) @ design.mT
    gamma = family.at(coefficients, places()).float()
    psf, change = family.local.psf_and_jacobian(gamma)
    change = change.flatten(2).double()
    error = torch.einsum("nmx,nmk,nkx->n", change, local, change)
    return float(-10 * torch.log10(error / psf.double().square().sum((1, 2))).mean())


def _deviations(
    fitted: ZernikeField,
    family: ZernikeField,
    truth: torch.Tensor,
    found: torch.Tensor,
    solution: FieldSolution,
) -> list[float]:
    """Return |error| over the stated deviation of γ at each place and mode.

    Whether or not the field was reported.
    """
    true = np.zeros(fitted.n_coefficients)
    where = [fitted.names.index(name) for name in family.names]
    true[where] = truth.double().numpy()
    near = nearest(true, found.numpy(), orbit(fitted, ResolvedBy.NEVER))
    design = fitted.design(places())
    variance = np.einsum("nmp,pq,nmq->nm", design, solution.stated, design)
    error = np.abs(design @ (found.numpy() - near))
    deviations: list[float] = (error / np.sqrt(variance)).ravel().round(3).tolist()
    return deviations
