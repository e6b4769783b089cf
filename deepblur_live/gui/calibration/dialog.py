"""Calibrate with beads, step by step."""

from __future__ import annotations

import html
import time
from typing import TYPE_CHECKING

from deepblur_live.gui.binding import QtCore, QtWidgets, Signal
from deepblur_live.gui.calibration.beads_page import BeadsPage
from deepblur_live.gui.calibration.fit_page import FitPage
from deepblur_live.gui.calibration.optics_page import OpticsPage
from deepblur_live.gui.calibration.page import CalibrationJob
from deepblur_live.gui.calibration.result_page import ResultPage
from deepblur_live.gui.calibration.sweep_page import SweepPage

if TYPE_CHECKING:
    from deepblur_live.gui.calibration.page import Page
    from deepblur_live.session import LiveSession

__all__ = ["CalibrationDialog"]

# A sweep waits for moves of at most 5 s each, and up to 10 s for an MDA to pause.
_END_S = 30.0
_SIZE = QtCore.QSize(760, 620)


class CalibrationDialog(QtWidgets.QDialog):
    """Optics, beads, sweep, fit and result, one page each; the window stays usable.

    Parameters
    ----------
    session
        With a microscope, to sweep it; without one, recorded stacks can be fitted.
    parent
        The window.
    """

    saved = Signal(object)
    """The path of a profile that uses the calibration."""

    def __init__(
        self, session: LiveSession, parent: QtWidgets.QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("Calibrate with beads")
        job = CalibrationJob(session, session.profile)
        self.optics, self.beads = OpticsPage(job), BeadsPage(job)
        self.sweep, self.fit, self.results = (
            SweepPage(job),
            FitPage(job),
            ResultPage(job),
        )
        self.pages: tuple[Page, ...] = (
            self.optics,
            self.beads,
            self.sweep,
            self.fit,
            self.results,
        )
        self.steps = QtWidgets.QLabel()
        self.stack = QtWidgets.QStackedWidget()
        for page in self.pages:
            self.stack.addWidget(page)
            page.changed.connect(self._update)
        self.back = QtWidgets.QPushButton("Back")
        self.next = QtWidgets.QPushButton("Next")
        shut = QtWidgets.QPushButton("Close")
        row = QtWidgets.QHBoxLayout()
        row.addWidget(shut)
        row.addStretch(1)
        row.addWidget(self.back)
        row.addWidget(self.next)
        column = QtWidgets.QVBoxLayout(self)
        column.addWidget(self.steps)
        column.addWidget(self.stack, 1)
        column.addLayout(row)
        for button in self.findChildren(QtWidgets.QPushButton):
            # Enter in a field must not press a button.
            button.setAutoDefault(False)
        self.resize(_SIZE)
        self.back.clicked.connect(self._on_back)
        self.next.clicked.connect(self._on_next)
        shut.clicked.connect(self.close)
        self.fit.finished.connect(self._on_finished)
        self.results.another.connect(self._on_another)
        self.results.saved.connect(self.saved)
        self._update()

    @property
    def page(self) -> Page:
        """The step that is shown."""
        return self.pages[self.stack.currentIndex()]

    def go(self, index: int) -> None:
        """Show a step."""
        self.page.leave()
        self.fit.step_um = self.sweep.step_um
        self.stack.setCurrentIndex(index)
        self.page.enter()
        self._update()

    def end(self, timeout_s: float = _END_S) -> bool:
        """End all steps and return the focus drive; False if one still runs."""
        until = time.monotonic() + timeout_s
        ended = [page.end(max(0.1, until - time.monotonic())) for page in self.pages]
        return all(ended)

    def _on_back(self) -> None:
        self.go(self.stack.currentIndex() - 1)

    def _on_next(self) -> None:
        self.go(self.stack.currentIndex() + 1)

    def _on_finished(self) -> None:
        if self.page is self.fit:
            self.go(self.pages.index(self.results))

    def _on_another(self) -> None:
        self.go(self.pages.index(self.sweep))

    def _update(self) -> None:
        at, page = self.stack.currentIndex(), self.page
        names = [
            f"<b>{number} {html.escape(one.title)}</b>"
            if one is page
            else f"{number} {html.escape(one.title)}"
            for number, one in enumerate(self.pages, 1)
        ]
        self.steps.setText("&nbsp;&nbsp;›&nbsp;&nbsp;".join(names))
        self.back.setEnabled(at > 0 and not page.busy)
        last = at == len(self.pages) - 1
        self.next.setVisible(not last)
        self.next.setText(page.following)
        self.next.setEnabled(not last and not page.busy and not page.problem)
        self.next.setToolTip("" if last else page.problem)
