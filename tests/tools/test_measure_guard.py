"""The table of the guard: its counts, and one frame judged as live."""

import importlib
import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from deepblur_live.acquisition.specimen import load_specimen
from deepblur_live.blur import family_from_profile
from deepblur_live.profile import Profile
from deepblur_live.runtime.guard import FrameGuard, Verdict

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("measure_guard")


def test_a_line_counts_harm_and_good_frames_that_were_refused(tool):
    found = [
        tool.Judged(3.0, 3.0, Verdict()),
        tool.Judged(1.0, 0.0, Verdict(0.0, "wrongly refused")),
        tool.Judged(-2.0, 0.0, Verdict(0.0, "rightly refused")),
        tool.Judged(-1.0, -1.0, Verdict()),
        tool.Judged(1.0, 2.0, Verdict(0.5, "half")),
    ]
    assert (
        tool.row("name", found) == "| name | +0.40 | +0.80 | 2/1/2 | 2 | 1 | 1 of 3 |"
    )


def test_a_frame_that_is_sharp_already_is_refused(tool):
    family = family_from_profile(Profile())
    network = tool.networks(TOOLS.parent / "engines" / "zernike7", ())["quality"]
    side = tool.SIDE + 2 * tool.MARGIN
    grey = np.asarray(load_specimen(), float)
    extra = [(0, max(0, side - size)) for size in grey.shape]
    picture = np.pad(grey / grey.max(), extra, mode="symmetric")[:side, :side]
    frame = tool.expose(tool.CONDITIONS["filled, sharp already"], picture, 1, family)
    found = tool.judged(frame, network, family, FrameGuard(family))
    assert found.verdict.strength == 0
    assert found.shown == pytest.approx(0, abs=1e-6)
    beads = tool.beads(picture, np.random.default_rng(0))
    assert beads.max() == 1
    assert 0 < np.mean(beads > 0.1) < 0.05


def test_the_frames_that_were_asked_for_are_judged(tool, monkeypatch):
    count = itertools.count(1)

    def submit(frame):
        raw = SimpleNamespace(
            estimate=None, track=None, strength=0.0, reason=f"frame {next(count)}"
        )
        return SimpleNamespace(result=lambda: raw)

    pipeline = SimpleNamespace(submit=submit, close=lambda: None)
    monkeypatch.setattr(tool, "build_pipeline", lambda *_, **__: pipeline)
    side = tool.SIDE + 2 * tool.MARGIN
    picture = np.random.default_rng(0).random((side, side))
    condition = tool.CONDITIONS["filled, 500 e"]
    family = family_from_profile(Profile())
    found = tool.identified(condition, picture, 1, family, None, [2, 4])
    assert [one.verdict.reason for one in found] == ["frame 2", "frame 4"]
