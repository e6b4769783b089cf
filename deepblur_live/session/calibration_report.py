"""The report of a calibration: what to redo first, then beads, modes, pictures."""

from __future__ import annotations

import html
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.calibration.measures import strehl, widths
from deepblur_live.calibration.verdict import advice
from deepblur_live.optics.zernike import MODE_NAMES
from deepblur_live.session.calibration_field import field_figure
from deepblur_live.session.calibration_figures import (
    map_figure,
    modes_figure,
    pictures_figure,
    widths_figure,
)
from deepblur_live.session.figure_style import svg
from deepblur_live.session.report.markup import chip, code, style, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deepblur_live.calibration import Calibration, CalibrationManifest
    from deepblur_live.calibration.measures import Widths

__all__ = ["write_calibration_report"]

_REPORT = "report.html"


def write_calibration_report(
    folder: Path, manifest: CalibrationManifest, calibrations: Sequence[Calibration]
) -> Path:
    """Write ``report.html``, which needs no other file, and return its path.

    Parameters
    ----------
    folder
        Folder of the calibration.
    manifest, calibrations
        The manifest that was saved, and one calibration for each of its states.
    """
    template = Template(
        Path(__file__).with_name("calibration_report.html").read_text("utf-8")
    )
    optics = manifest.optics
    rig = (
        f"NA {optics.numerical_aperture:g}, {optics.wavelength_nm:g} nm, index "
        f"{optics.refractive_index:g}, pixels of {optics.pixel_size_nm:g} nm"
    )
    states = [
        _state(number, state.file, one)
        for number, (state, one) in enumerate(
            zip(manifest.states, calibrations, strict=True)
        )
    ]
    files = {state.file: state.sha256 for state in manifest.states} | manifest.files
    page = template.substitute(
        style=style(),
        name=html.escape(manifest.name),
        created=html.escape(manifest.created[:16].replace("T", " ")),
        program=html.escape(manifest.program),
        rig=html.escape(rig),
        bead=f"{manifest.bead_diameter_nm:g}",
        states="".join(states),
        files=table(
            [[html.escape(name), code(digest or "–")] for name, digest in files.items()]
        ),
    )
    path = folder / _REPORT
    path.write_text(page, encoding="utf-8")
    return path


def _state(number: int, file: str, one: Calibration) -> str:
    """Return the sections of one stack."""
    sizes = [widths(one.model, bead.fit.bead) for bead in one.used if bead.fit]

    def figure(name: str, drawn: object) -> str:
        return svg(drawn, f"{name}{number}")  # type: ignore[arg-type]

    return f"""
<h2 style="margin-top:28px">{html.escape(file)}</h2>
{_verdict(one)}
<div class=tiles>{_tiles(one, sizes)}</div>
<section><h2>Where the beads are</h2>{figure("map", map_figure(one))}
<p class=note>Crosses: not used, with the reason. Right: the position of the focus drive
at which each bead is sharp; a plane means a tilted slide, a bowl field curvature.</p>
</section>
<section><h2>Wavefront</h2>{figure("modes", modes_figure(one))}
<p class=note>Bars: in the middle of the field. Error bars: scatter of single beads
about the trend over the field, ± 1 σ. Grey: range of that trend between the edges.</p>
{_modes(one)}</section>
<section><h2>Over the field</h2>{figure("field", field_figure(one))}
<p class=note>{_field(one)}</p></section>
<section><h2>Width of the beads</h2>{figure("widths", widths_figure(one, sizes))}
<p class=note>Full widths at half maximum of the fitted model, the bead's own size
included.</p></section>
<section><h2>Measured, model and residuals</h2>
{figure("pictures", pictures_figure(one))}
<p class=note>A typical bead. Intensities are drawn as square roots, differences
linearly, blue where the model is too bright. The residual is the mean difference
between all beads and the pupil's model.</p></section>"""


def _field(one: Calibration) -> str:
    length = one.field.length * max(one.trend.shape)
    smooth = (
        f"It varies over about {length:.0f} pixels."
        if one.field.ratios.any()
        else "The polynomial is sufficient."
    )
    return (
        "The modes that vary most, and the error of all: a polynomial and a Gaussian "
        f"process through the beads (dots). {smooth} Hatched: too far from any bead, "
        "with more than twice the error at the beads and more than 0.004 waves rms; "
        "record more beads there."
    )


def _verdict(one: Calibration) -> str:
    found = advice(one)
    redo = any(item.redo for item in found)
    if redo:
        text = f"{chip('alarm')}Do not use it: record the slide again."
    elif found:
        text = f"{chip('ok')}Usable; see the remarks."
    else:
        text = f"{chip('ok')}Usable; nothing to redo."
    items = "".join(f"<li>{html.escape(item.text)}</li>" for item in found)
    listed = f"<ul>{items}</ul>" if items else ""
    return f"<p class=verdict>{text}</p>{listed}"


def _tiles(one: Calibration, sizes: Sequence[Widths]) -> str:
    judged, middle = one.held_out, one.trend.terms[0]
    nm = one.model.optics.wavelength_nm
    tiles = [
        (f"{len(one.used)} of {len(one.beads)}", "beads used"),
        ("–" if judged is None else f"{judged.total_db:.1f} dB", "held-out beads"),
        ("–" if judged is None else f"{judged.pupil_db:.1f} dB", "by the pupil alone"),
        (f"{nm * float(np.linalg.norm(middle)):.0f} nm", "wavefront rms"),
        (f"{strehl(one.model, middle):.2f}", "Strehl, middle of the field"),
        (f"{np.median([s.lateral for s in sizes]):.0f} nm", "lateral FWHM, median"),
        (f"{np.median([s.axial for s in sizes]):.0f} nm", "axial FWHM, median"),
        (f"{np.median([s.asymmetry for s in sizes]):.2f}", "asymmetry, median"),
        (f"{one.blur_nm:.0f} nm", "Gaussian blur, σ"),
        (f"{one.scatter_nm:.1f} nm", "scatter between beads"),
    ]
    return "".join(
        f"<div class=tile><b>{html.escape(value)}</b><span>{html.escape(name)}</span>"
        "</div>"
        for value, name in tiles
    )


def _modes(one: Calibration) -> str:
    nm, count = one.model.optics.wavelength_nm, len(one.used)
    rows = []
    for k, j in enumerate(one.model.noll):
        mean, along_rows, along_columns = nm * one.trend.terms[:, k]
        scatter = nm * one.trend.scatter[k]
        rows.append(
            [
                str(j),
                MODE_NAMES.get(j, ""),
                f"{mean:+.1f} ± {scatter / np.sqrt(count):.1f}",
                f"{scatter:.1f}",
                f"{along_rows:+.1f}",
                f"{along_columns:+.1f}",
            ]
        )
    head = ("Noll", "mode", "nm rms", "scatter", "bottom − top", "right − left")
    return table(rows, head, numeric=(0, 2, 3, 4, 5))
