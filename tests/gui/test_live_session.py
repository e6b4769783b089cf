"""The window with a real session: listener, worker thread, drift monitor, history."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import torch

from deepblur_live.acquisition.listener import DeblurListener
from deepblur_live.blur import Estimate
from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.drift import TrackState
from deepblur_live.gui.main_window import MainWindow
from deepblur_live.profile import Drift, Profile
from deepblur_live.runtime.frame import (
    Frame,
    FrameResult,
    FrameState,
    SynchronousPipeline,
)
from deepblur_live.session import LiveSession

PROFILE = Profile(drift=Drift(baseline_points=5))


class TruthfulPipeline(SynchronousPipeline):
    """Knows each frame's coefficients from its metadata; no network needed."""

    def __init__(self) -> None:
        self.family = ZernikeFamily.from_optics(PROFILE.optics)
        self._rng = np.random.default_rng(0)

    def process(self, frame: Frame) -> FrameResult:
        if frame.pixels.min() == frame.pixels.max():
            return FrameResult(
                frame.info, FrameState.RAW_ONLY, "constant", raw=frame.pixels
            )
        gamma = np.asarray(frame.metadata["truth"], dtype=np.float64)
        gamma = gamma + self._rng.normal(0, 0.001, 8)
        covariance = np.eye(len(gamma)) * 1e-6
        with torch.inference_mode():
            psf = self.family.psf(torch.as_tensor(gamma)).numpy().astype(np.float32)
        return FrameResult(
            frame.info,
            FrameState.DEBLURRED,
            raw=frame.pixels,
            deblurred=frame.pixels.astype(np.float32),
            estimate=Estimate(gamma, covariance, 1.0),
            track=TrackState(frame.time, gamma, covariance, 7.0, True),
            psf=psf,
        )


def truth(defocus: float) -> dict[str, object]:
    return {"truth": [defocus, 0.02, 0, 0, 0.03, 0, 0, 0], "truth_time": 0.0}


def test_from_frames_to_banner_and_back(
    image: np.ndarray, tmp_path: Path, qtbot: object
) -> None:
    family = ZernikeFamily.from_optics(PROFILE.optics)
    with DeblurListener(TruthfulPipeline, policy="all", in_process=True) as listener:
        session = LiveSession(PROFILE, family, listener, tmp_path)
        window = MainWindow(session)
        qtbot.addWidget(window)
        window.show()
        # One frame per batch of the control charts.
        times = itertools.count(0.0, PROFILE.drift.batch_s)

        def submit(metadata: dict[str, object]) -> None:
            assert listener.submit(
                image, metadata, "replay", block=True, time=next(times)
            )

        for _ in range(12):
            submit(truth(0.01))
        qtbot.waitUntil(
            lambda: window.toolbar.chip.text().startswith("UNCHANGED since"),
            timeout=10_000,
        )
        assert window.shown.frame.source == "replay"
        assert window.psf.true.isVisible()

        for _ in range(12):
            submit(truth(0.12))
        qtbot.waitUntil(lambda: window.toolbar.chip.text() == "ALARM", timeout=10_000)
        qtbot.waitUntil(window.banner.isVisible, timeout=10_000)
        assert "defocus" in window.banner.text.text()
        qtbot.waitUntil(
            lambda: len(window.drift._curves[0].getData()[0]) == 24, timeout=10_000
        )
        window.commands.acknowledge.trigger()
        assert session.status.acknowledged
        qtbot.waitUntil(window.banner.isHidden, timeout=10_000)

        window.commands.rebaseline.trigger()
        qtbot.waitUntil(
            lambda: window.toolbar.chip.text() == "BASELINING 0/5", timeout=10_000
        )
        for _ in range(4):
            assert listener.submit(np.zeros((30, 40), np.uint16), {}, block=True)
        qtbot.waitUntil(
            lambda: window.toolbar.chip.text() == "RAW-ONLY", timeout=10_000
        )
        assert "constant" in window.images.deblurred.notice
        paths = window.save_snapshot()
        assert paths and all(path.parent == session.folder for path in paths)
        assert "in flight 0" in window.status.text()
        assert window.error == ""
        window.close()
        session.close()
