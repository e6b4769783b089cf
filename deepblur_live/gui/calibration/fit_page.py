"""Step 4: the fit, by `deepblur-live calibrate` in a separate process."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from deepblur_live.gui.binding import QtCore, QtWidgets, Signal
from deepblur_live.gui.calibration.page import Page, text_label
from deepblur_live.gui.child_process import ChildProcess
from deepblur_live.profile import write_profile

if TYPE_CHECKING:
    from deepblur_live.gui.calibration.page import CalibrationJob

__all__ = ["FitPage"]

_POLL_MS = 200
# What the command prints at each step: text, share of this file.
_STEP = re.compile(r"(.*) \((\d+)%\)")
_PROFILE = "rig.toml"


class FitPage(Page):
    """Fits all stacks, and shows what the command prints."""

    title = "Fit"

    finished = Signal()
    """There is a calibration."""

    def __init__(self, job: CalibrationJob) -> None:
        super().__init__(job)
        self._child: ChildProcess | None = None
        self._target = Path()
        # The input of the latest fit.
        self._fitted: tuple[object, ...] = ()
        self.progress = QtWidgets.QProgressBar()
        self.progress.setRange(0, 100)
        self.cancel = QtWidgets.QPushButton("Cancel")
        self.again = QtWidgets.QPushButton("Fit again")
        self.step = text_label()
        self.output = QtWidgets.QPlainTextEdit()
        self.output.setReadOnly(True)
        row = QtWidgets.QHBoxLayout()
        row.addWidget(self.progress, 1)
        row.addWidget(self.cancel)
        row.addWidget(self.again)
        column = QtWidgets.QVBoxLayout(self)
        column.addWidget(
            text_label(
                "Each bead is fitted separately, which takes a few seconds per bead. "
                "You can use the microscope and the window in the meantime."
            )
        )
        column.addLayout(row)
        column.addWidget(self.step)
        column.addWidget(self.output, 1)
        self.cancel.clicked.connect(self._on_cancel)
        self.again.clicked.connect(self._start)
        self._timer = QtCore.QTimer(self)
        self._timer.setInterval(_POLL_MS)
        self._timer.timeout.connect(self._on_timer)

    @property
    def problem(self) -> str:
        """There must be a calibration of the present stacks."""
        done = self.job.made is not None and self._fitted == self._given()
        return "" if done else "There is no calibration yet."

    @property
    def busy(self) -> bool:
        """Whether the command runs."""
        return self._child is not None

    def enter(self) -> None:
        """Fit, unless these stacks have been fitted with the same optics."""
        if self.problem and not self.busy:
            self._start()

    def end(self, timeout_s: float) -> bool:
        """Stop the command."""
        self._timer.stop()
        if self._child is not None:
            self._child.end(timeout_s)
            self._child = None
        return True

    def arguments(self, target: Path, profile: Path) -> list[str]:
        """Return the arguments for ``deepblur-live``."""
        options = ["--profile", str(profile), "--bead", f"{self.job.bead_nm:g}"]
        step_um = self.step_um
        if step_um is not None:
            options.append(f"--z-step={1000 * step_um:g}nm")
        files = [str(path) for path in self.job.stacks]
        return ["calibrate", *files, *options, "--output", str(target)]

    step_um: float | None = None
    """Distance between planes for stacks that do not state it, µm."""

    def _given(self) -> tuple[object, ...]:
        job = self.job
        return tuple(job.stacks), job.rig, job.bead_nm, self.step_um

    def _start(self) -> None:
        job = self.job
        number = 1
        while (target := job.folder / f"calibration-{number}.calib").exists():
            number += 1
        profile = job.folder / _PROFILE
        self.output.setPlainText("")
        self.step.setText("Starting …")
        self.progress.setValue(0)
        job.made, self._fitted, self._target = None, self._given(), target
        try:
            job.folder.mkdir(parents=True, exist_ok=True)
            write_profile(job.rig, profile)
            self._child = ChildProcess(
                "the calibration",
                self.arguments(target, profile),
                target.with_suffix(".log"),
            )
        except OSError as error:
            self.step.setText(f"The fit cannot be started: {error}")
        else:
            self._timer.start()
        self._update()

    def _update(self) -> None:
        self.cancel.setEnabled(self.busy)
        self.again.setEnabled(not self.busy and bool(self.job.stacks))
        self.changed.emit()

    def _on_cancel(self) -> None:
        self.end(5.0)
        self.progress.setValue(0)
        self.step.setText("Cancelled. The stacks are kept.")
        self._update()

    def _on_timer(self) -> None:
        child = self._child
        assert child is not None
        code, printed = child.exit_code, [line for line in child.lines if line]
        steps = [match for line in printed if (match := _STEP.fullmatch(line))]
        said = [line for line in printed if not _STEP.fullmatch(line)]
        if steps:
            self.step.setText(_short(steps[-1][1]))
            self.progress.setValue(self._share(steps))
        text = "\n\n".join(said)
        if text != self.output.toPlainText():
            self.output.setPlainText(text)
        if code is None:
            return
        self._timer.stop()
        child.end()
        self._child = None
        if code == 0:
            self.job.made, self.job.printed = self._target, tuple(said)
            self.progress.setValue(100)
            self.step.setText("Done.")
            self.finished.emit()
        else:
            self.progress.setValue(0)
            self.step.setText("No calibration: the reason is in the last line below.")
        self._update()

    def _share(self, steps: list[re.Match[str]]) -> int:
        """Return how much is done of all files, in per cent.

        A file begins whenever the share falls; one that is left out has no step.
        """
        shares = [int(match[2]) for match in steps]
        begun = sum(b < a for a, b in pairwise(shares))
        return round((100 * begun + shares[-1]) / max(1, len(self.job.stacks)))


def _short(text: str) -> str:
    """Return a step with the name of its file instead of the whole path."""
    file, _, what = text.rpartition(": ")
    return f"{Path(file).name}: {what}"
