"""Scores against the truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deepblur_live.acquisition.missed import Missed
from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.drift import Alert, DriftState
from deepblur_live.optics import psf_snr
from deepblur_live.session.fidelity import (
    image_fidelity,
    psf_fidelity,
    take_sample,
    with_truth,
)
from deepblur_live.session.history import HistoryBuffer
from deepblur_live.session.summary import SessionSummary


def test_psf_snr_over_points_with_known_truth(family, start):
    buffer = HistoryBuffer(8)
    error = np.array([0.02, 0, 0, 0, 0, 0, 0, 0])
    for k in range(600):
        truth = start if k % 3 else None
        buffer.append(float(k), start + error, error, truth, 0.0)
    found = psf_fidelity(buffer.snapshot(), family)
    expected = psf_snr(
        family.psf(torch.as_tensor(start + error)), family.psf(torch.as_tensor(start))
    )
    assert found.n == 200
    assert found.mean == pytest.approx(float(expected), abs=1e-6)
    assert found.median == pytest.approx(float(expected), abs=1e-6)
    assert found.constant < found.mean


def test_constant_psf_of_the_box_is_the_known_number():
    """4.1 dB on coefficients drawn from the paper's box, as published."""
    family = ZernikeFamily()
    buffer = HistoryBuffer(7)
    drawn = family.sample(200, torch.Generator().manual_seed(1)).double().numpy()
    for k, gamma in enumerate(drawn):
        buffer.append(float(k), gamma * 0, gamma, gamma, 0.0)
    found = psf_fidelity(buffer.snapshot(), family)
    assert found.constant == pytest.approx(4.1, abs=0.4)
    assert found.mean < 0


def test_without_truth_fidelity_is_nan(family, start):
    buffer = HistoryBuffer(8)
    buffer.append(0.0, start, start, None, 0.0)
    found = psf_fidelity(buffer.snapshot(), family)
    assert found.n == 0
    assert np.isnan(found.mean)


def test_images_against_their_sharp_ones(results):
    results.shape = (600, 540)
    samples = [take_sample(results(), 100.0) for _ in range(3)]
    assert samples[0].raw.shape == (512, 512)
    rng = np.random.default_rng(0)
    sharp = rng.uniform(0, 1000, (600, 540))
    errors: list[str] = []
    known = with_truth(samples, lambda metadata: sharp, errors.append)
    # The region is the frame's middle.
    np.testing.assert_array_equal(
        known[0].truth, sharp[44:556, 14:526].astype(np.float32)
    )
    exact = [
        type(s)(**{**vars(s), "deblurred": s.truth, "raw": s.truth + 10}) for s in known
    ]
    found = image_fidelity(exact)
    assert found.n == 3
    peak = np.ptp(known[0].truth)
    assert found.psnr_raw == pytest.approx(20 * np.log10(peak / 10), abs=1e-3)
    assert found.ssim_deblurred == pytest.approx(1.0)
    assert found.ssim_raw < 1
    assert errors == []


def test_truth_that_fails_leaves_the_sample_without(results):
    sample = take_sample(results(), 100.0)
    errors: list[str] = []

    def broken(metadata):
        raise KeyError("truth_time")

    assert with_truth([sample], broken, errors.append)[0].truth is None
    assert with_truth([sample], lambda m: np.ones((3, 3)), errors.append)
    assert with_truth([sample], lambda m: None, errors.append)[0].truth is None
    assert "truth_time" in errors[0]
    assert "(3, 3)" in errors[1]
    assert len(errors) == 2
    assert image_fidelity([sample]).n == 0


def test_summary_in_words():
    summary = SessionSummary(
        duration_s=100.0,
        captured=1000,
        processed=900,
        dropped=100,
        missed=Missed(taken=3, unread=1),
        raw_only={"saturated": 4},
        fps=9.0,
        latency_p50_ms=80.4,
        latency_p95_ms=140.0,
        rows_lost=2,
    )
    assert summary.text().splitlines() == [
        "Frames   1000 captured, 900 processed, 100 dropped; the capture took 0:01:40; "
        "passed on raw: 4 (saturated); 3 taken by another reader, 1 not read in time",
        "Speed    9.0 frames/s processed, latency from capture to result 80 ms "
        "(median), 140 ms (95 %)",
        "Alerts   none",
        "Log      2 rows lost",
    ]


def test_of_many_alerts_the_summary_shows_the_last():
    alerts = tuple(
        Alert(k, DriftState.WARN, 0.1, 0.01, "waves rms", (), (), k, f"number {k}")
        for k in range(68)
    )
    values = {"duration_s": 1.0, "captured": 1, "processed": 1, "dropped": 0}
    speed = {"fps": 0.0, "latency_p50_ms": 1.0, "latency_p95_ms": 1.0}
    summary = SessionSummary(**values, **speed, raw_only={}, alerts=alerts)
    lines = [line for line in summary.text().splitlines() if line.startswith("Alert")]
    assert lines[0] == "Alerts   68, the last 10:"
    assert [line.split()[-1] for line in lines[1:]] == [str(k) for k in range(58, 68)]
