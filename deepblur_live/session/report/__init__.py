"""A finished session as an HTML page and as pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg

from deepblur_live.session.figure_style import svg
from deepblur_live.session.report.figures import (
    change_figure,
    coefficients_figure,
    overview_figure,
    quality_figure,
)
from deepblur_live.session.report.moments import moments, reference
from deepblur_live.session.report.page import page
from deepblur_live.session.report.psf_figure import psf_figure
from deepblur_live.session.report.read import ReportError, read_session
from deepblur_live.session.report.stored import StoredBlurs, write_stored

if TYPE_CHECKING:
    from pathlib import Path

    from deepblur_live.session.report.read import SessionData

__all__ = ["ReportError", "save_blurs", "save_overview", "write_report"]

_DPI = 130


def write_report(folder: Path, to: Path | None = None) -> list[Path]:
    """Write a session's report: ``report.html``, and its figures as PNG.

    The page needs no other file and no network.

    Parameters
    ----------
    folder
        The session's folder.
    to
        Folder for the files; the session's folder if None.

    Returns
    -------
    paths
        Paths of the files, the page first.

    Raises
    ------
    ReportError
        The folder contains no session, or the session no results.
    OSError
        A file cannot be written.
    """
    data = read_session(folder)
    to = folder if to is None else to
    to.mkdir(parents=True, exist_ok=True)
    try:
        shown = moments(data)
        figures = {
            "change": change_figure(data),
            "psf": psf_figure(data, [*shown, reference(data)]),
            "coefficients": coefficients_figure(data),
            "quality": quality_figure(data),
        }
        drawn = {name: svg(figure, name) for name, figure in figures.items()}
        text = page(data, drawn, shown)
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise ReportError(
            f"{folder}: session.json, drift.csv or events.jsonl is damaged, or was not "
            f"written by a session: {error!r}"
        ) from error
    paths = [to / "report.html", *(to / f"report_{name}.png" for name in figures)]
    try:
        paths[0].write_text(text, encoding="utf-8", newline="\n")
        for path, figure in zip(paths[1:], figures.values(), strict=True):
            # Keep the layout of the page: computing it takes as long as drawing.
            figure.set_layout_engine("none")
            figure.set_dpi(_DPI)
            # `savefig` would draw twice.
            canvas = FigureCanvasAgg(figure)
            fast = {"compress_level": 3}
            canvas.print_png(path, pil_kwargs=fast)  # type: ignore[no-untyped-call]
    except PermissionError as error:
        raise PermissionError(
            f"{error.filename}: cannot be written: it is open in another program, or "
            "write-protected: close it there, or give another folder as --output"
        ) from error
    return paths


def save_blurs(data: SessionData, path: Path) -> None:
    """Write ``report.npz`` with the PSFs of the report, so that it is quick to write.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    facts = {one.profile.optics.wavelength_nm: one.family for one in data.series}
    shown = (*moments(data), reference(data))
    write_stored(path, data.about["profile"], StoredBlurs(facts, shown))


def save_overview(data: SessionData, path: Path) -> None:
    """Write a PNG of a session: coefficients, change from the baseline, state.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    overview_figure(data).savefig(path, dpi=110)
