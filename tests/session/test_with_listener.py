"""A session behind the real listener, its worker on a thread."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from deepblur_live.acquisition.listener import DeblurListener
from deepblur_live.blur import Estimate, family_from_profile
from deepblur_live.drift import DriftState, Tracker
from deepblur_live.profile import Drift, Profile
from deepblur_live.runtime.frame import (
    Frame,
    FrameResult,
    FrameState,
    SynchronousPipeline,
)
from deepblur_live.runtime.pack import load_manifest
from deepblur_live.session import LiveSession

PROFILE = Profile(drift=Drift(baseline_points=10))


class TrueIdentification(SynchronousPipeline):
    """A pipeline that reads the truth and adds a millliwave of noise."""

    def __init__(self) -> None:
        errors = load_manifest(PROFILE.model.name)[1].error_model
        self._tracker = Tracker(family_from_profile(PROFILE), errors)
        self._rng = np.random.default_rng(0)

    def process(self, frame: Frame) -> FrameResult:
        if not np.ptp(frame.pixels):
            return FrameResult(
                frame.info, FrameState.RAW_ONLY, "constant", raw=frame.pixels
            )
        truth = np.array(frame.metadata["truth"])
        noisy = truth + self._rng.normal(0, 0.001, 8)
        estimate = Estimate(noisy, np.eye(8) * 1e-6, 1.0)
        return FrameResult(
            frame.info,
            FrameState.DEBLURRED,
            raw=frame.pixels,
            deblurred=frame.pixels.astype(np.float32),
            estimate=estimate,
            track=self._tracker.update(frame.time, estimate),
        )


def test_ramp_through_the_listener(tmp_path, family, start):
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 1000, (64, 64), dtype=np.uint16)
    alarmed = threading.Event()
    with DeblurListener(TrueIdentification, policy="all", in_process=True) as listener:
        session = LiveSession(
            PROFILE,
            family,
            listener,
            tmp_path,
            truth_image=lambda metadata: pixels.astype(float),
        )
        session.events.alertRaised.connect(
            lambda alert: alarmed.set() if alert.level is DriftState.ALARM else None
        )
        ramp = np.concatenate([np.zeros(15), np.linspace(0, 0.12, 60)])
        # A frame a batch of the control charts.
        times = PROFILE.drift.batch_s * np.arange(len(ramp) + 4)
        for time, amount in zip(times.tolist(), ramp, strict=False):
            truth = start + amount * np.eye(8)[3]
            metadata = {"truth": truth.tolist(), "truth_time": time}
            assert listener.submit(pixels, metadata, "ramp", time=time, block=True)
        for time in times[-4:].tolist():
            listener.submit(np.zeros((64, 64)), {}, "ramp", time=time, block=True)
        assert listener.drain(20)
        assert alarmed.is_set()
        assert session.status.state is DriftState.RAW_ONLY
        summary = session.close()
        assert list(session.background_errors) == []
        assert listener.background_errors == []
    assert summary.captured == summary.processed == 79
    assert dict(summary.raw_only) == {"constant": 4}
    assert [alert.level for alert in summary.alerts] == [
        DriftState.WARN,
        DriftState.ALARM,
    ]
    assert summary.psf.mean > 20
    assert summary.images.psnr_deblurred == pytest.approx(300, abs=200)
    assert (session.folder / "drift.png").exists()
