"""Menus, keys and greyed actions of the window."""

from __future__ import annotations

import pytest
from qtpy.QtWidgets import QMessageBox

from deepblur_live.gui.help_dialogs import about_text, documentation_url
from deepblur_live.gui.image_pair import KEYS
from deepblur_live.gui.main_window import MainWindow


@pytest.fixture
def window(session, qtbot):
    window = MainWindow(session)
    qtbot.addWidget(window)
    window.show()
    window.timer.stop()
    yield window
    assert window.error == ""


def leaves(menu):
    for action in menu.actions():
        if action.menu() is not None:
            yield from leaves(action.menu())
        elif not action.isSeparator():
            yield action


def test_each_action_is_in_a_menu_and_says_what_it_does(window) -> None:
    in_menus = {action for menu in window._menus.all for action in leaves(menu)}
    # Those of a camera are left out without one.
    c = window.commands
    missing = {c.live, c.snap, c.edit_exposure, c.every_frame}
    assert set(window.actions()) - in_menus == missing
    for action in window.actions():
        assert action.whatsThis(), action.text()


def test_no_key_is_used_twice(window) -> None:
    keys = [a.shortcut().toString() for a in window.actions()]
    used = [key for key in keys if key]
    assert len(used) == len(set(used)) > 20


def test_the_list_of_keys_is_made_from_the_actions(window) -> None:
    window.commands.rebaseline.setShortcut("Ctrl+7")
    window.commands.shortcuts.trigger()
    text = window._help.dialog.text.toPlainText()
    assert "Ctrl+7" in text and "Ctrl+B" not in text
    for heading in ("File", "View", "Session", "Help", "Images"):
        assert heading in text
    assert all(key in text for key, _ in KEYS)
    window._help.dialog.close()


def test_what_is_not_possible_says_why(window, session, image) -> None:
    c = window.commands
    window.refresh()
    for action, why in (
        (c.live, "no camera"),
        (c.sweep, "no camera"),
        (c.save, "no frame"),
        (c.acknowledge, "no alert"),
        (c.report, "writes nothing to disk"),
        (c.folder, "writes nothing to disk"),
    ):
        assert not action.isEnabled(), action.text()
        assert why in action.toolTip()
    assert c.rebaseline.isEnabled()
    session.publish(image)
    session.closed = True
    window._slow_at = -1.0
    window.refresh()
    assert c.save.isEnabled() and "Ctrl+S" in c.save.toolTip()
    assert not c.rebaseline.isEnabled()
    assert "session has ended" in c.rebaseline.toolTip()
    assert all(menu.toolTipsVisible() for menu in window._menus.all)


def test_alerts_are_snoozed_by_the_keyboard(window, session, make_alert) -> None:
    session.alerts.append(make_alert(1.0, "alarm", "moved"))
    window.refresh()
    window.commands.snoozes[1].trigger()
    assert session.calls == ["snooze 3600"]
    assert window.banner.isHidden()


def test_about_names_the_versions(window, monkeypatch) -> None:
    shown = []
    monkeypatch.setattr(QMessageBox, "about", lambda *args: shown.append(args[2]))
    window.commands.about.trigger()
    assert shown == [about_text()]
    assert "deepblur-live 0." in shown[0] and "pyqtgraph" in shown[0]


def test_documentation_without_an_address_is_greyed(window) -> None:
    action = window.commands.documentation
    assert action.isEnabled() is bool(documentation_url())
