"""Step 3: record a stack by a sweep of the focus drive, or take a recorded one."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from deepblur_live.acquisition import SeriesError, open_series
from deepblur_live.gui.binding import QtWidgets
from deepblur_live.gui.calibration.page import Page, text_label
from deepblur_live.gui.work_bar import WorkBar
from deepblur_live.session.bead_sweep import BeadSweep, suggested_sweep, sweep_beads

if TYPE_CHECKING:
    from collections.abc import Callable

    from deepblur_live.gui.calibration.page import CalibrationJob
    from deepblur_live.profile import Optics

__all__ = ["SweepPage"]

_RECORDINGS = "Stacks (*.tif *.tiff *.zarr zarr.json .zattrs);;All files (*)"
# Name of a stack that was recorded here.
_STACK = "state-{}.ome.tif"


class SweepPage(Page):
    """Moves the focus drive when asked to, on a thread of its own."""

    title = "Sweep"
    following = "Fit"

    def __init__(self, job: CalibrationJob) -> None:
        super().__init__(job)
        self._cancelled = threading.Event()
        self._suggested_for: Optics | None = None
        self.step_um: float | None = None
        """Distance between planes for recordings that do not state it."""
        self.range, self.step = _length(100, 20_000, 100), _length(10, 5000, 10)
        self.plan = text_label()
        self.start = QtWidgets.QPushButton("Sweep …")
        self.start.setToolTip(
            "Move the focus drive through these planes, after a confirmation"
        )
        self.cancel = QtWidgets.QPushButton("Cancel")
        self.cancel.setToolTip("End the sweep; the focus drive returns")
        self.progress = WorkBar("bead sweep")
        self.progress.done.connect(self._on_done)
        self.message = text_label()
        self.recorded = QtWidgets.QPushButton("Use recorded stacks …")
        self.recorded.setToolTip(
            "Recorded z-stacks of the beads, such as from an MDA with a z plan; one "
            "per state of the microscope"
        )
        self.stacks = QtWidgets.QListWidget()
        self.stacks.setMinimumHeight(60)
        self.remove = QtWidgets.QPushButton("Remove from the list")
        self._lay_out()
        self.range.valueChanged.connect(self._update)
        self.step.valueChanged.connect(self._update)
        self.start.clicked.connect(self._on_start)
        self.cancel.clicked.connect(self._cancelled.set)
        self.recorded.clicked.connect(self._on_recorded)
        self.remove.clicked.connect(self._on_remove)
        self.stacks.currentRowChanged.connect(self._update)

    @property
    def problem(self) -> str:
        """There must be a stack."""
        return "" if self.job.stacks else "There is no stack yet."

    @property
    def busy(self) -> bool:
        """Whether a sweep runs."""
        return self.progress.busy

    def enter(self) -> None:
        """Suggest planes for these optics, unless they are the same as before."""
        optics = self.job.rig.optics
        if optics != self._suggested_for:
            self._suggested_for = optics
            sweep = suggested_sweep(optics)
            self.range.setValue(round(1000 * sweep.range_um))
            self.step.setValue(round(1000 * sweep.step_um))
        self._update()

    def end(self, timeout_s: float) -> bool:
        """Cancel a sweep, and wait until the focus drive is back."""
        self._cancelled.set()
        return self.progress.end(timeout_s)

    def _lay_out(self) -> None:
        form = QtWidgets.QHBoxLayout()
        for name, box in (("Range  ±", self.range), ("Step", self.step)):
            form.addWidget(QtWidgets.QLabel(name))
            form.addWidget(box)
            form.addSpacing(12)
        form.addStretch(1)
        row = QtWidgets.QHBoxLayout()
        row.addWidget(self.start)
        row.addWidget(self.cancel)
        row.addWidget(self.progress, 1)
        below = QtWidgets.QHBoxLayout()
        below.addWidget(self.recorded)
        below.addWidget(self.remove)
        below.addStretch(1)
        column = QtWidgets.QVBoxLayout(self)
        column.addWidget(
            text_label(
                "The focus drive moves through focus and returns to its present "
                "position; live mode or a running MDA is paused for it. Nothing moves "
                "before you confirm."
            )
        )
        column.addSpacing(6)
        column.addLayout(form)
        column.addWidget(self.plan)
        column.addLayout(row)
        column.addWidget(self.message)
        column.addSpacing(10)
        column.addWidget(QtWidgets.QLabel("Stacks, one per state of the microscope:"))
        column.addWidget(self.stacks, 1)
        column.addLayout(below)

    def _planned(self) -> BeadSweep:
        return BeadSweep(self.range.value() / 1000, self.step.value() / 1000)

    def _no_drive(self) -> str:
        """Return why nothing can be swept, or empty."""
        core = self.job.session.core
        if core is None:
            return "This session has no microscope: use a recorded stack."
        if not core.getFocusDevice():
            return (
                "The configuration has no focus drive (Property,Core,Focus,LABEL): use "
                "a recorded stack."
            )
        if self.job.session.closed:
            return "The session has ended: use a recorded stack."
        return ""

    def _update(self) -> None:
        why_not = self._no_drive()
        if not why_not:
            why_not, text = self._describe()
        else:
            text = ""
        self.plan.setText(why_not or text)
        self.start.setEnabled(not self.busy and not why_not)
        self.cancel.setEnabled(self.busy)
        for widget in (self.range, self.step, self.recorded):
            widget.setEnabled(not self.busy)
        self.remove.setEnabled(not self.busy and self.stacks.currentRow() >= 0)
        self.changed.emit()

    def _describe(self) -> tuple[str, str]:
        """Return what is wrong with the planes, or empty; and their description."""
        try:
            offsets = self._planned().offsets_um
        except ValueError as error:
            return str(error), ""
        core = self.job.session.core
        assert core is not None
        try:
            stage = core.getFocusDevice()
            at_um = core.getPosition(stage)
        except Exception as error:  # whatever a driver raises
            return f"The focus drive does not respond: {error}", ""
        suggested = suggested_sweep(self.job.rig.optics)
        return "", (
            f"{len(offsets)} planes, ±{offsets[-1]:.2f} µm around {stage} at "
            f"{at_um:.2f} µm. Suggested for these optics: "
            f"±{1000 * suggested.range_um:.0f} nm in steps of "
            f"{1000 * suggested.step_um:.0f} nm."
        )

    def _on_start(self) -> None:
        sweep = self._planned()
        span, count = sweep.offsets_um[-1], len(sweep.offsets_um)
        core = self.job.session.core
        assert core is not None
        try:
            stage, autofocus = core.getFocusDevice(), core.isContinuousFocusEnabled()
        except Exception as error:  # whatever a driver raises
            self.message.setText(f"The focus drive does not respond: {error}")
            return
        if autofocus:
            self.message.setText("Switch off the autofocus: it holds the position.")
            return
        buttons = QtWidgets.QMessageBox.StandardButton
        answer = QtWidgets.QMessageBox.question(
            self,
            "Sweep",
            f"Move {stage} by up to {span:.2f} µm to each side, "
            f"{count} planes, and back? Make sure that the objective cannot touch the "
            "slide.",
            buttons.Yes | buttons.No,
        )
        if answer != buttons.Yes:
            return
        self.message.setText("")
        self._cancelled.clear()
        path, size_nm = self._next_stack(), self.job.rig.optics.pixel_size_nm
        session = self.job.session

        def work(advance: Callable[[float], None]) -> Path:
            cancelled = self._cancelled.is_set
            sweep_beads(session, sweep, path, size_nm, advance, cancelled)
            return path

        self.progress.work(work)
        self._update()

    def _next_stack(self) -> Path:
        number = 1
        while (path := self.job.folder / _STACK.format(number)).exists():
            number += 1
        return path

    def _on_done(self, outcome: Path | Exception) -> None:
        if isinstance(outcome, Path):
            self.message.setText(
                "Recorded. The focus drive is back at its start position."
            )
            self._add(outcome)
        else:
            self.message.setText(str(outcome) or type(outcome).__name__)
        self._update()

    def _add(self, stack: Path) -> None:
        self.job.stacks.append(stack)
        item = QtWidgets.QListWidgetItem(stack.name)
        item.setToolTip(str(stack))
        self.stacks.addItem(item)

    def _on_remove(self) -> None:
        row = self.stacks.currentRow()
        if row >= 0:
            del self.job.stacks[row]
            self.stacks.takeItem(row)
        self._update()

    def _on_recorded(self) -> None:
        names, _ = QtWidgets.QFileDialog.getOpenFileNames(
            self, "Stacks of bead slides", str(self.job.folder.parent), _RECORDINGS
        )
        messages = []
        for name in names:
            self.add_recording(Path(name))
            messages.append(self.message.text())
        # One line for each file, including those that cannot be used.
        self.message.setText("\n".join(messages))

    def add_recording(self, path: Path) -> None:
        """Add a recorded stack to the list, or say why it cannot be used."""
        # A Zarr store is a folder, which the dialog cannot choose: a file in it.
        if path.name in ("zarr.json", ".zattrs"):
            path = path.parent
        try:
            with open_series(path) as series:
                planes = series.planes if series.planes > 1 else len(series)
                known = series.z_step_um is not None
        except SeriesError as error:
            self.message.setText(str(error))
            return
        if not known and self.step_um is None:
            self.message.setText(
                f"{path.name}: not added: the distance between its planes is unknown."
            )
            step_nm, given = QtWidgets.QInputDialog.getDouble(
                self,
                "Distance between planes",
                f"{path.name} does not state the distance between its {planes} planes. "
                "Distance in nm, negative if z decreases along the stack:",
                1000 * suggested_sweep(self.job.rig.optics).step_um,
                -10_000,
                10_000,
                0,
            )
            if not given or step_nm == 0:
                return
            self.step_um = step_nm / 1000
        self.message.setText(f"{path.name}: {planes} planes.")
        self._add(path)
        self._update()


def _length(low: int, high: int, step: int) -> QtWidgets.QSpinBox:
    box = QtWidgets.QSpinBox()
    box.setRange(low, high)
    box.setSingleStep(step)
    box.setSuffix(" nm")
    box.setMinimumWidth(110)
    return box
