"""Calibrating in a real window on a simulated microscope; its process and memory."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest
import tifffile

from deepblur_live.acquisition.bead_slide import bead_slide
from deepblur_live.acquisition.simulated import simulated_core
from deepblur_live.blur import family_from_profile
from deepblur_live.gui.binding import QtCore, QtWidgets
from deepblur_live.gui.calibration import fit_page
from deepblur_live.gui.calibration.dialog import CalibrationDialog
from deepblur_live.gui.child_process import ChildProcess
from deepblur_live.gui.main_window import MainWindow
from deepblur_live.profile import Profile
from deepblur_live.runtime.frame import FrameResult, FrameState, SynchronousPipeline
from deepblur_live.session import LiveSession, connection

# Its optics are stated.
PROFILE = Profile(optics=Profile().optics.model_dump())


class RunningFit:
    """Replaces the command; it never ends on its own."""

    exit_code, lines = None, ()
    started: list[RunningFit] = []  # noqa: RUF012

    def __init__(self, purpose, arguments, log):
        self.ended = False
        self.started.append(self)

    def end(self, timeout_s=5.0):
        self.ended = True


class Echo(SynchronousPipeline):
    def process(self, frame):
        return FrameResult(frame.info, FrameState.RAW_ONLY, "echo", raw=frame.pixels)


def test_a_window_sweeps_a_microscope(qtbot, monkeypatch, tmp_path):
    monkeypatch.setattr(fit_page, "ChildProcess", RunningFit)
    yes = QtWidgets.QMessageBox.StandardButton.Yes
    monkeypatch.setattr(QtWidgets.QMessageBox, "question", lambda *_: yes)
    monkeypatch.setattr(connection, "pipeline_factory", lambda profile: Echo)
    slide = bead_slide(family_from_profile(PROFILE), beads=9, shape=(104, 104), seed=17)
    core = simulated_core(slide, exposure_ms=50.0)
    core.setPosition(0.1)
    snap, snaps, cancelled = core.snapImage, [], threading.Event()

    def snap_then_wait():
        snap()
        snaps.append(core.getPosition())
        assert len(snaps) != 3 or cancelled.wait(10)

    with LiveSession.from_profile(PROFILE, core, in_process=True) as session:
        window = MainWindow(session, remember=False)
        qtbot.addWidget(window)
        window.show()
        window.commands.live.trigger()
        window.commands.calibrate.trigger()
        dialog = window.findChild(CalibrationDialog)
        dialog.optics.bead.setText("200")
        dialog.optics.folder.setText(str(tmp_path / "beads"))
        dialog.next.click()
        qtbot.waitUntil(lambda: dialog.beads.found is not None, timeout=5000)
        assert dialog.beads.found.usable >= 4
        dialog.next.click()
        monkeypatch.setattr(core, "snapImage", snap_then_wait)
        # Cancelled in the middle, then done.
        dialog.sweep.start.click()
        qtbot.waitUntil(lambda: len(snaps) == 3, timeout=5000)
        assert snaps == pytest.approx([-0.9, -0.7, -0.5])
        dialog.sweep.cancel.click()
        cancelled.set()
        qtbot.waitUntil(lambda: not dialog.sweep.busy, timeout=5000)
        assert core.getPosition() == pytest.approx(0.1)
        assert dialog.optics.job.stacks == []
        dialog.sweep.start.click()
        qtbot.waitUntil(lambda: not dialog.sweep.busy, timeout=10_000)
        assert core.getPosition() == pytest.approx(0.1)
        assert core.isSequenceRunning()
        [path] = dialog.optics.job.stacks
        assert tifffile.imread(path).shape == (11, 104, 104)
        dialog.next.click()
        window.close()
        assert RunningFit.started.pop().ended
    core.unloadAllDevices()


def test_a_child_can_be_read_while_it_runs(qtbot, tmp_path, monkeypatch):
    package = tmp_path / "deepblur_live"
    package.mkdir()
    text = "import sys, time\nprint(sys.argv[1], flush=True)\ntime.sleep(60)\n"
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(text, "utf-8")
    # `python -m` looks into the present folder first.
    monkeypatch.chdir(tmp_path)
    child = ChildProcess("a test", ["a: b (5%)"], tmp_path / "child.log")
    qtbot.waitUntil(lambda: child.last_line == "a: b (5%)", timeout=20_000)
    assert child.exit_code is None
    child.end()
    assert child.exit_code is not None


def test_the_dialog_is_in_no_cycle_of_references(session, qapp):
    # Else the garbage collector frees its widgets, perhaps in another thread.
    gc.collect()
    gc.disable()
    try:
        window = MainWindow(session)
        window.show()
        window.commands.calibrate.trigger()
        dialog = weakref.ref(window.findChild(CalibrationDialog))
        for step in (1, 2):
            dialog().go(step)
        window.close()
        window.deleteLater()
        del window
        qapp.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete.value)
        assert dialog() is None
    finally:
        gc.enable()
