"""Step 2: the beads in the live frame, circled, with the reason if one is unusable."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.gui.binding import QtCore, QtWidgets, pg
from deepblur_live.gui.calibration.page import Page, text_label
from deepblur_live.gui.contrast import AutoContrast
from deepblur_live.gui.image_pane import ImagePane
from deepblur_live.session.bead_search import BeadsInView, beads_in_view

if TYPE_CHECKING:
    from deepblur_live.gui.calibration.page import CalibrationJob
    from deepblur_live.runtime.frame import FrameResult

__all__ = ["BeadsPage"]

_POLL_MS = 100
# Shortest time between two searches, and in times of a search, which takes a core
# 0.05 s to 2.4 s (2048 x 2048 pixels).
_EVERY_S, _PAUSE = 1.0, 3.0
_JOIN_S = 5.0
_USABLE, _REFUSED = "#56b4e9", "#e69f00"
_NO_FRAMES = (
    "No frames yet. Start live mode in the window, or continue with a recorded stack."
)


class BeadsPage(Page):
    """Looks for beads in each new frame, on a thread of its own."""

    title = "Find beads"

    def __init__(self, job: CalibrationJob) -> None:
        super().__init__(job)
        self._thread: threading.Thread | None = None
        self._outcome: tuple[FrameResult, BeadsInView | Exception] | None = None
        self._searched: FrameResult | None = None
        self._begun, self._wait_s = -float("inf"), _EVERY_S
        self.found: BeadsInView | None = None
        self._pixel_nm = job.rig.optics.pixel_size_nm
        self._contrast = AutoContrast(job.session.profile.display.clip_percent)
        self.pane = self._make_pane()
        self.count, self.advice = text_label(), text_label()
        font = self.count.font()
        font.setBold(True)
        self.count.setFont(font)
        column = QtWidgets.QVBoxLayout(self)
        column.addWidget(
            text_label(
                "Focus on the beads. Those in blue circles can be used, those in "
                "dashed orange circles cannot: point at one to see why."
            )
        )
        column.addWidget(self.pane, 1)
        column.addWidget(self.count)
        column.addWidget(self.advice)
        self._timer = QtCore.QTimer(self)
        self._timer.setInterval(_POLL_MS)
        self._timer.timeout.connect(self._on_timer)

    def enter(self) -> None:
        """Search the present frame again, as the optics may have changed."""
        if self.job.rig.optics.pixel_size_nm != self._pixel_nm:
            # A pane's scale bar cannot be changed.
            self._pixel_nm = self.job.rig.optics.pixel_size_nm
            old, self.pane = self.pane, self._make_pane()
            layout = self.layout()
            assert layout is not None
            layout.replaceWidget(old, self.pane)
            old.deleteLater()
        self._searched, self._begun = None, -float("inf")
        self._timer.start()

    def leave(self) -> None:
        """Stop searching."""
        self._timer.stop()

    def end(self, timeout_s: float) -> bool:
        """Wait for the present search."""
        self.leave()
        if self._thread is not None:
            self._thread.join(min(timeout_s, _JOIN_S))
            return not self._thread.is_alive()
        return True

    def _make_pane(self) -> ImagePane:
        pane = ImagePane(self._pixel_nm)
        pane.setMinimumHeight(200)
        self.circles = pg.ScatterPlotItem(pxMode=False, brush=None)
        pane.view_box.addItem(self.circles, ignoreBounds=True)
        pane.pointed.connect(self._on_pointed)
        pane.show_nothing(_NO_FRAMES)
        return pane

    def _on_timer(self) -> None:
        outcome, self._outcome = self._outcome, None
        if outcome is not None:
            self._show(*outcome)
        self.pane.paint_if_needed()
        latest = self.job.session.listener.latest
        busy = self._thread is not None and self._thread.is_alive()
        now = time.monotonic()
        if (
            latest is None
            or latest is self._searched
            or busy
            or now - self._begun < self._wait_s
        ):
            return
        self._searched, self._begun = latest, now
        rig, bead_nm = self.job.rig, self.job.bead_nm

        def search() -> None:
            try:
                found: BeadsInView | Exception = beads_in_view(latest.raw, rig, bead_nm)
            except Exception as error:  # shown on the page
                found = error
            self._outcome = latest, found
            self._wait_s = max(_EVERY_S, _PAUSE * (time.monotonic() - now))

        self._thread = threading.Thread(target=search, name="bead search", daemon=True)
        self._thread.start()

    def _show(self, frame: FrameResult, found: BeadsInView | Exception) -> None:
        if isinstance(found, Exception):
            self.found = None
            self.circles.clear()
            self.count.setText("The search for beads failed")
            self.advice.setText(str(found) or type(found).__name__)
            return
        self.found = found
        levels = self._contrast.update(frame.raw)
        self.pane.show_image(frame.raw, f"frame {frame.info.number}", levels)
        solid = pg.mkPen(_USABLE, width=2)
        dashed = pg.mkPen(_REFUSED, width=1.5, style=QtCore.Qt.PenStyle.DashLine)
        self.circles.setData(
            # The middle of a pixel is at a half.
            x=[bead.column + 0.5 for bead in found.beads],
            y=[bead.row + 0.5 for bead in found.beads],
            size=found.side,
            pen=[solid if bead.refusal is None else dashed for bead in found.beads],
        )
        self.count.setText(found.text)
        self.advice.setText(" ".join(found.advice) or "Ready for the sweep.")

    def _on_pointed(self, point: tuple[int, int] | None) -> None:
        text = ""
        if point is not None and self.found is not None and self.found.beads:
            beads = self.found.beads
            away = [np.hypot(b.column - point[0], b.row - point[1]) for b in beads]
            nearest = int(np.argmin(away))
            if away[nearest] <= self.found.side / 2:
                text = str(beads[nearest].refusal or "usable")
        self.pane.set_readout(text)
