"""One chip, one line: what cannot be trusted is said first."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from deepblur_live.gui.state_text import (
    ChipState,
    chip_of,
    format_wavefront,
    raw_only_text,
    status_text,
)
from deepblur_live.gui.theme import CHIP_COLOURS
from deepblur_live.runtime.frame import Frame, FrameResult, FrameState

GOOD = FrameResult(Frame(np.zeros((2, 2)), 0, 0.0), FrameState.DEBLURRED)
RAW = replace(GOOD, state=FrameState.RAW_ONLY, reason="saturated")


@pytest.fixture
def statistics(session):
    return session.listener.statistics


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ("baselining", "BASELINING 7/20"),
        ("ok", "OK"),
        ("warn", "WARN"),
        ("alarm", "ALARM"),
        ("raw-only", "RAW-ONLY"),
        ("stale", "STALE 0 s"),
    ],
)
def test_the_monitors_states(session, statistics, state: str, text: str) -> None:
    reason = "why" if state in ("raw-only", "stale") else ""
    status = replace(session.status, state=state, n_baseline=7, reason=reason)
    chip = chip_of(GOOD, status, statistics, 0.1)
    assert chip.text == text
    assert chip.state == state
    assert chip.reason


def test_no_frames(session, statistics) -> None:
    assert chip_of(None, session.status, statistics, 99.0).text == "NO FRAMES"


def test_why_is_told(session, statistics) -> None:
    status = replace(session.status, state="raw-only", reason="the process is down")
    chip = chip_of(RAW, status, statistics, 0.1)
    assert (chip.state, chip.reason) == (ChipState.RAW_ONLY, "the process is down")


def test_how_long_it_has_been_stale(session, statistics) -> None:
    status = replace(session.status, state="stale", reason="no frame from live")
    chip = chip_of(GOOD, status, statistics, 12.0)
    assert (chip.text, chip.reason) == ("STALE 12 s", "no frame from live")


def test_frames_that_do_not_come_back_make_the_picture_stale(
    session, statistics
) -> None:
    assert statistics.in_flight > 0
    stuck = chip_of(GOOD, session.status, statistics, 8.0, 0.1)
    assert (stuck.state, stuck.text) == (ChipState.STALE, "STALE 8 s")
    slow = chip_of(GOOD, session.status, statistics, 8.0, 4.0)
    assert slow.state is ChipState.OK
    paused = chip_of(GOOD, session.status, replace(statistics, in_flight=0), 8.0, 0.1)
    assert paused.state is ChipState.OK


def test_a_state_from_the_future_is_said(session, statistics) -> None:
    status = SimpleNamespace(state="snoozed", n_baseline=0, n_needed=0, reason="")
    assert chip_of(GOOD, status, statistics, 0.1).text == "SNOOZED"


@pytest.mark.parametrize("state", ChipState)
def test_chips_can_be_read(state: ChipState) -> None:
    def luminance(colour: str) -> float:
        parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted(luminance(colour) for colour in CHIP_COLOURS[state])
    assert (high + 0.05) / (low + 0.05) > 4.5


def test_the_status_line_says_it_all(statistics) -> None:
    text = status_text(statistics, 18.5)
    for part in (
        "camera 97.0",
        "processed 19.3",
        "shown 18.5 fps",
        "p50 52 ms",
        "p95 71 ms",
        "captured 1\u202f203 = processed 310 + dropped 892 + in flight 1",
        "camera gaps 0",
        "worker running",
    ):
        assert part in text


def test_latency_before_the_first_frame(statistics) -> None:
    for nothing in (0.0, float("nan")):
        empty = replace(statistics, latency_p50_ms=nothing, latency_p95_ms=nothing)
        assert "p50 –, p95 –" in status_text(empty, 0.0)


def test_raw_only_reasons(statistics) -> None:
    assert "2 × constant" in raw_only_text(statistics)
    assert raw_only_text(replace(statistics, raw_only={})).startswith("no frame")


def test_wavefront_in_both_units() -> None:
    assert (
        format_wavefront(0.815, 0.072, 540.0) == "Strehl 0.81\n39 nm rms\n0.072 waves"
    )


def test_what_needs_no_qt_imports_none() -> None:
    modules = (
        "contrast picture curves state_text theme snapshot camera_link session_view"
    )
    code = (
        "import sys, importlib\n"
        f"for name in {modules.split()!r}:\n"
        "    importlib.import_module('deepblur_live.gui.' + name)\n"
        "found = {'qtpy', 'PyQt6', 'PySide6', 'pyqtgraph'} & set(sys.modules)\n"
        "sys.exit(f'Qt came in: {found}' if found else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
