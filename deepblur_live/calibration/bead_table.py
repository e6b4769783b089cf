"""All beads of a calibration as a table: those used with their numbers."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from deepblur_live.calibration.detect import USED
from deepblur_live.calibration.measures import strehl, widths

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deepblur_live.calibration.calibrate import CalibratedBead, Calibration

__all__ = ["bead_table", "place_of"]


def place_of(bead: CalibratedBead) -> tuple[float, float]:
    """Return row and column of a fitted bead in the frame, pixels."""
    assert bead.fit is not None
    return (
        bead.found.row + bead.fit.bead.row,
        bead.found.column + bead.fit.bead.column,
    )


def bead_table(calibrations: Sequence[tuple[str, Calibration]]) -> str:
    """Return all beads as CSV: one line each, the refused ones with their reason."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    noll = calibrations[0][1].model.noll
    numbers = ["z_um", "brightness", "chi2", "strehl", "fwhm_row_nm", "fwhm_column_nm"]
    head = ["file", "row", "column", "state", *numbers, "fwhm_axial_nm"]
    head += [f"noll{j}_nm" for j in noll]
    width = len(head)
    writer.writerow(head)
    for file, one in calibrations:
        for bead in one.beads:
            line = [file, *_line(one, bead)]
            writer.writerow([*line, *[""] * (width - len(line))])
    return text.getvalue()


def _line(one: Calibration, bead: CalibratedBead) -> list[object]:
    found, fit = bead.found, bead.fit
    if fit is None or found.state not in USED:
        return [found.row, found.column, str(found.state)]
    row, column = place_of(bead)
    size, wavelength = widths(one.model, fit.bead), one.model.optics.wavelength_nm
    numbers = [fit.bead.z_um, fit.bead.brightness, fit.chi2]
    numbers += [strehl(one.model, fit.coefficients), *size]
    numbers += (wavelength * fit.coefficients).tolist()
    return [
        f"{row:.3f}",
        f"{column:.3f}",
        str(found.state),
        *(f"{number:.5g}" for number in numbers),
    ]
