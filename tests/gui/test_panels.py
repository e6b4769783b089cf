"""The parts of the window in the docks of another program."""

from __future__ import annotations

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QDockWidget, QMainWindow

from deepblur_live.gui import DriftPanel, ImagesPanel, PsfPanel, StatePanel


def test_each_follows_the_session_in_a_dock(
    session, image, make_history, make_alert, qtbot
) -> None:
    host = QMainWindow()
    qtbot.addWidget(host)
    panels = [cls(session) for cls in (ImagesPanel, DriftPanel, PsfPanel, StatePanel)]
    for panel in panels:
        dock = QDockWidget(type(panel).__name__, host)
        dock.setWidget(panel)
        host.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, dock)
    images, drift, psf, state = panels
    host.show()
    qtbot.waitUntil(
        lambda: images.images.raw.notice == "waiting for the first frame", timeout=5000
    )
    session.history = make_history(50, 8)
    session.alerts.append(make_alert(1.0, "alarm", "moved"))
    result = session.publish(image)
    qtbot.waitUntil(lambda: images.images.raw.image is image, timeout=5000)
    qtbot.waitUntil(lambda: state.chip.text().startswith("UNCHANGED"), timeout=5000)
    qtbot.waitUntil(lambda: psf._shown is result, timeout=5000)
    assert len(drift.drift._curves[0].getData()[0]) >= 50
    assert state.banner.isVisible()
    state.banner.acknowledge_button.click()
    assert session.calls == ["acknowledge"]
    # Hidden panels cost nothing.
    host.hide()
    QApplication.processEvents()
    assert not any(panel.timer.isActive() for panel in panels)


@pytest.mark.parametrize("cls", [ImagesPanel, DriftPanel, PsfPanel, StatePanel])
def test_they_fit_a_small_dock(session, qtbot, cls) -> None:
    panel = cls(session)
    qtbot.addWidget(panel)
    least = panel.minimumSizeHint()
    assert least.width() <= 400 and least.height() <= 300


def test_an_error_is_logged_once_and_survived(session, qtbot, caplog) -> None:
    panel = DriftPanel(session)
    qtbot.addWidget(panel)
    session.history = None
    panel._on_timer()
    panel._on_timer()
    assert caplog.text.count("error in a panel") == 1
