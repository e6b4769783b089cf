"""Commands with a pipeline that answers with the truth, quickly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from deepblur_live.acquisition.truth import read_truth
from deepblur_live.cli import rig
from deepblur_live.cli.commands import app
from deepblur_live.drift import TrackState
from deepblur_live.optics import Estimate
from deepblur_live.runtime.frame import Frame, FrameResult, FrameState


class JumpingPipeline:
    """Says what the frame's metadata know, and a jump after so many frames."""

    def __init__(self, jump_after: int) -> None:
        self._jump_after = jump_after
        self._frames = 0
        self._rng = np.random.default_rng(0)

    def process(self, frame: Frame) -> FrameResult:
        truth = read_truth(frame.metadata)
        gamma = np.zeros(7) if truth is None else truth.coefficients.copy()
        self._frames += 1
        if self._frames > self._jump_after:
            gamma[3] += 0.3
        gamma += self._rng.normal(0, 0.001, 7)
        covariance = 1e-6 * np.eye(7)
        # A frame a batch of the control charts.
        time = 30.0 * self._frames
        return FrameResult(
            frame,
            FrameState.DEBLURRED,
            deblurred=frame.pixels.astype(np.float32),
            estimate=Estimate(gamma, covariance, 1.0),
            track=TrackState(time, gamma, covariance, 7.0, True),
        )


@pytest.fixture
def jump(monkeypatch):
    """Make every rig's pipeline jump after so many frames: `jump(30)`."""

    def after(frames: int) -> None:
        monkeypatch.setattr(
            rig, "pipeline_factory", lambda profile: lambda: JumpingPipeline(frames)
        )

    return after


@pytest.fixture
def call():
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def session_of():
    """The folder and the JSON of the one session under a folder."""

    def find(parent: Path):
        (folder,) = (path for path in parent.iterdir() if path.is_dir())
        return folder, json.loads((folder / "session.json").read_text("utf-8"))

    return find
