"""The report as one HTML page that needs nothing beside itself."""

from __future__ import annotations

import html
import json
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.drift import clock_text
from deepblur_live.session.palette import STATES
from deepblur_live.session.report.alerts import alerts_table
from deepblur_live.session.report.moments import psf_picture
from deepblur_live.session.report.numbers import (
    frames_table,
    tiles,
    time_in_states,
    tracking_table,
    verdict,
    versions_table,
)
from deepblur_live.session.report.style import STYLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from PIL import Image

    from deepblur_live.session.report.moments import Moment
    from deepblur_live.session.report.read import SessionData

__all__ = ["page"]


def page(
    data: SessionData,
    figures: Mapping[str, str],
    found: Sequence[Moment],
    pictures: Sequence[Image.Image],
) -> str:
    """Return the page.

    Parameters
    ----------
    figures
        SVGs: ``"change"``, ``"wavefront"`` and ``"modes"``.
    found, pictures
        Moments and the pictures of their PSFs.
    """
    said = html.escape
    name = f"{data.profile.name}, {data.folder.name}"
    parts = [
        f"<h1>{said(data.profile.name)}</h1>",
        f"<p class=muted>{said(_when(data))}</p>",
        f"<p class=verdict>{verdict(data)}</p>",
        tiles(data),
        _section(
            "Change of the wavefront from the baseline",
            figures["change"],
            _state_legend(data),
            "Band: ± 1 σ. Vertical lines: alerts. The strip shows the state.",
        ),
        _section("Alerts", alerts_table(data)),
        _section("The point spread function", _psfs(data, found, pictures)),
        _section(
            "Drift of each mode",
            figures["modes"],
            "",
            "Bands: ± 1 σ and 95 %. Dashed: so far from the baseline, a mode would "
            f"raise the alarm by itself.{_truth_note(data)}",
        ),
        _section("Wavefront error and Strehl ratio", figures["wavefront"]),
        _section("Coefficients", _coefficients(data, found)),
        "<section><div class=two>"
        f"<div><h2>Frames</h2>{frames_table(data)}</div>"
        f"<div><h2>Tracking</h2>{tracking_table(data)}</div></div></section>",
        _section("Model and versions", versions_table(data), _details(data)),
    ]
    return (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"<title>{said(name)}</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def _when(data: SessionData) -> str:
    started = str(data.about.get("started", ""))[:19].replace("T", " ")
    optics = data.profile.optics
    rig = (
        f"NA {optics.numerical_aperture:g}, {optics.wavelength_nm:g} nm, "
        f"pixels of {optics.pixel_size_nm:g} nm"
    )
    return f"Session of {started} · {rig} · folder {data.folder.name}"


def _section(title: str, *parts: str) -> str:
    *content, last = parts
    if last and not last.startswith("<"):
        last = f"<p class=note>{last}</p>"
    return f"<section><h2>{title}</h2>{''.join(content)}{last}</section>"


def _state_legend(data: SessionData) -> str:
    shares = time_in_states(data)
    items = [
        f'<li><i style="background:{STATES.get(state, "#888")}"></i>'
        f"{html.escape(state)} {clock_text(seconds)}</li>"
        for state, seconds in shares.items()
    ]
    return f"<ul class=legend>{''.join(items)}</ul>"


def _psfs(
    data: SessionData, found: Sequence[Moment], pictures: Sequence[Image.Image]
) -> str:
    wavelength = data.profile.optics.wavelength_nm
    figures = []
    for moment, picture in zip(found, pictures, strict=True):
        at = "" if moment.time is None else f" {clock_text(moment.time)}"
        if moment.time is None:
            words = "no aberration"
        else:
            words = f"Strehl {moment.strehl:.2f}, {moment.rms * wavelength:.0f} nm rms"
        figures.append(
            f'<figure><img src="{psf_picture(picture)}" alt="PSF, {moment.name}">'
            f"<figcaption><b>{moment.name}{at}</b>{words}</figcaption></figure>"
        )
    note = (
        "<p class=note>1.6 µm wide, all on one scale; the square root of the intensity "
        "is shown, so that the rings are seen. Worst: the largest change from the "
        "baseline.</p>"
    )
    return f"<div class=psfs>{''.join(figures)}</div>{note}"


def _coefficients(data: SessionData, found: Sequence[Moment]) -> str:
    wavelength = data.profile.optics.wavelength_nm
    real = [moment for moment in found if moment.time is not None]
    if not real:
        return "<p class=muted>Nothing was tracked.</p>"
    head = "".join(f"<th class=n>{moment.name}</th>" for moment in real)
    rows = []
    for k, mode in enumerate(data.modes):
        cells = "".join(
            f"<td class=n>{_signed(moment.coefficients[k] * wavelength)} ± "
            f"{moment.sigma[k] * wavelength:.0f}</td>"
            for moment in real
        )
        moved = (real[-1].coefficients[k] - real[0].coefficients[k]) * wavelength
        rows.append(
            f"<tr><td>{html.escape(mode)}</td>{cells}"
            f"<td class=n>{_signed(moved)}</td></tr>"
        )
    return (
        f"<div class=scroll><table><tr><th>nm rms</th>{head}"
        f"<th class=n>end − start</th></tr>{''.join(rows)}</table></div>"
        "<p class=note>The common sign of all even modes (defocus, astigmatisms, "
        "spherical) cannot be told from in-focus images.</p>"
    )


def _truth_note(data: SessionData) -> str:
    known = np.isfinite(data.coefficients("truth_")).any()
    return " Thin and dashed: the truth, which is known here." if known else ""


def _details(data: SessionData) -> str:
    profile = json.dumps(data.about.get("profile", {}), indent=2, ensure_ascii=False)
    lines = [json.dumps(event, ensure_ascii=False) for event in data.events[-500:]]
    return (
        f"<details><summary>Profile</summary><pre>{html.escape(profile)}</pre></details>"
        f"<details><summary>Events ({len(data.events)})</summary>"
        f"<pre>{html.escape(chr(10).join(lines))}</pre></details>"
    )


def _signed(value: float) -> str:
    return f"{round(value) + 0:+d}".replace("-", "−") if round(value) else "0"
