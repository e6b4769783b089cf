"""The present coefficients as a table, which is the legend of their curves."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.blur import ResolvedBy
from deepblur_live.blur.charted import charted
from deepblur_live.gui.binding import QtCore, QtWidgets
from deepblur_live.session.display_unit import coefficient_unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deepblur_live.blur import BlurFamily
    from deepblur_live.profile import Profile
    from deepblur_live.session.history import History

__all__ = ["CoefficientTable"]

# From this many curves on, the table has a smaller type.
_MANY, _SMALL_PX = 12, 11
# Bounds the decimals of a family without coefficients, which are not shown.
_LEAST_SCALE = 1e-3


class CoefficientTable(QtWidgets.QLabel):
    """Colour, name, present value and its deviation; and the true value, if known.

    The tooltip explains the ambiguities that nothing resolves.

    Parameters
    ----------
    profile, family
        Those of the session.
    """

    def __init__(self, profile: Profile, family: BlurFamily) -> None:
        super().__init__()
        self._names = family.names[: charted(family)]
        self._display = profile.display
        self.use_family(family)
        calibrated = profile.model.calibration is not None
        self._origin = " from the calibration's mean" if calibrated else ""
        self.setTextFormat(QtCore.Qt.TextFormat.RichText)
        self.setAlignment(QtCore.Qt.AlignmentFlag.AlignTop)
        self.setContentsMargins(0, 6, 0, 0)
        ambiguities = (
            symmetry.explanation
            for symmetry in family.symmetries
            if symmetry.resolved_by is ResolvedBy.NEVER
        )
        self.setToolTip("\n".join(filter(None, ambiguities)))

    def use_family(self, family: BlurFamily) -> None:
        """Show the coefficients in the units of another wavelength from now on."""
        self._unit = coefficient_unit(family, self._display)
        largest = float(np.max(family.prior.scale, initial=_LEAST_SCALE))
        self._decimals = self._unit.decimals(largest)
        self._history: History | None = None

    def show_history(
        self, history: History | None, colours: Sequence[str], muted: str
    ) -> None:
        """Show the latest point.

        Parameters
        ----------
        history
            History of the session; None shows the previous point again.
        colours
            Colours of the curves.
        muted
            Colour of the heading and the note.
        """
        self._history = history = history or self._history
        known = history is not None and bool(np.isfinite(history.truth[-1]).any())
        head = "<td></td><td></td><td align=right>&nbsp;now</td><td>&nbsp;± σ</td>"
        head += "<td align=right>&nbsp;&nbsp;true</td>" if known else ""
        rows = [f"<tr style='color:{muted}'>{head}</tr>"]
        scale, decimals = self._unit.scale, self._decimals
        for k, name in enumerate(self._names):
            cells = f"<td><font color='{colours[k]}'>━━</font></td>"
            cells += f"<td>{html.escape(name)}</td>"
            if history is not None:
                now = _signed(scale * history.coefficients[-1, k], decimals)
                sigma = scale * history.sigma[-1, k]
                cells += f"<td align=right>&nbsp;{now}</td>"
                cells += f"<td>&nbsp;± {sigma:.{decimals}f}</td>"
                if known:
                    true = _signed(scale * history.truth[-1, k], decimals)
                    cells += f"<td align=right>&nbsp;&nbsp;{true}</td>"
            rows.append(f"<tr>{cells}</tr>")
        dashed = " · dashed: true" if known else ""
        unit = self._unit.name + self._origin
        note = f"<p style='color:{muted}'>{unit} · band: ±1σ{dashed}</p>"
        # A field has so many that they only fit in small type.
        many = len(self._names) > _MANY
        table = f"<table cellspacing={0 if many else 2}>{''.join(rows)}</table>{note}"
        size = f"<div style='font-size: {_SMALL_PX}px'>{table}</div>"
        self.setText(size if many else table)


def _signed(value: float, decimals: int) -> str:
    if not math.isfinite(value):
        return "–"
    # Adding zero turns a rounded −0 into 0.
    return f"{round(value, decimals) + 0.0:+.{decimals}f}".replace("-", "−")
