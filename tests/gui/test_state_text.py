"""Texts of the window: the state chip, the status line, PSF captions, times."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from deepblur_live.blur import Quality
from deepblur_live.drift import DriftState, SpectralChange
from deepblur_live.gui.quality_label import quality_texts
from deepblur_live.gui.state_text import (
    chip_of,
    quality_text,
    raw_only_text,
    session_time,
    status_text,
)
from deepblur_live.gui.theme import CHIP_COLOURS, GRADE_COLOURS
from deepblur_live.runtime.frame import FrameInfo, FrameResult, FrameState
from deepblur_live.session.quality import blur_quality
from deepblur_live.session.verification import (
    NOT_VERIFIED,
    Verification,
    VerificationState,
)

GOOD = FrameResult(FrameInfo(0, 0.0), FrameState.DEBLURRED, raw=np.zeros((2, 2)))
RAW = replace(GOOD, state=FrameState.RAW_ONLY, reason="saturated")


@pytest.fixture
def statistics(session):
    return session.listener.statistics


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ("baselining", "BASELINING 7/20"),
        ("ok", "UNCHANGED"),
        ("warn", "WARN"),
        ("alarm", "ALARM"),
        ("raw-only", "RAW-ONLY"),
        ("stale", "STALE 0 s"),
    ],
)
def test_states_of_the_session(session, statistics, state: str, text: str) -> None:
    reason = "why" if state in ("raw-only", "stale") else ""
    status = replace(
        session.status, state=DriftState(state), n_baseline=7, reason=reason
    )
    chip = chip_of(GOOD, status, statistics, 0.1)
    assert chip.text == text
    assert chip.state == state
    assert chip.reason


def test_unchanged_says_since_when(session, statistics) -> None:
    status = replace(session.status, begin=723.0)
    assert chip_of(GOOD, status, statistics, 0.1).text == "UNCHANGED since 0:12:03"


def test_a_provisional_judgement_says_when_it_will_be_sure(session, statistics) -> None:
    change = SpectralChange(
        DriftState.BASELINING, 6, 20, provisional=True, least=0.12, sure_in_s=390.0
    )
    status = replace(
        session.status, state=DriftState.BASELINING, n_baseline=6, spectral=change
    )
    chip = chip_of(GOOD, status, statistics, 0.1)
    assert chip.text == "UNCHANGED · provisional, sure in 7 min"
    assert "by less than 12 %" in chip.reason and "6 of 20 points" in chip.reason
    soon = replace(status, spectral=replace(change, sure_in_s=12.0))
    assert chip_of(GOOD, soon, statistics, 0.1).text.endswith("sure in 12 s")
    unknown = replace(status, spectral=replace(change, sure_in_s=float("nan")))
    assert chip_of(GOOD, unknown, statistics, 0.1).text.endswith("provisional")
    warned = replace(status, state=DriftState.WARN)
    assert chip_of(GOOD, warned, statistics, 0.1).text == "WARN · provisional"


def test_the_share_that_was_watched_is_reported(session, statistics) -> None:
    chip = chip_of(GOOD, session.status, statistics, 0.1, 0.0, session.watched)
    assert "watched for changes 80 % of the time (20 % provisionally)" in chip.reason


@pytest.mark.parametrize(
    ("defocus", "text"), [(0.0, "good"), (0.1, "fair"), (0.2, "poor")]
)
def test_unchanged_is_never_green_over_a_bad_blur(session, defocus, text) -> None:
    gamma = np.zeros(session.family.n_coefficients)
    gamma[0] = defocus
    quality = blur_quality(session.family, gamma, 1e-6 * np.eye(len(gamma)))
    shown, _, grade = quality_texts(quality, NOT_VERIFIED)
    assert shown.startswith("Strehl ") and shown.endswith(text) and grade == text
    greens = [GRADE_COLOURS["good"][0]]
    assert CHIP_COLOURS[DriftState.OK][0] not in greens
    assert (GRADE_COLOURS[grade][0] in greens) == (text == "good")


def test_contradicted_estimates_get_no_grade(session) -> None:
    quality = blur_quality(session.family, np.zeros(session.family.n_coefficients))
    wrong = Verification(VerificationState.CONTRADICTED, "by a sweep")
    text, tip, grade = quality_texts(quality, wrong)
    assert (text, grade) == ("Strehl 1?", "") and "by a sweep" in tip


def test_no_frames(session, statistics) -> None:
    chip = chip_of(None, session.status, statistics, 99.0)
    assert (chip.state, chip.text) == (None, "NO FRAMES")
    assert "worker running" in chip.reason


def test_frames_of_which_none_is_processed_yet(session, statistics) -> None:
    first = replace(statistics, captured=71, processed=0, in_flight=2, dropped=69)
    chip = chip_of(None, session.status, first, 99.0)
    assert (chip.state, chip.text) == (None, "IDENTIFYING …")
    assert "captured 71, no frame has been processed yet" in chip.reason
    none = replace(first, captured=0, in_flight=0, dropped=0)
    assert chip_of(None, session.status, none, 99.0).text == "NO FRAMES"


def test_the_reason_is_passed_on(session, statistics) -> None:
    status = replace(
        session.status, state=DriftState.RAW_ONLY, reason="the process is down"
    )
    chip = chip_of(RAW, status, statistics, 0.1)
    assert (chip.state, chip.reason) == (DriftState.RAW_ONLY, "the process is down")


def test_stale_shows_for_how_long(session, statistics) -> None:
    status = replace(
        session.status, state=DriftState.STALE, reason="no frame from live"
    )
    chip = chip_of(GOOD, status, statistics, 12.0)
    assert (chip.text, chip.reason) == ("STALE 12 s", "no frame from live")


def test_stuck_frames_make_the_image_stale(session, statistics) -> None:
    assert statistics.in_flight > 0
    stuck = chip_of(GOOD, session.status, statistics, 8.0, 0.1)
    assert (stuck.state, stuck.text) == (DriftState.STALE, "STALE 8 s")
    slow = chip_of(GOOD, session.status, statistics, 8.0, 4.0)
    assert slow.state is DriftState.OK
    paused = chip_of(GOOD, session.status, replace(statistics, in_flight=0), 8.0, 0.1)
    assert paused.state is DriftState.OK


@pytest.mark.parametrize("state", [None, *DriftState, *GRADE_COLOURS])
def test_chips_are_legible(state: DriftState | str | None) -> None:
    def luminance(colour: str) -> float:
        parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted(
        luminance(colour) for colour in (CHIP_COLOURS | GRADE_COLOURS)[state]
    )
    assert (high + 0.05) / (low + 0.05) > 4.5


def test_the_status_line_is_complete(statistics) -> None:
    text = status_text(statistics, 18.5)
    for part in (
        "camera 97.0",
        "processed 19.3",
        "shown 18.5 fps",
        "median 52 ms",
        "p95 71 ms",
        "captured 1\u202f203 = processed 310 + dropped 892 + in flight 1",
        "missed 0",
        "worker running",
    ):
        assert part in text


def test_latency_before_the_first_frame(statistics) -> None:
    for nothing in (0.0, float("nan")):
        empty = replace(statistics, latency_p50_ms=nothing, latency_p95_ms=nothing)
        assert "median –, p95 –" in status_text(empty, 0.0)


def test_raw_only_reasons(statistics) -> None:
    assert "2 × constant" in raw_only_text(statistics)
    assert raw_only_text(replace(statistics, raw_only={})).startswith("no frame")


def test_a_psf_caption_has_both_units() -> None:
    qualities = (
        Quality("width", 2.5, "pixels"),
        Quality("wavefront rms", 0.072, "waves", "nm", 540.0),
        Quality("Strehl", 0.8125),
    )
    assert quality_text(qualities).splitlines() == [
        "width",
        "2.5 pixels",
        "wavefront rms",
        "38.9 nm (0.072 waves)",
        "Strehl 0.812",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.6, "1:00"), (65, "1:05"), (7400, "2:03:20"), (-5, "−0:05")],
)
def test_times(seconds: float, text: str) -> None:
    assert session_time(seconds) == text


def test_what_needs_no_qt_imports_none() -> None:
    modules = "contrast rendering state_text theme snapshot camera_link"
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
