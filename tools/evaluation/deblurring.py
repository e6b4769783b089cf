"""How near the deblurred frame is to the truth, beside what is given the true PSF."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from deepblur_live.optics import extend, psnr, ssim
from evaluation.bound import drawn_at_bound
from evaluation.case import Case, every_frame
from evaluation.classical import best_wiener, richardson_lucy
from evaluation.section import Row, Section, figure, grouped, markdown, summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

__all__ = ["INNER", "SECTION", "closeness", "ours"]

# Scores leave out the outermost pixels, where every method guesses what lies beyond.
BORDER = 16
INNER = (slice(BORDER, -BORDER), slice(BORDER, -BORDER))


def closeness(name: str, image: np.ndarray, truth: np.ndarray) -> Row:
    """Return PSNR in dB and SSIM of an image (H, W), under its name."""
    return {
        f"{name}_psnr": psnr(image[INNER], truth[INNER]),
        f"{name}_ssim": ssim(image[INNER], truth[INNER]),
    }


def ours(case: Case) -> torch.Tensor:
    """Return the frame as shipped: nothing given; raw where the blur is not known."""
    estimate, noise = case.shipped
    if not estimate.trusted:
        return case.frame.observed
    gamma = torch.as_tensor(estimate.coefficients).float()
    return case.executor.deblur(case.frame.observed, gamma, noise)


def score(case: Case) -> Row:
    """Return PSNR and SSIM of each method, and how much light ours lost."""
    frame = case.frame
    observed, truth = frame.observed, frame.truth.numpy()
    whole = extend(observed, case.family.window - 1)
    size = tuple(slice(0, n) for n in observed.shape)
    sigma = max(frame.sigma, 1e-4)
    found = ours(case)
    row = (
        closeness("observed", observed.numpy(), truth)
        | closeness("lucy", richardson_lucy(whole, case.psf).numpy()[size], truth)
        | closeness("wiener", best_wiener(whole, case.psf, truth, INNER), truth)
        | closeness("ours", found.numpy(), truth)
    )
    given = case.executor.deblur(observed, frame.coefficients, sigma).numpy()
    row |= closeness("given", given, truth)
    best = case.executor.deblur(observed, drawn_at_bound(case), sigma).numpy()
    row |= closeness("bound", best, truth)
    row["answered"] = case.shipped[0].trusted
    row["better"] = row["ours_psnr"] > row["observed_psnr"]  # type: ignore[operator]
    row["flux"] = abs(float(found.mean() / observed.mean()) - 1)
    if row["answered"]:
        for measure in ("psnr", "ssim"):
            true = row[f"given_{measure}"]
            row[f"gap_{measure}"] = row[f"ours_{measure}"] - true  # type: ignore[operator]
            row[f"least_{measure}"] = row[f"bound_{measure}"] - true  # type: ignore[operator]
    return row


NAMES = ("observed", "lucy", "wiener", "ours", "given")
COLUMNS = (
    *(f"{name}_{measure}" for name in NAMES for measure in ("psnr", "ssim")),
    "gap_psnr",
    "gap_ssim",
    "least_psnr",
    "least_ssim",
    "answered",
    "better",
)


def summarise(rows: Sequence[Row]) -> list[Row]:
    """Return the means, and the largest change of light, of each group."""
    means = summary(rows, COLUMNS)
    for row, part in zip(means, grouped(rows, "kind", "sigma").values(), strict=True):
        row["flux"] = round(max(float(r["flux"]) for r in part), 4)  # type: ignore[arg-type]
    return means


def table(rows: Sequence[Row]) -> str:
    """Return the Markdown table of a summary."""
    head = [
        "pictures",
        "σ",
        "observed",
        "Richardson–Lucy 20, true PSF",
        "Wiener, true PSF, best balance",
        "**ours, estimated**",
        "ours, true operator",
        "estimated against true, where answered",
        "the same at the spectrum's Cramér–Rao bound",
        "better than observed",
        "light changed by at most",
    ]
    lines = []
    for row in rows:
        cells = [f"{row[f'{n}_psnr']:.1f} / {row[f'{n}_ssim']:.3f}" for n in NAMES]
        cells[3] = f"**{cells[3]}**"
        lines.append(
            [
                f"{row['frames']} {row['kind']}",
                f"{row['sigma']:g}",
                *cells,
                f"{figure(row['gap_psnr'], '+.2f')} / "
                f"{figure(row['gap_ssim'], '+.3f')}",
                f"{figure(row['least_psnr'], '+.2f')} / "
                f"{figure(row['least_ssim'], '+.3f')}",
                f"{row['better']:.0%}",
                f"{row['flux']:.1%}",
            ]
        )
    return markdown(head, lines)


SECTION = Section("deblurring", every_frame, score, summarise, table)
