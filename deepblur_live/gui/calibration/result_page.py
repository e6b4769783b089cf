"""Step 5: the verdict, the results of the fit, and what to do with the calibration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.calibration import CalibrationError, load_calibration
from deepblur_live.gui.binding import QtWidgets, Signal
from deepblur_live.gui.calibration.page import Page, text_label
from deepblur_live.gui.open_path import open_path
from deepblur_live.gui.theme import GRADE_COLOURS
from deepblur_live.optics.zernike import MODE_NAMES
from deepblur_live.session.use_calibration import use_calibration

if TYPE_CHECKING:
    from deepblur_live.gui.calibration.page import CalibrationJob

__all__ = ["ResultPage", "verdict", "wavefront_text"]

_REDO, _NOTE = "Redo: ", "Note: "
_ASIDE = (_NOTE, "Left out: ")
# Number of modes that are listed, the largest first.
_NAMED = 4


class ResultPage(Page):
    """Shows the verdict, and writes the profile that uses the calibration."""

    title = "Result"

    another = Signal()
    """Emitted to record another state of the microscope."""

    saved = Signal(object)
    """The path of a profile that uses the calibration."""

    def __init__(self, job: CalibrationJob) -> None:
        super().__init__(job)
        self.verdict = text_label()
        self.numbers = text_label()
        self.remarks = text_label()
        self.report = QtWidgets.QPushButton("Open the report")
        self.use = QtWidgets.QPushButton("Use this calibration …")
        self.use.setToolTip(
            "Check that the calibration fits this rig, and save a profile that uses it"
        )
        self.more = QtWidgets.QPushButton("Add another state")
        self.more.setToolTip(
            "Record this slide again at another temperature, collar position or day; "
            "all states are then fitted together"
        )
        self.show_folder = QtWidgets.QPushButton("Open the folder")
        self.message = text_label()
        row = QtWidgets.QHBoxLayout()
        for button in (self.report, self.use, self.more, self.show_folder):
            row.addWidget(button)
        row.addStretch(1)
        inside = QtWidgets.QWidget()
        lines = QtWidgets.QVBoxLayout(inside)
        lines.setContentsMargins(0, 0, 0, 0)
        lines.setSpacing(14)
        for label in (self.remarks, self.numbers):
            lines.addWidget(label)
        lines.addStretch(1)
        area = QtWidgets.QScrollArea()
        area.setFrameShape(QtWidgets.QFrame.Shape.NoFrame)
        area.setWidgetResizable(True)
        area.setWidget(inside)
        column = QtWidgets.QVBoxLayout(self)
        column.addWidget(self.verdict)
        column.addWidget(area, 1)
        column.addLayout(row)
        column.addWidget(self.message)
        self.report.clicked.connect(self._on_report)
        self.use.clicked.connect(self._on_use)
        self.more.clicked.connect(self.another)
        self.show_folder.clicked.connect(self._on_folder)

    def enter(self) -> None:
        """Show the latest calibration."""
        text, grade = verdict(self.job.printed)
        ground, ink = GRADE_COLOURS[grade]
        self.verdict.setStyleSheet(
            f"background: {ground}; color: {ink}; border-radius: 4px; padding: 6px;"
            "font-weight: bold;"
        )
        self.verdict.setText(text)
        # Names instead of whole paths; the last line names the report, which has a
        # button.
        places = {f"{path.parent}{os.sep}" for path in self.job.stacks}
        lines = [_without(line, places) for line in self.job.printed[:-1]]
        remarks = [line for line in lines if line.startswith((_REDO, *_ASIDE))]
        numbers = [line for line in lines if line not in remarks]
        if self.job.made is not None:
            numbers.append(wavefront_text(self.job.made))
        bullets = (
            f"• {line.removeprefix(_NOTE).removeprefix(_REDO)}" for line in remarks
        )
        self.remarks.setText("\n".join(bullets))
        self.remarks.setVisible(bool(remarks))
        self.numbers.setText("\n\n".join(numbers))
        self.message.setText("")

    def _on_report(self) -> None:
        if self.job.made is not None:
            open_path(self.job.made / "report.html")

    def _on_folder(self) -> None:
        open_path(self.job.folder)

    def _on_use(self) -> None:
        text, grade = verdict(self.job.printed)
        buttons = QtWidgets.QMessageBox.StandardButton
        if grade == "poor" and buttons.Yes != QtWidgets.QMessageBox.question(
            self,
            "Use this calibration",
            f"The verdict is: {text} Save a profile that uses it anyway?",
            buttons.Yes | buttons.No,
        ):
            return
        name, _ = QtWidgets.QFileDialog.getSaveFileName(
            self,
            "Save the profile that uses this calibration",
            str(self.job.folder / "rig.toml"),
            "Profiles (*.toml)",
        )
        if name:
            self.save_profile(name)

    def save_profile(self, path: Path | str) -> None:
        """Write the profile, or say why it cannot be used."""
        path = Path(path)
        assert self.job.made is not None
        try:
            dropped = use_calibration(self.job.rig, self.job.made, path)
        except (OSError, ValueError) as error:
            self.message.setText(f"Not saved: {error}")
            return
        lines = [
            f"Saved {path}" + (f" ({dropped})." if dropped else "."),
            "The next session with this profile uses the calibration: deepblur-live "
            f"run --profile {path.name}. The running session keeps its own.",
        ]
        self.message.setText("\n".join(lines))
        self.saved.emit(path)


def verdict(printed: tuple[str, ...]) -> tuple[str, str]:
    """Return the verdict on the output of `deepblur-live calibrate`, and its grade."""
    if any(line.startswith(_REDO) for line in printed):
        return "Do not use it: record the slide again.", "poor"
    if any(line.startswith(_ASIDE) for line in printed):
        return "Usable; see the remarks.", "fair"
    return "Usable; nothing to redo.", "good"


def wavefront_text(folder: Path) -> str:
    """Return the wavefront error and the largest modes of each state, mid-field.

    An error text if the calibration cannot be loaded.
    """
    try:
        saved = load_calibration(folder)
    except CalibrationError as error:
        return str(error)
    manifest, lines = saved.manifest, []
    for k, state in enumerate(manifest.states):
        nm = manifest.optics.wavelength_nm * saved.tensors[f"{k}.trend"][0]
        largest = np.argsort(-np.abs(nm), kind="stable")[:_NAMED]
        named = ", ".join(
            f"{MODE_NAMES.get(manifest.noll[m], f'Noll {manifest.noll[m]}')} "
            f"{nm[m]:+.0f} nm".replace("-", "−")
            for m in largest
        )
        lines.append(
            f"{state.file}: wavefront error {np.linalg.norm(nm):.0f} nm rms in the "
            f"middle of the field, without defocus: {named}."
        )
    return "\n".join(lines)


def _without(line: str, places: set[str]) -> str:
    for place in places:
        line = line.replace(place, "")
    return line
