"""How near the identified PSF is to the true one, and what each part gives to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.optics import Estimate, psf_snr
from evaluation.bound import allowed_snr
from evaluation.case import Case, every_frame
from evaluation.section import Row, Section, figure, markdown, summary

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SECTION", "nearest_twin"]

# PSF SNR in dB to be had from one frame.
_SIGMAS = (0.001, 0.01, 0.03, 0.05)
GOALS = {
    "photographs": dict(zip(_SIGMAS, (22, 14, 10, 8), strict=True)),
    "micrographs": dict(zip(_SIGMAS, (17, 10, 7, 5), strict=True)),
}


def nearest_twin(case: Case, found: np.ndarray) -> np.ndarray:
    """Return the true γ (P,), or its twin, whichever is nearer to an answer."""
    truth = case.frame.coefficients.double().numpy()
    twins: np.ndarray = case.family.equivalents(truth)
    nearest: np.ndarray = twins[np.argmin(((twins - found) ** 2).sum(1))]
    return nearest


def network_alone(case: Case) -> Estimate:
    """Return the network's own answer, turned by the same rule as the shipped one."""
    identifier = case.identifier()
    image = case.frame.observed
    identifier.observe(image, 0.0)
    spectrum = identifier.spectrum
    seen = spectrum.average
    data = identifier.refiner.prepare(seen.power, seen.looks, spectrum.frames)
    answer, deviation = identifier.ask_network(data.reliable)
    sigma = float(data.reliable.floor) ** 0.5
    turned = identifier.rotation.decide(image, answer.double().numpy(), sigma)
    return Estimate(turned, np.diag(deviation.double().numpy() ** 2), 1.0)


def spectrum_alone(case: Case) -> Estimate:
    """Return the answer with neither a network nor phases."""
    identifier = case.identifier(network=False, phases=False)
    identifier.observe(case.frame.observed, 0.0)
    return identifier.estimate(case.frame.observed)


def score(case: Case) -> Row:
    """Return PSF SNRs in dB, the error of γ, and whether the turn is right."""
    shipped, _ = case.shipped
    row: Row = {
        "trivial": float(psf_snr(case.mean_psf, case.psf)),
        "allowed": allowed_snr(case),
    }
    ways = {
        "network": network_alone(case),
        "spectrum": spectrum_alone(case),
        "shipped": shipped,
    }
    for name, estimate in ways.items():
        row[name] = float(psf_snr(case.psf_of(estimate), case.psf))
    row["answered"] = shipped.trusted
    if shipped.trusted:
        gamma = shipped.coefficients
        truth = nearest_twin(case, gamma)
        row["error"] = float(np.sqrt(np.mean((gamma - truth) ** 2)))
        row["zero_error"] = float(np.sqrt(np.mean(truth**2)))
        odd = ~case.family.even
        row["turn"] = float(gamma[odd] @ truth[odd]) >= 0
        # A PSF that is wrong in either turn has no right one.
        over = torch.from_numpy(case.family.rotated(gamma)).float()
        other = psf_snr(case.family.psf(over), case.psf)
        if max(row["shipped"], float(other)) > row["trivial"]:  # type: ignore[call-overload]
            row["turn_found"] = row["turn"]
    return row


COLUMNS = (
    "trivial",
    "network",
    "spectrum",
    "shipped",
    "allowed",
    "error",
    "zero_error",
    "answered",
    "turn",
    "turn_found",
)


def table(rows: Sequence[Row]) -> str:
    """Return the Markdown table of a summary."""
    head = [
        "pictures",
        "σ",
        "constant mean PSF",
        "network alone",
        "spectrum alone",
        "**as shipped**",
        "goal",
        "Cramér–Rao, spectrum",
        "coefficient error (zero guess)",
        "turn right (where the PSF is)",
        "answered",
    ]
    lines = [
        [
            f"{row['frames']} {row['kind']}",
            f"{row['sigma']:g}",
            f"{row['trivial']:.1f}",
            f"{row['network']:.1f}",
            f"{row['spectrum']:.1f}",
            f"**{row['shipped']:.1f}**",
            str(GOALS[str(row["kind"])].get(row["sigma"], "–")),  # type: ignore[call-overload]
            f"{row['allowed']:.1f}",
            f"{figure(row['error'], '.3f')} ({figure(row['zero_error'], '.3f')})",
            f"{figure(row['turn'], '.0%')} ({figure(row['turn_found'], '.0%')})",
            f"{row['answered']:.0%}",
        ]
        for row in rows
    ]
    return markdown(head, lines)


SECTION = Section(
    "identification",
    every_frame,
    score,
    lambda rows: summary(rows, COLUMNS),
    table,
)
