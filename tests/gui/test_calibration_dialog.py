"""Calibrating from the window: what is missing is named; nothing moves unasked."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import useq
from pymmcore_plus.experimental.unicore import UniMMCore

from deepblur_live.acquisition.bead_slide import bead_slide
from deepblur_live.acquisition.simulated import simulated_core
from deepblur_live.blur import family_from_profile
from deepblur_live.gui.binding import QtWidgets
from deepblur_live.gui.calibration import fit_page, sweep_page
from deepblur_live.gui.calibration.dialog import CalibrationDialog
from deepblur_live.gui.calibration.result_page import verdict
from deepblur_live.identification import SweepError
from deepblur_live.profile import Optics, Profile, load_profile

sys.path.append(str(Path(__file__).parents[1] / "calibration"))

import stack_slides
from written_calibration import NOLL, write_calibration

# Its optics are stated.
PROFILE = Profile(
    optics=stack_slides.PROFILE.optics.model_dump(), camera=stack_slides.PROFILE.camera
)
BUTTONS = QtWidgets.QMessageBox.StandardButton
SAID = (
    "beads.ome.tif: 9 beads: 6 used, 3 too near the edge of the frame.",
    "Held-out beads are explained to 22.0 dB (21.0 dB by the pupil alone).",
    "Note: Only 6 beads are used: 10 or more show the field.",
    "rig.calib/report.html: the report",
)


class FakeFit:
    """Stands in for the command: two steps of progress, then a calibration."""

    exit_code = None
    made: list[FakeFit] = []  # noqa: RUF012

    def __init__(self, purpose, arguments, log):
        self.arguments, self.log, self.ended = arguments, log, False
        self.lines = ["beads.ome.tif: fitting beads: 1 of 2 (5%)"]
        FakeFit.made.append(self)

    def finish(self, code=0, said=SAID):
        if code == 0:
            target = Path(self.arguments[self.arguments.index("--output") + 1])
            write_calibration(target, np.full((1, 3, len(NOLL)), 0.01))
        self.lines += ["beads.ome.tif: done (100%)", *said]
        self.exit_code = code

    def end(self, timeout_s=5.0):
        self.ended = True


@pytest.fixture
def fits(monkeypatch):
    monkeypatch.setattr(fit_page, "ChildProcess", FakeFit)
    FakeFit.made = []
    return FakeFit.made


@pytest.fixture
def dialog(qtbot, session, tmp_path):
    """A dialog without a microscope, whose optics are known."""
    session.profile = PROFILE
    dialog = CalibrationDialog(session)
    qtbot.addWidget(dialog)
    dialog.optics.bead.setText("200")
    dialog.optics.folder.setText(str(tmp_path / "beads"))
    yield dialog
    assert dialog.end()


@pytest.fixture
def stack(tmp_path):
    path = tmp_path / "beads.ome.tif"
    planes = np.zeros((7, 60, 60), np.uint16)
    metadata = {"axes": "ZYX", "PhysicalSizeZ": 0.2}
    tifffile.imwrite(path, planes, ome=True, metadata=metadata)
    return path


def answer(monkeypatch, button):
    asked = []

    def question(parent, title, text, choice):
        asked.append(text)
        return button

    monkeypatch.setattr(QtWidgets.QMessageBox, "question", question)
    return asked


def test_missing_optics_are_asked_for_by_name(qtbot, session):
    session.profile = Profile(optics=Optics(numerical_aperture=1.3))
    dialog = CalibrationDialog(session)
    qtbot.addWidget(dialog)
    page = dialog.optics
    assert page.fields["numerical_aperture"].text() == "1.3"
    # A default that nobody chose is no answer.
    assert page.message.text() == (
        "⚠ Please give: Emission (nm), Index of the immersion, Pixel in the specimen "
        "(nm), Diameter of the beads (nm)."
    )
    assert not dialog.next.isEnabled()
    page.fields["wavelength_nm"].setText("520")
    page.fields["refractive_index"].setText("1,2")
    page.fields["pixel_size_nm"].setText("100")
    page.bead.setText("200")
    assert "cannot exceed refractive_index 1.2" in page.message.text()
    page.fields["refractive_index"].setText("1.515")
    assert page.message.text() == ""
    assert dialog.next.isEnabled()
    page.deeper.setCurrentIndex(1)
    job = page.job
    assert (job.bead_nm, job.rig.stage.deeper) == (200.0, "smaller")
    assert job.rig.optics.wavelength_nm == 520


def test_beads_are_circled_and_counted(qtbot, session, dialog):
    slide = bead_slide(
        family_from_profile(Profile()), beads=9, shape=(104, 104), seed=17
    )
    dialog.show()
    dialog.next.click()
    assert "No frames yet" in dialog.beads.pane.notice
    session.publish(slide.frame(0.0).pixels)
    qtbot.waitUntil(lambda: dialog.beads.found is not None, timeout=5000)
    page = dialog.beads
    assert page.count.text() == "5 usable, 1 too near the edge of the frame"
    assert "move to a place with more isolated ones" in page.advice.text()
    assert len(page.circles.data) == 6
    used = next(bead for bead in page.found.beads if bead.refusal is None)
    edge = next(bead for bead in page.found.beads if bead.refusal is not None)
    readout = page.pane.findChild(QtWidgets.QLabel, "readout")
    page.pane.pointed.emit((used.column + 3, used.row))
    assert readout.text() == "usable"
    page.pane.pointed.emit((edge.column, edge.row))
    assert readout.text() == "too near the edge of the frame"
    # Other pixels: the scale bar and the search follow.
    dialog.back.click()
    dialog.optics.fields["pixel_size_nm"].setText("80")
    dialog.next.click()
    qtbot.waitUntil(lambda: page.found.side == 29, timeout=5000)
    assert page.pane.image is not None
    session.publish(np.zeros((104, 104), np.uint16))
    qtbot.waitUntil(lambda: page.found is None, timeout=5000)
    assert "constant" in page.advice.text()


def test_without_a_microscope_a_recording_is_fitted(qtbot, dialog, fits, stack):
    dialog.go(2)
    assert not dialog.sweep.start.isEnabled()
    assert "no microscope: use a recorded stack" in dialog.sweep.plan.text()
    assert dialog.next.toolTip() == "There is no stack yet."
    dialog.sweep.add_recording(stack.with_name("missing.tif"))
    assert "no such file" in dialog.sweep.message.text()
    dialog.sweep.add_recording(stack)
    dialog.next.click()
    [fit] = fits
    assert fit.arguments[:2] == ["calibrate", str(stack)]
    assert fit.arguments[4:6] == ["--bead", "200"]
    rig = load_profile(fit.arguments[3])
    assert rig.optics.numerical_aperture == PROFILE.optics.numerical_aperture
    assert not dialog.back.isEnabled()
    qtbot.waitUntil(lambda: dialog.fit.progress.value() == 5, timeout=5000)
    assert dialog.fit.step.text() == "beads.ome.tif: fitting beads: 1 of 2"
    fit.finish()
    qtbot.waitUntil(lambda: dialog.page is dialog.results, timeout=5000)
    page = dialog.results
    assert page.verdict.text() == "Usable; see the remarks."
    assert page.remarks.text() == (
        "• Only 6 beads are used: 10 or more show the field."
    )
    # Seven modes of 0.01 waves at 540 nm.
    assert "wavefront error 14 nm rms" in page.numbers.text()
    saved = []
    dialog.saved.connect(saved.append)
    page.save_profile(dialog.optics.job.folder / "mine.toml")
    assert page.message.text().startswith("Saved ")
    assert saved == [dialog.optics.job.folder / "mine.toml"]
    assert load_profile(saved[0]).model.calibration.endswith("calibration-1.calib")


def test_another_state_is_fitted_with_the_first(qtbot, dialog, fits, stack):
    dialog.go(2)
    dialog.sweep.add_recording(stack)
    dialog.next.click()
    fits[0].finish()
    qtbot.waitUntil(lambda: dialog.page is dialog.results, timeout=5000)
    dialog.results.more.click()
    assert dialog.page is dialog.sweep
    dialog.sweep.add_recording(stack)
    dialog.next.click()
    assert fits[1].arguments[1:3] == [str(stack)] * 2
    assert fits[1].arguments[-1].endswith("calibration-2.calib")
    assert len(fits) == 2
    # Half of the second file.
    fits[1].lines = [f"b: x ({share}%)" for share in (5, 100, 5, 50)]
    qtbot.waitUntil(lambda: dialog.fit.progress.value() == 75, timeout=5000)
    dialog.fit.cancel.click()
    assert fits[1].ended
    assert dialog.fit.step.text() == "Cancelled. The stacks are kept."
    assert not dialog.next.isEnabled()
    dialog.fit.again.click()
    fits[2].finish(2, ["deepblur-live: no beads were found near focus"])
    qtbot.waitUntil(lambda: not dialog.fit.busy, timeout=5000)
    assert "no beads were found" in dialog.fit.output.toPlainText()
    assert dialog.page is dialog.fit


def test_several_recordings_are_several_states(
    qtbot, dialog, fits, stack, tmp_path, monkeypatch
):
    """Stacks, an MDA's file, and one that is of no use, chosen at once."""
    slide = bead_slide(family_from_profile(Profile()), beads=1, shape=(32, 32))
    core = simulated_core(slide, exposure_ms=1.0)
    mda = tmp_path / "mda.ome.tiff"
    sweep = useq.MDASequence(z_plan={"range": 1.0, "step": 0.25})
    core.mda.run(sweep, output=mda)
    core.unloadAllDevices()
    bad = tmp_path / "bad.tif"
    bad.write_bytes(b"II*\0nothing")
    chosen = [str(path) for path in (stack, bad, mda)]
    monkeypatch.setattr(
        QtWidgets.QFileDialog, "getOpenFileNames", lambda *_: (chosen, "")
    )
    dialog.go(2)
    dialog.sweep.recorded.click()
    first, second, third = dialog.sweep.message.text().splitlines()
    assert first == "beads.ome.tif: 7 planes."
    assert "bad.tif" in second
    # It holds the distance of its planes, which is not asked for.
    assert third == "mda.ome.tiff: 5 planes."
    dialog.next.click()
    assert fits[0].arguments[1:3] == [str(stack), str(mda)]
    assert not any("--z-step" in argument for argument in fits[0].arguments)


