"""What is measured on one frame: each function returns named figures of a `Case`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.blur import Estimate, ResolvedBy, nearest, orbit
from deepblur_live.blur.zernike import PAPER_MODES, SPHERICAL_MODES
from deepblur_live.identification import PowerSpectrum
from deepblur_live.optics import NoiseModel, extend, frame_part, psf_snr, psnr, ssim
from deepblur_live.runtime.calibration import BadFrame, scale
from evaluation.bound import allowed_snr, drawn_at_bound
from evaluation.classical import (
    best_wiener,
    blind_richardson_lucy,
    richardson_lucy,
    unsupervised,
)
from evaluation.troubles import TROUBLES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evaluation.case import Case

__all__ = [
    "BANDS",
    "BORDER",
    "CROP",
    "INNER",
    "LONG_DEFOCUS",
    "REPORTED",
    "baselines",
    "borders",
    "coverage",
    "deblurring",
    "identification",
    "modes",
    "near_zero",
    "over_time",
    "refusal",
    "sampling",
]

# What was measured on one frame.
Row = dict[str, object]

# Goals in dB of PSF SNR, by kind and noise: from one frame, and from a hundred.
_GOALS = {
    ("photographs", 0.001): 22,
    ("photographs", 0.01): 14,
    ("photographs", 0.03): 10,
    ("photographs", 0.05): 8,
    ("micrographs", 0.001): 17,
    ("micrographs", 0.01): 10,
    ("micrographs", 0.03): 7,
    ("micrographs", 0.05): 5,
}
_GOALS_100 = {
    ("photographs", 0.01): 22,
    ("photographs", 0.03): 16,
    ("photographs", 0.05): 12,
    ("micrographs", 0.01): 18,
    ("micrographs", 0.03): 12,
    ("micrographs", 0.05): 8,
}
# Numbers of frames after which the blur is estimated, as live: the evidence for an
# orientation accumulates, and each fit starts from the last one. Some are reported.
_ESTIMATED, REPORTED = (1, 3, 10, 30, 100), (1, 10, 100)
_INTERVAL_S = 0.05
# Long against a hundred frames: none of them is forgotten.
_AVERAGE_S = 1e6
# Nominal coverage, and the range that the measured one should lie in.
BANDS = {0.68: (0.60, 0.76), 0.95: (0.90, 0.98)}
# Scores leave out the outermost pixels, where every method guesses what lies beyond.
BORDER = 16
INNER = (slice(BORDER, -BORDER), slice(BORDER, -BORDER))
# A camera's region of interest with odd and unequal sides.
CROP = (401, 307)
# Defocus is the first mode.
LONG_DEFOCUS = (0.4, *(0.15,) * (len(SPHERICAL_MODES) - 1))


def _goal(case: Case, goals: dict[tuple[str, float], int]) -> Row:
    key = (case.spec.kind, case.spec.sigma)
    return {"goal": goals[key]} if key in goals else {}


def _snr(case: Case, estimate: Estimate) -> float:
    return float(psf_snr(case.psf_of(estimate), case.psf))


def _network_alone(case: Case) -> Estimate:
    """Return the network's own estimate, its orientation resolved as shipped."""
    identifier = case.identifier()
    image = case.frame.observed
    identifier.observe(image, 0.0)
    spectrum = identifier.spectrum
    average = spectrum.average
    data = identifier.refiner.prepare(average.power, average.averages, spectrum.frames)
    gamma, deviation = identifier.network_estimate(data.signal)
    sigma = float(data.signal.floor) ** 0.5
    oriented = identifier.orientation.decide(image, gamma.double().numpy(), sigma)
    return Estimate(oriented, np.diag(deviation.double().numpy() ** 2), 1.0)


def identification(case: Case) -> Row:
    """Return PSF SNRs in dB, the error of γ, and whether its orientation is right."""
    shipped, _ = case.shipped
    row: Row = {
        "trivial": float(psf_snr(case.mean_psf, case.psf)),
        "allowed": allowed_snr(case),
        "network": _snr(case, _network_alone(case)),
        "spectrum": _snr(case, case.estimate(network=False, phases=False)),
        "shipped": (found := _snr(case, shipped)),
        "answered": shipped.trusted,
    }
    if shipped.trusted:
        gamma, truth = shipped.coefficients, case.nearest_truth(shipped)
        row["error"] = float(np.sqrt(np.mean((gamma - truth) ** 2)))
        row["zero_error"] = float(np.sqrt(np.mean(truth**2)))
        rotations = orbit(case.family, ResolvedBy.IMAGE)
        right = bool((nearest(truth, gamma, rotations) == truth).all())
        row["turn"] = right
        # A PSF that is wrong in either orientation has no right one.
        rotated = torch.from_numpy(rotations[-1].apply(gamma)).float()
        other = float(psf_snr(case.family.psf(rotated), case.psf))
        if max(found, other) > float(psf_snr(case.mean_psf, case.psf)):
            row["turn_found"] = right
    return row | _goal(case, _GOALS)


