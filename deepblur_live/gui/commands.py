"""The actions of the window, each with its shortcut and description."""

from __future__ import annotations

from deepblur_live.gui.alert_banner import SNOOZES
from deepblur_live.gui.binding import QtCore, QtGui, QtWidgets
from deepblur_live.gui.image_pair import CompareMode

__all__ = ["COLORMAPS", "Commands", "allow"]

# Text in the menu, by the name of pyqtgraph's gradient.
COLORMAPS = {
    "grey": "Grey",
    "greyclip": "Grey, saturated in red",
    "viridis": "Viridis",
    "inferno": "Inferno",
    "magma": "Magma",
}
_COMPARED = {
    CompareMode.SIDE: ("Side by side", "Ctrl+1", "Show both images"),
    CompareMode.SPLIT: (
        "Split at a line",
        "Ctrl+2",
        "Show one image: raw on the left of a line, deblurred on its right",
    ),
    CompareMode.FLICKER: (
        "Flicker",
        "Ctrl+3",
        "Show raw and deblurred alternately in one image",
    ),
    CompareMode.OVERLAY: (
        "Overlay",
        "Ctrl+4",
        "Show the deblurred image over the raw one, with an opacity that can be set",
    ),
}


class Commands(QtCore.QObject):
    """The actions of a window, which menus and toolbar show and the window connects.

    Shortcuts act while the window, or a widget in it, has the focus: those of a host
    are not affected.

    Parameters
    ----------
    window
        The window that handles the shortcuts.
    """

    def __init__(self, window: QtWidgets.QWidget) -> None:
        super().__init__(window)
        self._file(window)
        self._session(window)
        self._view(window)
        self._help(window)

    def _file(self, window: QtWidgets.QWidget) -> None:
        self.open_recording = _action(
            window,
            "Open recording …",
            "Ctrl+O",
            "Replay a recording in a separate window",
        )
        self.open_profile = _action(
            window,
            "Open profile …",
            "Ctrl+Shift+O",
            "Choose the rig's profile for the recordings opened from here",
        )
        self.edit_profile = _action(
            window,
            "Edit profile …",
            "Ctrl+E",
            "Edit a copy of this session's profile, check it, and save it",
        )
        self.folder = _action(
            window, "Open session folder", "Ctrl+D", "Show this session's files"
        )
        self.report = _action(
            window, "Report", "Ctrl+P", "Write this session's report, and open it"
        )
        self.save = _action(
            window,
            "Snapshot",
            "Ctrl+S",
            "Save a snapshot: raw and deblurred TIFF, coefficients as JSON",
        )
        self.save_as = _action(
            window,
            "Snapshot in …",
            "Ctrl+Shift+S",
            "Save a snapshot in another folder",
        )
        self.close = _action(window, "Close", "Ctrl+Q", "Close this window")

    def _session(self, window: QtWidgets.QWidget) -> None:
        self.live = _toggle(window, "Live", "L", "Start or stop live mode")
        self.snap = _action(window, "Snap", "S", "Acquire one image")
        self.edit_exposure = _action(
            window, "Exposure …", "E", "Type the exposure time; this pauses live mode"
        )
        self.every_frame = _toggle(
            window,
            "Every frame",
            "Shift+E",
            "Deblur every frame of the camera instead of the newest; frames that are "
            "still waiting when this is switched off are dropped",
        )
        self.record = _toggle(
            window,
            "Record",
            "Ctrl+R",
            "Write the deblurred frames to the session's folder, and the raw ones "
            "next to them",
        )
        self.record_in = _action(
            window, "Record in …", "Ctrl+Shift+R", "Record to a file of your choice"
        )
        self.rebaseline = _action(
            window,
            "Re-baseline",
            "Ctrl+B",
            "Use the present state of the optics as the new baseline",
        )
        self.sweep = _action(
            window,
            "Focus sweep …",
            "Ctrl+F",
            "Measure the blur by moving the focus drive, and say how to refocus",
        )
        self.check = _action(
            window,
            "Check the estimate …",
            "Ctrl+Shift+F",
            "Check whether the estimate follows a step of the focus drive; asks before "
            "it moves",
        )
        self.calibrate = _action(
            window,
            "Calibrate with beads …",
            "Ctrl+Shift+B",
            "Measure the microscope's own blur on a slide of beads, step by step",
        )
        self.acknowledge = _action(
            window,
            "Acknowledge",
            "Ctrl+K",
            "Acknowledge the alert; monitoring continues",
        )
        self.snoozes = tuple(
            _action(window, text, "", f"Raise no alert for {text}")
            for text, _ in SNOOZES
        )
        for action, (_, seconds) in zip(self.snoozes, SNOOZES, strict=True):
            action.setData(seconds)

    def _view(self, window: QtWidgets.QWidget) -> None:
        self.compare = QtGui.QActionGroup(self)
        for mode, (text, key, tip) in _COMPARED.items():
            action = _toggle(window, text, key, tip, on=mode is CompareMode.SIDE)
            action.setData(mode.value)
            self.compare.addAction(action)
        self.swap = _toggle(
            window,
            "Swap",
            "Shift+Space",
            "Show the deblurred image in place of the raw one, as holding Space does",
        )
        self.freeze = _toggle(
            window,
            "Freeze",
            "F",
            "Freeze the images; acquisition and monitoring continue",
        )
        self.auto = _toggle(
            window, "Auto", "A", "Adjust the display levels to each frame", on=True
        )
        self.lock = _toggle(
            window,
            "Lock levels",
            "K",
            "Use the levels of the raw image for both images",
        )
        self.region_levels = _toggle(
            window,
            "Levels from region",
            "Shift+R",
            "Take histograms and autocontrast from a rectangle instead of the image",
        )
        self.cross = _toggle(
            window,
            "Crosshair",
            "X",
            "Show a crosshair at the same pixel of both images",
            on=True,
        )
        self.fit = _action(window, "Fit", "0", "Show the whole image")
        self.pixels = _action(window, "1:1", "1", "One image pixel per screen pixel")
        self.colormaps = QtGui.QActionGroup(self)
        for name, text in COLORMAPS.items():
            tip = f"Show grey images in the colormap {name}"
            action = _toggle(window, text, "", tip, on=name == "grey")
            action.setData(name)
            self.colormaps.addAction(action)
        self.reset_layout = _action(
            window, "Reset layout", "Ctrl+0", "Put all panels back in their places"
        )

    def _help(self, window: QtWidgets.QWidget) -> None:
        self.shortcuts = _action(
            window, "Keyboard shortcuts", "F1", "List the keys of this window"
        )
        self.documentation = _action(
            window, "Documentation", "", "Open the documentation in a browser"
        )
        self.about = _action(
            window, "About", "", "Show the versions of this program and its parts"
        )