def test_other_optics_need_another_fit(qtbot, dialog, fits, stack):
    dialog.go(2)
    dialog.sweep.add_recording(stack)
    dialog.next.click()
    fits[0].finish()
    qtbot.waitUntil(lambda: dialog.page is dialog.results, timeout=5000)
    dialog.back.click()
    assert len(fits) == 1 and dialog.next.isEnabled()
    dialog.go(0)
    dialog.optics.fields["wavelength_nm"].setText("600")
    dialog.go(3)
    assert len(fits) == 2 and not dialog.next.isEnabled()


def test_a_bad_calibration_is_used_only_when_confirmed(dialog, monkeypatch):
    dialog.optics.job.printed = (*SAID[:2], "Redo: record more beads", SAID[-1])
    dialog.go(4)
    assert dialog.results.verdict.text() == "Do not use it: record the slide again."
    assert dialog.results.remarks.text() == "• record more beads"
    files = []
    monkeypatch.setattr(
        QtWidgets.QFileDialog,
        "getSaveFileName",
        lambda *_: files.append(True) or ("", ""),
    )
    asked = answer(monkeypatch, BUTTONS.No)
    dialog.results.use.click()
    assert "The verdict is: Do not use it" in asked[0]
    assert files == []
    answer(monkeypatch, BUTTONS.Yes)
    dialog.results.use.click()
    assert files == [True]