def _still_frames(case: Case) -> Iterator[torch.Tensor]:
    """Yield a hundred frames of one scene, each with noise of its own."""
    clean, sigma = case.frame.blurred, case.frame.sigma
    noise = torch.Generator().manual_seed(case.spec.number)
    for _ in range(_ESTIMATED[-1]):
        yield clean + sigma * torch.randn(clean.shape, generator=noise)


def over_time(case: Case) -> Row:
    """Return the PSF SNR in dB after 1, 10 and 100 frames, and whether it was trusted.

    Each frame has noise of its own, and its spectrum enters the running average.
    """
    identifier = case.identifier(average_s=_AVERAGE_S)
    row: Row = {}
    prediction = None
    for count, image in enumerate(_still_frames(case), 1):
        identifier.observe(image, count * _INTERVAL_S)
        if count not in _ESTIMATED:
            continue
        estimate = identifier.estimate(image, prediction)
        if estimate.trusted:
            prediction = estimate.coefficients
        if count in REPORTED:
            row[f"after_{count}"] = _snr(case, estimate)
            row[f"answered_{count}"] = estimate.trusted
    spectrum = identifier.spectrum
    if spectrum.frames < _ESTIMATED[-1]:
        # The identifier has forgotten what it refused; the bound is that of all frames.
        spectrum = PowerSpectrum(_AVERAGE_S, case.family.cutoff)
        for count, image in enumerate(_still_frames(case), 1):
            spectrum.add(image, count * _INTERVAL_S)
    return row | {"allowed": allowed_snr(case, spectrum)} | _goal(case, _GOALS_100)


def coverage(case: Case) -> Row:
    """Return how many stated deviations each coefficient is from the truth."""
    estimate, _ = case.shipped
    if not estimate.trusted:
        return {"deviations": [], "coefficients": 0}
    error = np.abs(estimate.coefficients - case.nearest_truth(estimate))
    deviations = error / np.sqrt(np.diag(estimate.covariance))
    inside = {
        f"inside_{100 * share:.0f}": float(
            np.mean(deviations <= case.errors.coverage_factor(share))
        )
        for share in BANDS
    }
    return {"deviations": list(deviations), "coefficients": len(deviations)} | inside


def refusal(case: Case) -> Row:
    """Return whether the frame was refused; if not, the misfit and the PSF SNR in dB.

    The frame is treated as live: a camera's counts, scaled as they come.
    """
    trouble = TROUBLES[case.spec.kind](case)
    try:
        image = scale(trouble.pixels, cutoff=case.family.cutoff).image
    except BadFrame:
        return {"refused": True}
    identifier = case.identifier()
    identifier.observe(image, 0.0)
    estimate = identifier.estimate(image)
    if not estimate.trusted:
        return {"refused": True}
    row: Row = {"refused": False, "misfit": estimate.quality}
    if trouble.psf is not None:
        row["psf"] = float(psf_snr(case.psf_of(estimate), trouble.psf))
    return row


def sampling(case: Case) -> Row:
    """Return PSF SNR and gain of PSNR in dB, at the sampling λ/(NA·px) in pixels."""
    estimate, _ = case.shipped
    truth = case.frame.truth.numpy()[INNER]
    raw = psnr(case.frame.observed.numpy()[INNER], truth)
    return {
        "sampling": round(1 / case.family.cutoff, 2),
        "psf": _snr(case, estimate),
        "gain": psnr(case.deblurred.numpy()[INNER], truth) - raw,
        "answered": estimate.trusted,
    }


def modes(case: Case) -> Row:
    """Return the PSF SNR in dB, and the error of the seven modes in waves rms.

    Without the network, which knows only the default modes.
    """
    estimate = case.estimate(network=False)
    condition = f"4–{max(case.spec.noll)}"
    if case.spec.ranges == LONG_DEFOCUS:
        condition += ", defocus ±0.4"
    row: Row = {
        "condition": condition,
        "psf": _snr(case, estimate),
        "answered": estimate.trusted,
    }
    if estimate.trusted:
        error = estimate.coefficients - case.nearest_truth(estimate)
        row["error"] = float(np.sqrt(np.mean(error[: len(PAPER_MODES)] ** 2)))
    return row


