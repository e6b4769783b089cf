"""A finished session as a page: drift, alerts, PSFs, numbers; and as pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from deepblur_live.drift import clock_text
from deepblur_live.session.palette import INK
from deepblur_live.session.report.figures import (
    change_figure,
    modes_figure,
    svg,
    wavefront_figure,
)
from deepblur_live.session.report.moments import Moment, moments, psf_pictures
from deepblur_live.session.report.page import page
from deepblur_live.session.report.read import ReportError, read_session

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["ReportError", "write_report"]

_DPI = 130
_FIGURES = {
    "change": change_figure,
    "wavefront": wavefront_figure,
    "modes": modes_figure,
}


def write_report(folder: Path, to: Path | None = None) -> list[Path]:
    """Write a session's report: ``report.html``, and its pictures as PNGs beside it.

    The page needs nothing beside itself and no network.

    Parameters
    ----------
    folder
        The session's.
    to
        Where they go; the session's folder when None.

    Returns
    -------
    paths
        Of the files, the page first.

    Raises
    ------
    ReportError
        The folder holds no session, or no point.
    OSError
        A file cannot be written.
    """
    data = read_session(folder)
    to = folder if to is None else to
    to.mkdir(parents=True, exist_ok=True)
    try:
        figures = {name: draw(data) for name, draw in _FIGURES.items()}
        found = moments(data)
        pictures = psf_pictures(data, found)
        drawn = {name: svg(one, name) for name, one in figures.items()}
        text = page(data, drawn, found, pictures)
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise ReportError(
            f"{folder}: its session.json, drift.csv or events.jsonl is not as a "
            f"session writes it: {error!r}"
        ) from error
    path = to / "report.html"
    path.write_text(text, encoding="utf-8", newline="\n")
    paths = [path]
    for name, figure in figures.items():
        paths.append(to / f"report_{name}.png")
        figure.savefig(paths[-1], dpi=_DPI)
    paths.append(to / "report_psf.png")
    _side_by_side(pictures, [_caption(moment) for moment in found]).save(paths[-1])
    return paths


def _caption(moment: Moment) -> str:
    when = "" if moment.time is None else f", {clock_text(moment.time)}"
    return f"{moment.name}{when}: Strehl {moment.strehl:.2f}"


def _side_by_side(
    pictures: Sequence[Image.Image], captions: Sequence[str]
) -> Image.Image:
    width, height = pictures[0].size
    gap = width // 20
    size = (len(pictures) * (width + gap) - gap, height + 2 * gap)
    row = Image.new("RGB", size, "white")
    drawing = ImageDraw.Draw(row)
    font = ImageFont.load_default(gap)
    for k, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        row.paste(picture, (k * (width + gap), 2 * gap))
        drawing.text((k * (width + gap), gap // 3), caption, INK, font)
    return row
