"""The dialog of a focus sweep: start it, read the result, refocus or keep the focus.

It also checks the estimate by a step of the focus drive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.blur.one_psf import local_family
from deepblur_live.gui.binding import QtCore, QtGui, QtWidgets
from deepblur_live.gui.work_bar import WorkBar
from deepblur_live.identification import FocusCheck
from deepblur_live.session.check_report import check_text
from deepblur_live.session.focus_check import check_session
from deepblur_live.session.focus_sweep import (
    SessionSweep,
    accept_sweep,
    refocus_session,
    sweep_session,
)
from deepblur_live.session.sweep_report import sweep_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from deepblur_live.session import LiveSession

__all__ = ["SweepDialog"]

# A sweep waits for moves of at most 5 s each, and up to 10 s for an MDA to pause.
_END_S = 30.0
_STEP_NM = 300.0


class SweepDialog(QtWidgets.QDialog):
    """Sweeps a session's focus drive on a separate thread.

    Parameters
    ----------
    session
        A session with a microscope.
    parent
        The window.
    """

    def __init__(
        self, session: LiveSession, parent: QtWidgets.QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("Focus sweep")
        self._session = session
        # The latest result, until it is accepted or another sweep is started.
        self._sweep: SessionSweep | None = None
        self.step = QtWidgets.QDoubleSpinBox()
        self.step.setRange(20.0, 2000.0)
        self.step.setDecimals(0)
        self.step.setSuffix(" nm")
        self.step.setValue(_STEP_NM)
        self.start = QtWidgets.QPushButton("Sweep")
        self.start.setToolTip(
            "Move the focus drive by one step to each side and back; three frames"
        )
        self.check = QtWidgets.QPushButton("Check the estimate …")
        self.check.setToolTip(
            "Move the focus drive by one step to each side and back, and see whether "
            "the estimate follows"
        )
        self.progress = WorkBar("focus sweep")
        self.progress.done.connect(self._on_done)
        self.answer = QtWidgets.QLabel(
            "Three frames of the same specimen, one step apart. Live mode or a running "
            "MDA pauses for a moment; the focus drive returns to its present position."
        )
        self.answer.setWordWrap(True)
        self.answer.setTextInteractionFlags(
            QtCore.Qt.TextInteractionFlag.TextSelectableByMouse
        )
        fixed = QtGui.QFontDatabase.SystemFont.FixedFont
        self._fixed = QtGui.QFontDatabase.systemFont(fixed)
        self.refocus = QtWidgets.QPushButton("Refocus")
        self.refocus.setToolTip(
            "Move the focus drive, and measure a new baseline there; identification "
            "continues from this result, and is compared with it"
        )
        self.keep = QtWidgets.QPushButton("Keep this focus")
        self.keep.setToolTip(
            "Measure a new baseline here; identification continues from this result, "
            "and is compared with it"
        )
        self._offer()
        row = QtWidgets.QHBoxLayout()
        row.addWidget(QtWidgets.QLabel("Step"))
        row.addWidget(self.step)
        row.addWidget(self.start)
        row.addWidget(self.check)
        row.addWidget(self.progress, 1)
        column = QtWidgets.QVBoxLayout(self)
        column.addLayout(row)
        column.addWidget(self.answer)
        below = QtWidgets.QHBoxLayout()
        below.addWidget(self.refocus)
        below.addWidget(self.keep)
        column.addLayout(below)
        self.setMinimumWidth(560)
        self.start.clicked.connect(self._on_start)
        self.check.clicked.connect(self._on_check)
        self.refocus.clicked.connect(self._on_refocus)
        self.keep.clicked.connect(self._on_keep)

    def end(self, timeout_s: float = _END_S) -> bool:
        """Wait for a running sweep; False after `timeout_s` seconds."""
        return self.progress.end(timeout_s)

    def _on_start(self) -> None:
        session, step_um = self._session, self.step.value() / 1000
        self._sweep = None
        self._run(lambda advance: sweep_session(session, step_um, advance))

    def _on_check(self) -> None:
        step = self.step.value()
        buttons = QtWidgets.QMessageBox.StandardButton
        answer = QtWidgets.QMessageBox.question(
            self,
            "Check the estimate",
            f"Move the focus drive by {step:.0f} nm to each side and back? Live mode "
            "or a running MDA pauses for four frames.",
            buttons.Yes | buttons.No,
        )
        if answer == buttons.Yes:
            session = self._session
            self._run(lambda advance: check_session(session, step / 1000, advance))

    def _on_refocus(self) -> None:
        session, sweep = self._session, self._sweep
        if sweep is not None:
            furthest = session.profile.optics.defocus_range_um

            def refocus(_: object) -> str:
                refocus_session(session, sweep, furthest)
                return "Refocused. A new baseline is being measured."

            self._run(refocus)

    def _on_keep(self) -> None:
        session, sweep = self._session, self._sweep
        if sweep is not None:

            def keep(_: object) -> str:
                accept_sweep(session, sweep)
                return "Accepted. A new baseline is being measured."

            self._run(keep)

    def _run(
        self,
        work: Callable[[Callable[[float], None]], SessionSweep | FocusCheck | str],
    ) -> None:
        """Start a sweep or a check, or apply the result of a sweep."""
        self.start.setEnabled(False)
        self.check.setEnabled(False)
        self.refocus.setEnabled(False)
        self.keep.setEnabled(False)
        self.progress.work(work)

    def _offer(self) -> None:
        """Enable the buttons that apply to the present result, if there is one."""
        sweep, thin, near = self._sweep, False, False
        if sweep is not None:
            furthest = self._session.profile.optics.defocus_range_um
            thin, near = not sweep.thick, abs(sweep.refocus_um) <= furthest
            if thin:
                self.refocus.setText(f"Refocus by {1000 * sweep.refocus_um:+.0f} nm")
        self.refocus.setEnabled(thin and near)
        self.keep.setEnabled(thin)

    def _on_done(self, outcome: SessionSweep | FocusCheck | str | Exception) -> None:
        self.start.setEnabled(True)
        self.check.setEnabled(True)
        if isinstance(outcome, SessionSweep):
            self._sweep = outcome
            family = local_family(self._session.family)
            self._show_lines(sweep_text(family, outcome, "here"))
        elif isinstance(outcome, FocusCheck):
            family = local_family(self._session.family)
            self._show_lines(check_text(family, outcome, "here"))
        else:
            if isinstance(outcome, str):
                self._sweep = None  # accepted
            self.progress.setValue(0)
            self.answer.setText(str(outcome) or type(outcome).__name__)
        # A result stays valid after a check, or after a move that was refused.
        self._offer()

    def _show_lines(self, lines: list[str]) -> None:
        self.answer.setFont(self._fixed)
        self.answer.setText("\n".join(lines))
