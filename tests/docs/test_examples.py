"""Each example of the documentation runs, as it is printed there."""

from __future__ import annotations

import importlib.util
import runpy
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deepblur_live.calibration import calibrate, modes
from deepblur_live.drift import Alert, DriftState
from deepblur_live.session.sinks import AlertNotice, NoticeKind

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"

# What each prints last, or a part of it.
_SAYS = {
    "alert_sink": "lab book: 0 delivered",
    "calibrate": "for model.calibration: rig.calib",
    "deblur_one_frame": "Noll 10:",
    "dock": "",
    "mda": "10 captured",
    "replay": "5 captured, 5 processed",
}
_NEEDS = {"napari_layers": "napari", "pymmcore_gui_dock": "pymmcore_gui"}
# Of what they call, other tests are quicker.
_SLOW = {"calibrate"}
# It ends Qt's event loop, which must not happen in the process of other window tests:
# Qt then starts no nested loop, and every wait of theirs would time out.
_OWN_PROCESS = {"dock", "pymmcore_gui_dock"}
# Runs an example of napari until both layers are shown, then closes its window.
_IN_NAPARI = """
import runpy, sys
import napari
from qtpy.QtCore import QTimer

run = napari.run


def until_shown():
    viewer = napari.current_viewer()

    def look():
        if len(viewer.layers) == 2:
            viewer.window._qt_window.close()

    timer = QTimer()
    timer.timeout.connect(look)
    timer.start(200)
    run()


napari.run = until_shown
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def test_every_example_is_run() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {*_SAYS, *_NEEDS}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in _SLOW else [])
        for name in [*_SAYS, *_NEEDS]
    ],
)
def test_example(name, tmp_path, monkeypatch, capsys, qapp) -> None:
    if name in _NEEDS:
        if importlib.util.find_spec(_NEEDS[name]) is None:
            pytest.skip(f"{_NEEDS[name]} is not installed")
    monkeypatch.chdir(tmp_path)
    if name == "calibrate":
        # More modes, and other NAs, take four fifths of its time.
        monkeypatch.setattr(modes, "_LAST_MODES", (11,))
        monkeypatch.setattr(calibrate, "_FOR_APERTURE", 1)
    if name == "napari_layers":
        command = [sys.executable, "-c", _IN_NAPARI, str(EXAMPLES / f"{name}.py")]
        subprocess.run(command, check=True, timeout=300)
        return
    if name in _OWN_PROCESS:
        command = [sys.executable, str(EXAMPLES / f"{name}.py")]
        subprocess.run(command, check=True, timeout=120)
        return
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert _SAYS.get(name, "") in capsys.readouterr().out


def test_the_lab_book_gets_a_line(tmp_path) -> None:
    alert = Alert(
        time=60.0,
        level=DriftState.ALARM,
        change=0.1,
        change_sigma=0.01,
        unit="waves rms",
        coefficients=("defocus",),
        changes=(0.1,),
        since=30.0,
        text="ALARM at 0:01:00: the blur has changed",
    )
    when = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    book = runpy.run_path(str(EXAMPLES / "alert_sink.py"))["LabBook"](
        tmp_path / "book.txt"
    )
    book.deliver(AlertNotice(NoticeKind.RAISED, alert, 60.0, when, "room 12"))
    line = (tmp_path / "book.txt").read_text(encoding="utf-8")
    assert line == f"2026-01-02 03:04  room 12: {alert.text}\n"
