"""The dialog of a focus sweep: nothing moves unasked, answers and errors are shown."""

import numpy as np
import pytest
from pymmcore_plus.experimental.unicore import UniMMCore

from deepblur_live.acquisition.simulated import SIMULATED_CONFIG
from deepblur_live.blur import Estimate
from deepblur_live.gui import sweep_dialog
from deepblur_live.gui.binding import QtWidgets
from deepblur_live.gui.main_window import MainWindow
from deepblur_live.gui.sweep_dialog import SweepDialog
from deepblur_live.identification import CheckVerdict, FocusCheck, SweepError
from deepblur_live.session.focus_sweep import SessionSweep


@pytest.fixture
def sweep(session):
    p = session.family.n_coefficients
    return SessionSweep(
        coefficients=np.linspace(-0.1, 0.1, p),
        covariance=1e-4 * np.eye(p),
        refocus_um=-0.12,
        refocus_sigma_um=0.03,
        chi2=1.1,
        thick="",
        turn_known=True,
        shifts=np.zeros((3, 2), int),
        position_um=5.0,
        time_s=60.0,
        clock="12:03",
    )


@pytest.fixture
def done(monkeypatch, sweep):
    """What the dialog has had done; each of its actions only notes it."""
    done = []

    def make_sweep(session, step_um, progress):
        done.append(("sweep", step_um))
        progress(1.0)
        return sweep

    monkeypatch.setattr(sweep_dialog, "sweep_session", make_sweep)
    monkeypatch.setattr(
        sweep_dialog,
        "refocus_session",
        lambda session, sweep, most: done.append(("refocus", sweep, most)),
    )
    monkeypatch.setattr(
        sweep_dialog,
        "accept_sweep",
        lambda session, sweep: done.append(("keep", sweep)),
    )
    return done


def press(button, dialog, qtbot):
    button.click()
    qtbot.waitUntil(dialog.start.isEnabled, timeout=5000)


def test_sweep_then_refocus_when_asked(qtbot, session, sweep, done):
    dialog = SweepDialog(session)
    qtbot.addWidget(dialog)
    dialog.step.setValue(250)
    assert done == []
    assert not dialog.refocus.isEnabled() and not dialog.keep.isEnabled()
    press(dialog.start, dialog, qtbot)
    assert done == [("sweep", 0.25)]
    assert dialog.answer.text().startswith("Refocus by -120 ± 30 nm (from here).")
    assert dialog.refocus.text() == "Refocus by -120 nm"
    press(dialog.refocus, dialog, qtbot)
    furthest = session.profile.optics.defocus_range_um
    assert done[1:] == [("refocus", sweep, furthest)]
    assert dialog.answer.text().startswith("Refocused.")
    assert not dialog.refocus.isEnabled() and not dialog.keep.isEnabled()
    assert dialog.end()


def test_the_focus_may_be_kept(qtbot, session, sweep, done):
    dialog = SweepDialog(session)
    qtbot.addWidget(dialog)
    press(dialog.start, dialog, qtbot)
    press(dialog.keep, dialog, qtbot)
    assert done[1:] == [("keep", sweep)]
    assert dialog.answer.text().startswith("Accepted.")


def test_an_answer_is_offered_until_it_is_accepted(
    qtbot, session, done, checked, monkeypatch
):
    def refuse(session, sweep, most):
        raise SweepError("the drive has been moved since the sweep")

    monkeypatch.setattr(sweep_dialog, "refocus_session", refuse)
    monkeypatch.setattr(sweep_dialog, "check_session", lambda *_: checked)
    buttons = QtWidgets.QMessageBox.StandardButton
    monkeypatch.setattr(QtWidgets.QMessageBox, "question", lambda *_: buttons.Yes)
    dialog = SweepDialog(session)
    qtbot.addWidget(dialog)
    press(dialog.start, dialog, qtbot)
    for button in (dialog.refocus, dialog.check):
        press(button, dialog, qtbot)
        assert dialog.refocus.isEnabled() and dialog.keep.isEnabled()
    assert dialog.answer.text().startswith("The estimate is not reliable")
    press(dialog.keep, dialog, qtbot)
    press(dialog.check, dialog, qtbot)
    assert not dialog.refocus.isEnabled() and not dialog.keep.isEnabled()


def test_an_error_is_shown_and_nothing_moves(qtbot, session, monkeypatch):
    def fail(session, step_um, progress):
        raise SweepError("the focus has not moved")

    monkeypatch.setattr(sweep_dialog, "sweep_session", fail)
    dialog = SweepDialog(session)
    qtbot.addWidget(dialog)
    press(dialog.start, dialog, qtbot)
    assert dialog.answer.text() == "the focus has not moved"
    assert not dialog.refocus.isEnabled() and not dialog.keep.isEnabled()


@pytest.fixture
def checked(session):
    p = session.family.n_coefficients
    one = Estimate(np.zeros(p), 1e-4 * np.eye(p), 0.5)
    return FocusCheck(
        CheckVerdict.NOT_RELIABLE,
        "the stage moved by 250 nm, the estimates by 3 ± 20 nm",
        0.01,
        0.08,
        one.coefficients,
        np.array([0.0, 0.25, -0.25, 0.0]),
        (one,) * 4,
    )


def test_the_check_asks_before_it_moves(qtbot, session, checked, monkeypatch):
    asked, questions = [], []

    def check(session, step_um, progress):
        asked.append(step_um)
        return checked

    monkeypatch.setattr(sweep_dialog, "check_session", check)
    dialog = SweepDialog(session)
    qtbot.addWidget(dialog)
    dialog.step.setValue(250)
    buttons = QtWidgets.QMessageBox.StandardButton
    for answer in (buttons.No, buttons.Yes):

        def question(parent, title, text, choice, answer=answer):
            questions.append(text)
            return answer

        monkeypatch.setattr(QtWidgets.QMessageBox, "question", question)
        dialog.check.click()
        if answer == buttons.No:
            assert asked == []
    qtbot.waitUntil(dialog.check.isEnabled, timeout=5000)
    assert asked == [0.25]
    assert "by 250 nm to each side and back" in questions[0]
    shown = dialog.answer.text()
    assert shown.startswith("The estimate is not reliable on this specimen, or")
    assert "  +250 nm: 0 ± " in shown
    assert not dialog.refocus.isEnabled() and dialog.start.isEnabled()


def test_the_window_offers_it_with_a_microscope_only(qtbot, session, monkeypatch):
    window = MainWindow(session)
    qtbot.addWidget(window)
    assert not window.commands.sweep.isEnabled()
    core = UniMMCore()
    core.loadSystemConfiguration(SIMULATED_CONFIG)
    session.core = core
    other = MainWindow(session)
    qtbot.addWidget(other)
    other.commands.sweep.trigger()
    assert other.findChild(SweepDialog).isVisible()
    asked = []
    no = QtWidgets.QMessageBox.StandardButton.No
    monkeypatch.setattr(
        QtWidgets.QMessageBox, "question", lambda *_: asked.append(True) or no
    )
    other.commands.check.trigger()
    assert asked == [True]
    assert core.getPosition() == 0.0
    other.close()
    core.unloadAllDevices()
