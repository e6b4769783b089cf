"""Commands with a fast pipeline that knows the truth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from deepblur_live.acquisition.truth import read_truth
from deepblur_live.blur import Estimate
from deepblur_live.cli.commands import app
from deepblur_live.drift import TrackState
from deepblur_live.runtime.frame import (
    Frame,
    FrameResult,
    FrameState,
    SynchronousPipeline,
)
from deepblur_live.session import connection


class TruthPipeline(SynchronousPipeline):
    """Estimates the truth in the frame's metadata, or zero, with a small error.

    Parameters
    ----------
    jump_after
        Frames before a jump. Each is then a whole batch of the control charts.
    """

    def __init__(self, jump_after: int | None = None) -> None:
        self._jump_after = jump_after
        self._frames = 0
        self._rng = np.random.default_rng(0)

    def process(self, frame: Frame) -> FrameResult:
        self._frames += 1
        truth = read_truth(frame.metadata)
        gamma = self._rng.normal(0, 0.001, 8)
        gamma += 0 if truth is None else truth.coefficients
        time = frame.time
        if self._jump_after is not None:
            time = 30.0 * self._frames
            gamma[3] += 0.3 * (self._frames > self._jump_after)
        covariance = 1e-6 * np.eye(8)
        return FrameResult(
            frame.info,
            FrameState.DEBLURRED,
            raw=frame.pixels,
            deblurred=frame.pixels.astype(np.float32),
            estimate=Estimate(gamma, covariance, 1.0),
            track=TrackState(time, gamma, covariance, 7.0, True),
        )


@pytest.fixture
def pipeline(monkeypatch):
    """Make every session run this pipeline: `pipeline(factory)`."""

    def use(factory) -> None:
        monkeypatch.setattr(connection, "pipeline_factory", lambda profile: factory)

    return use


@pytest.fixture(autouse=True)
def truth_pipeline(pipeline):
    """A fast pipeline unless a test chooses another."""
    pipeline(TruthPipeline)


@pytest.fixture
def jump(pipeline):
    """Make every pipeline jump after so many frames: `jump(30)`."""
    return lambda frames: pipeline(lambda: TruthPipeline(frames))


@pytest.fixture
def call():
    """Run a command in this process."""
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def session_of():
    """The folder and the JSON of the one session in a folder."""

    def find(parent: Path):
        (folder,) = (path for path in parent.iterdir() if path.is_dir())
        return folder, json.loads((folder / "session.json").read_text("utf-8"))

    return find
