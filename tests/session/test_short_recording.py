"""Forty frames are enough for an alert: long before a baseline is complete."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from truth_pipeline import TruthPipeline

from deepblur_live.acquisition import DeblurListener, open_series
from deepblur_live.acquisition.simulated_sample import SimulatedSample
from deepblur_live.acquisition.trajectory import AberrationTrajectory, Step
from deepblur_live.cli.headless import feed
from deepblur_live.drift import CONTRAST_UNIT, DriftState
from deepblur_live.profile import Profile
from deepblur_live.session import LiveSession

FRAMES = 40
STILL = np.array([0.03, 0.0, 0.0, 0.02, 0.0, 0.0, 0.0, 0.0])
# Strehl ratio 0.95 before, 0.46 after.
WORSE = np.array([0.12, 0.0, 0.06, 0.02, 0.0, 0.0, 0.0, 0.0])


def steps(kind):
    if kind == "step":
        return (Step(20.0, tuple(WORSE - STILL)),)
    if kind == "gradual":
        each = tuple((WORSE - STILL) / (FRAMES - 1))
        return tuple(Step(float(k), each) for k in range(1, FRAMES))
    return ()


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("kind", ["step", "gradual", "unchanged"])
def test_forty_frames_in_which_the_strehl_ratio_falls_by_half(kind, family, tmp_path):
    before, after = (family.quality(gamma)[1].value for gamma in (STILL, WORSE))
    assert after < 0.5 * before
    trajectory = AberrationTrajectory(tuple(STILL), steps=steps(kind))
    sample = SimulatedSample(trajectory=trajectory, shape=(160, 160))
    frames = [sample.frame(float(k)) for k in range(FRAMES)]
    path = tmp_path / "short.tif"
    tifffile.imwrite(path, np.array([frame.pixels for frame in frames]))
    truths = [frame.coefficients for frame in frames]
    listener = DeblurListener(
        # The pipeline counts frames from one.
        lambda: TruthPipeline(truths=[*truths[1:], truths[0]]),
        policy="all",
        in_process=True,
    )
    # The charts of the default profile need a baseline of ten minutes.
    with listener, open_series(path) as series:
        session = LiveSession(Profile(), family, listener, tmp_path)
        feed(session, series)
        assert listener.drain(60)
        status, watched = session.status, session.watched
        summary = session.close()
    assert not session.background_errors
    if kind == "unchanged":
        assert not summary.alerts
        assert status.state is DriftState.BASELINING
    else:
        alert = summary.alerts[0]
        assert alert.unit == CONTRAST_UNIT and alert.change > 0.08
        assert alert.level is DriftState.ALARM
        assert "provisional" in alert.text and "softer" in alert.text
        assert status.state is DriftState.ALARM
        if kind == "step":
            assert alert.since == pytest.approx(20, abs=1)
    assert watched.total_s == FRAMES - 1
    # All but the first dozen frames, and the dozen after a change.
    assert watched.provisional_s >= 20
    assert "provisionally" in summary.text()