def allow(action: QtGui.QAction, why_not: str = "") -> None:
    """Enable an action; or grey it out, with a tooltip that says why.

    Parameters
    ----------
    action
        One of `Commands`.
    why_not
        Empty to enable it.
    """
    action.setEnabled(not why_not)
    action.setToolTip(f"Not now: {why_not}" if why_not else _tip(action))


def _action(window: QtWidgets.QWidget, text: str, key: str, tip: str) -> QtGui.QAction:
    action = QtGui.QAction(text, window)
    action.setShortcut(QtGui.QKeySequence(key))
    action.setShortcutContext(QtCore.Qt.ShortcutContext.WidgetWithChildrenShortcut)
    # The description is shown whether or not the action is possible now.
    action.setWhatsThis(tip)
    action.setToolTip(_tip(action))
    window.addAction(action)
    return action


def _toggle(
    window: QtWidgets.QWidget, text: str, key: str, tip: str, *, on: bool = False
) -> QtGui.QAction:
    action = _action(window, text, key, tip)
    action.setCheckable(True)
    action.setChecked(on)
    return action


def _tip(action: QtGui.QAction) -> str:
    native = QtGui.QKeySequence.SequenceFormat.NativeText
    key = action.shortcut().toString(native)
    return f"{action.whatsThis()} ({key})" if key else action.whatsThis()