def test_the_distance_of_planes_is_asked_for(dialog, fits, tmp_path, monkeypatch):
    plain = tmp_path / "plain.tif"
    tifffile.imwrite(plain, np.zeros((5, 60, 60), np.uint16), photometric="minisblack")
    asked = []

    def give(parent, title, text, *_):
        asked.append(text)
        return -250.0, True

    monkeypatch.setattr(QtWidgets.QInputDialog, "getDouble", give)
    dialog.go(2)
    dialog.sweep.add_recording(plain)
    assert "does not state the distance between its 5 planes" in asked[0]
    dialog.next.click()
    assert "--z-step=-250nm" in fits[0].arguments


def test_a_verdict():
    assert verdict(SAID[:2]) == ("Usable; nothing to redo.", "good")
    assert verdict(SAID)[1] == "fair"
    assert verdict(("Left out: bad.tif: empty", *SAID[:2]))[1] == "fair"
    assert verdict((*SAID, "Redo: no beads"))[1] == "poor"


def no_reply():
    raise RuntimeError("no reply")


def test_the_sweep_asks_first_and_shows_errors(qtbot, session, dialog, monkeypatch):
    core = UniMMCore()
    session.core = core
    dialog.go(2)
    assert "no focus drive" in dialog.sweep.plan.text()
    slide = bead_slide(family_from_profile(Profile()), beads=1, shape=(16, 16))
    session.core = core = simulated_core(slide, exposure_ms=1.0)
    dialog.go(2)
    assert dialog.sweep.plan.text().startswith("11 planes, ±1.00 µm around Focus at")
    calls = []

    def fail(*arguments):
        calls.append(arguments)
        raise SweepError("The sweep failed at plane 3 of 11. Focus is at 0.000 µm.")

    monkeypatch.setattr(sweep_page, "sweep_beads", fail)
    with monkeypatch.context() as unplugged:
        unplugged.setattr(core, "isContinuousFocusEnabled", no_reply)
        dialog.sweep.start.click()
    assert "does not respond: no reply" in dialog.sweep.message.text()
    asked = answer(monkeypatch, BUTTONS.No)
    dialog.sweep.start.click()
    assert calls == []
    assert "Move Focus by up to 1.00 µm to each side, 11 planes, and back?" in asked[0]
    answer(monkeypatch, BUTTONS.Yes)
    dialog.sweep.start.click()
    qtbot.waitUntil(lambda: not dialog.sweep.busy, timeout=5000)
    assert "failed at plane 3 of 11" in dialog.sweep.message.text()
    assert dialog.sweep.problem
    dialog.sweep.step.setValue(2000)
    assert "at least 3 planes" in dialog.sweep.plan.text()
    assert not dialog.sweep.start.isEnabled()
    core.unloadAllDevices()
