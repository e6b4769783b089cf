"""What one gets without a known PSF: the theoretical one, or a classical blind method.

On the first blur of each picture; the unsupervised Wiener filter, which is given the
true PSF, shows what not knowing the noise costs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from deepblur_live.optics import extend, psf_snr
from evaluation.case import Case, Spec, every_frame
from evaluation.classical import (
    best_wiener,
    blind_richardson_lucy,
    richardson_lucy,
    unsupervised,
)
from evaluation.deblurring import INNER, closeness, ours
from evaluation.section import Row, Section, markdown, summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evaluation.plan import Plan

__all__ = ["SECTION"]

NAMES = {
    "observed": "observed",
    "lucy_focus": "Richardson–Lucy 20, in-focus PSF",
    "wiener_focus": "Wiener, in-focus PSF, best balance",
    "blind_lucy": "blind Richardson–Lucy",
    "unsupervised": "unsupervised Wiener, true PSF",
    "ours": "**ours, estimated**",
}


def first_blurs(plan: Plan) -> list[Spec]:
    """Return one frame for each picture and noise level."""
    return every_frame(replace(plan, blurs=1))


def score(case: Case) -> Row:
    """Return PSNR and SSIM of each method, and the blind one's PSF SNR in dB."""
    frame = case.frame
    truth = frame.truth.numpy()
    focus = case.family.psf(torch.zeros(case.family.n_coefficients))
    whole = extend(frame.observed, case.family.window - 1)
    size = tuple(slice(0, n) for n in truth.shape)
    image, psf = blind_richardson_lucy(whole, focus)
    row = (
        closeness("observed", frame.observed.numpy(), truth)
        | closeness("lucy_focus", richardson_lucy(whole, focus).numpy()[size], truth)
        | closeness("wiener_focus", best_wiener(whole, focus, truth, INNER), truth)
        | closeness("blind_lucy", image.numpy()[size], truth)
        | closeness("unsupervised", unsupervised(whole, case.psf)[size], truth)
        | closeness("ours", ours(case).numpy(), truth)
    )
    row["focus_psf"] = float(psf_snr(focus, case.psf))
    row["blind_psf"] = float(psf_snr(psf, case.psf))
    return row


COLUMNS = (
    *(f"{name}_{measure}" for name in NAMES for measure in ("psnr", "ssim")),
    "focus_psf",
    "blind_psf",
)


def table(rows: Sequence[Row]) -> str:
    """Return the Markdown table of a summary."""
    head = ["pictures", "σ", *NAMES.values(), "PSF SNR: in focus, blind"]
    lines = []
    for row in rows:
        cells = [f"{row[f'{n}_psnr']:.1f} / {row[f'{n}_ssim']:.3f}" for n in NAMES]
        cells[-1] = f"**{cells[-1]}**"
        lines.append(
            [
                f"{row['frames']} {row['kind']}",
                f"{row['sigma']:g}",
                *cells,
                f"{row['focus_psf']:.1f}, {row['blind_psf']:.1f}",
            ]
        )
    return markdown(head, lines)


SECTION = Section(
    "baselines", first_blurs, score, lambda rows: summary(rows, COLUMNS), table
)
