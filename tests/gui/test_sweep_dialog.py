"""The dialog of a focus sweep: nothing moves unasked, answers and errors are shown."""

import numpy as np
import pytest
from pymmcore_plus.experimental.unicore import UniMMCore

from deepblur_live.acquisition.simulated import SIMULATED_CONFIG
from deepblur_live.gui import sweep_dialog
from deepblur_live.gui.main_window import MainWindow
from deepblur_live.gui.sweep_dialog import SweepDialog
from deepblur_live.identification import SweepError, SweepResult


@pytest.fixture
def result(session):
    p = session.family.n_coefficients
    return SweepResult(
        np.linspace(-0.1, 0.1, p),
        1e-4 * np.eye(p),
        -0.12,
        0.03,
        1.1,
        "",
        True,
        np.zeros((3, 2), int),
    )


def run(dialog, qtbot):
    dialog.start.click()
    qtbot.waitUntil(dialog.start.isEnabled, timeout=5000)


def test_sweep_then_refocus_when_asked(qtbot, session, result, monkeypatch):
    asked, moved = [], []

    def sweep(session, step_um, progress):
        asked.append(step_um)
        progress(1.0)
        return result

    monkeypatch.setattr(sweep_dialog, "sweep_session", sweep)
    monkeypatch.setattr(
        sweep_dialog, "refocus_session", lambda s, um, most: moved.append((um, most))
    )
    dialog = SweepDialog(session)
    qtbot.addWidget(dialog)
    dialog.step.setValue(250)
    assert asked == [] and not dialog.refocus.isEnabled()
    run(dialog, qtbot)
    assert asked == [0.25] and moved == []
    assert dialog.answer.text().startswith("Refocus by -120 ± 30 nm (from here).")
    assert dialog.refocus.text() == "Refocus by -120 nm"
    dialog.refocus.click()
    assert moved == [(-0.12, session.profile.optics.defocus_range_um)]
    assert not dialog.refocus.isEnabled()
    assert dialog.end()


def test_an_error_is_shown_and_nothing_moves(qtbot, session, monkeypatch):
    def fail(session, step_um, progress):
        raise SweepError("the focus has not moved")

    monkeypatch.setattr(sweep_dialog, "sweep_session", fail)
    dialog = SweepDialog(session)
    qtbot.addWidget(dialog)
    run(dialog, qtbot)
    assert dialog.answer.text() == "the focus has not moved"
    assert not dialog.refocus.isEnabled()


def test_the_window_offers_it_with_a_microscope_only(qtbot, session):
    window = MainWindow(session)
    qtbot.addWidget(window)
    assert not window.toolbar.sweep.isEnabled()
    core = UniMMCore()
    core.loadSystemConfiguration(SIMULATED_CONFIG)
    session.core = core
    other = MainWindow(session)
    qtbot.addWidget(other)
    other.toolbar.sweep.trigger()
    assert other.findChild(SweepDialog).isVisible()
    assert core.getPosition() == 0.0
    other.close()
    core.unloadAllDevices()
