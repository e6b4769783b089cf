"""A plot's title, which also states its limits and is never wider than the plot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.gui.binding import QtCore, pg

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from deepblur_live.gui.theme import Colours

__all__ = ["PlotTitle"]


class PlotTitle(pg.LabelItem):  # type: ignore[misc]
    """The longest of several wordings that fits, and the limits if there is room.

    The limits are written here and not at their lines: in a low plot, a text at a line
    would be crossed by the curve and by the other line.

    Parameters
    ----------
    wordings
        The same title, the longest first; the last is shown wherever none fits.
    limits
        Texts of the limits by ``"warn"`` and ``"alarm"``.
    """

    def __init__(
        self, wordings: Sequence[str], limits: Mapping[str, str] | None = None
    ) -> None:
        self._wordings = tuple(wordings)
        self._limits = dict(limits or {})
        self._colours: Colours | None = None
        super().__init__(self._wordings[-1], size="9pt", justify="left")
        self._explain()

    def set_limits(self, limits: Mapping[str, str]) -> None:
        """Show other limits from now on."""
        if dict(limits) == self._limits:
            return
        self._limits = dict(limits)
        self._explain()
        self._write()

    def set_colours(self, colours: Colours) -> None:
        """Take the colours that fit the host's palette."""
        self._colours = colours
        self.opts["color"] = colours.muted
        self._write()

    def updateMin(self) -> None:
        """Demand the height of a line, and no width: the plots share it equally."""
        height = self.itemRect().height()
        hint = QtCore.Qt.SizeHint
        self._sizeHint = {
            hint.MinimumSize: (0, height),
            hint.PreferredSize: (0, height),
            hint.MaximumSize: (-1, height),
        }
        self.updateGeometry()

    def resizeEvent(self, event: object) -> None:
        """Choose the wording for the new width."""
        super().resizeEvent(event)
        if event is not None:  # else it is the label's own, after a change of text
            self._write()

    def _explain(self) -> None:
        limits = [f"{name} {text}" for name, text in self._limits.items()]
        if limits:
            limits.append("dotted while a change is not judged, or not certain yet")
        self.setToolTip("\n".join((self._wordings[0], *limits)))

    def _write(self) -> None:
        limits = "".join(self._limit_text(name) for name in self._limits)
        texts = [wording + limits for wording in self._wordings] if limits else []
        for text in (*texts, *self._wordings):
            self.setText(text)
            if self.itemRect().width() <= self.rect().width():
                break

    def _limit_text(self, name: str) -> str:
        colour = "" if self._colours is None else getattr(self._colours, name)
        text = f"{name} {self._limits[name]}"
        return f"&nbsp; <span style='color: {colour}'>{text}</span>"