def near_zero(case: Case) -> Row:
    """Return the wavefront found, waves rms, whether refused, how sure.

    The last as in `coverage`.
    """
    estimate, _ = case.shipped
    row: Row = {"true": f"{case.spec.rms:g}", "refused": not estimate.trusted}
    if estimate.trusted:
        row["found"] = case.family.quality(estimate.coefficients)[0].value
        row["inside"] = coverage(case)["inside_95"]
    return row


def _closeness(name: str, image: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return PSNR in dB and SSIM of an image (H, W), under its name."""
    return {
        f"{name}_psnr": psnr(image[INNER], truth[INNER]),
        f"{name}_ssim": ssim(image[INNER], truth[INNER]),
    }


def deblurring(case: Case) -> Row:
    """Return PSNR and SSIM of each method, and how much light ours lost."""
    frame = case.frame
    observed, truth = frame.observed, frame.truth.numpy()
    whole = extend(observed, case.family.window - 1)
    part = frame_part((whole.shape[0], whole.shape[1]), frame.truth.shape)
    known = torch.zeros(2 * (case.family.n_coefficients,))
    noise = NoiseModel.white(max(frame.sigma, 1e-4))
    bound = drawn_at_bound(case)
    images = {
        "observed": observed.numpy(),
        "lucy": richardson_lucy(whole, case.psf).numpy()[part],
        "wiener": best_wiener(whole, case.psf, truth, INNER),
        "ours": case.deblurred.numpy(),
        "given": case.executor.deblur(
            observed, frame.coefficients, known, noise
        ).numpy(),
        "bound": case.executor.deblur(observed, bound, known, noise).numpy(),
    }
    figures: dict[str, float] = {}
    for name, image in images.items():
        figures |= _closeness(name, image, truth)
    answered = case.shipped[0].trusted
    if answered:
        for measure in ("psnr", "ssim"):
            given = figures[f"given_{measure}"]
            figures[f"gap_{measure}"] = figures[f"ours_{measure}"] - given
            figures[f"least_{measure}"] = figures[f"bound_{measure}"] - given
    return {
        **figures,
        "answered": answered,
        "better": figures["ours_psnr"] > figures["observed_psnr"],
        "flux": abs(float(case.deblurred.mean() / observed.mean()) - 1),
    }


def _rim_and_interior(name: str, image: torch.Tensor, truth: torch.Tensor) -> Row:
    """Return the PSNR in dB of the outermost pixels, and of all others."""
    rim = torch.ones(truth.shape, dtype=torch.bool)
    rim[INNER] = False
    return {
        f"{name}_rim": psnr(image[rim].numpy(), truth[rim].numpy()),
        f"{name}_inner": psnr(image[~rim].numpy(), truth[~rim].numpy()),
    }


def borders(case: Case) -> Row:
    """Return the PSNRs, in dB, of whole frames and of an odd crop; true operator."""
    frame = case.frame
    known = torch.zeros(2 * (case.family.n_coefficients,))
    noise = NoiseModel.white(max(frame.sigma, 1e-4))
    row: Row = {}
    for name, shape in {"whole": tuple(frame.truth.shape), "crop": CROP}.items():
        size = tuple(slice(n) for n in shape)
        observed, truth = frame.observed[size], frame.truth[size]
        found = case.executor.deblur(observed, frame.coefficients, known, noise)
        row |= _rim_and_interior(f"{name}_observed", observed, truth)
        row |= _rim_and_interior(f"{name}_ours", found, truth)
    return row


def baselines(case: Case) -> Row:
    """Return PSNR and SSIM without a known PSF: in focus, or by a blind method.

    The unsupervised Wiener filter, which is given the true PSF, shows what it costs not
    to know the noise.
    """
    frame = case.frame
    truth = frame.truth.numpy()
    focus = case.family.psf(torch.zeros(case.family.n_coefficients))
    whole = extend(frame.observed, case.family.window - 1)
    part = frame_part((whole.shape[0], whole.shape[1]), frame.truth.shape)
    blind, psf = blind_richardson_lucy(whole, focus)
    images = {
        "observed": frame.observed.numpy(),
        "lucy_focus": richardson_lucy(whole, focus).numpy()[part],
        "wiener_focus": best_wiener(whole, focus, truth, INNER),
        "blind_lucy": blind.numpy()[part],
        "unsupervised": unsupervised(whole, case.psf)[part],
        "ours": case.deblurred.numpy(),
    }
    row: Row = {
        "focus_psf": float(psf_snr(focus, case.psf)),
        "blind_psf": float(psf_snr(psf, case.psf)),
    }
    for name, image in images.items():
        row |= _closeness(name, image, truth)
    return row
