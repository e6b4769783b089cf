"""A family in its own file runs through the whole program, with its names and units."""

import csv
import re

import numpy as np
import pytest
import torch
from gaussian_family import GaussianFamily

from deepblur_live.acquisition.simulated import simulated_core
from deepblur_live.acquisition.simulated_sample import SimulatedSample
from deepblur_live.acquisition.trajectory import AberrationTrajectory, Step
from deepblur_live.blur import FAMILIES, family_from_profile
from deepblur_live.drift import DriftState
from deepblur_live.gui.main_window import MainWindow
from deepblur_live.optics import psnr
from deepblur_live.profile import Drift, Model, Profile
from deepblur_live.runtime.frame import FrameState
from deepblur_live.session import LiveSession
from deepblur_live.session.report import write_report

# Limits in the family's unit, pixels.
PROFILE = Profile(
    model=Model(
        family="gaussian_family:GaussianFamily",
        identify_every_s=1.0,
        average_s=0.5,
    ),
    drift=Drift(warn=0.15, alarm=0.3, batch_s=3.0, baseline_points=6),
)
STILL, STEP_AT, STEP, END = (1.4, 0.15, -0.1), 30.0, (0.45, 0.0, 0.0), 54.0


class FakeClock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def specimen():
    return SimulatedSample(
        family=family_from_profile(PROFILE),
        trajectory=AberrationTrajectory(still=STILL, steps=(Step(STEP_AT, STEP),)),
        shape=(128, 128),
        bleaching_s=np.inf,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory, qapp):
    """Camera → listener → worker process → session, a step of the optics, an alert."""
    clock = FakeClock()
    core = simulated_core(specimen(), clock=clock, wait=lambda seconds: None)
    folder, results, texts = tmp_path_factory.mktemp("sessions"), [], {}
    with LiveSession.from_profile(
        PROFILE, folder=folder, every_frame=True, sinks=()
    ) as session:
        session.listener.events.resultReady.connect(results.append)
        window = MainWindow(session)
        while clock.now < END:
            core.snapImage()
            image = core.getTaggedImage()
            session.listener.submit(image.pix, image.tags, time=clock.now, block=True)
            clock.now += 1.0
        assert session.listener.drain(timeout=200)
        window.refresh()
        texts["status"] = window.status.text()
        texts["psf"] = window.psf.estimated.text.text()
        texts["drift"] = window.drift._names
        window.close()
    assert not session.background_errors
    return session, results, texts


def test_the_registry_makes_it_from_a_profile():
    assert isinstance(family_from_profile(PROFILE), GaussianFamily)
    assert set(FAMILIES) == {"zernike"}
    for name, problem in (
        ("gaussian", 'not known; give "zernike"'),
        ("gaussian_family:Missing", "cannot be imported"),
        ("no_such_module:Family", "cannot be imported"),
        ("os.path:join", "not a family of blurs"),
        ("deepblur_live.blur:Box", "missing: canonical, coarse, "),
    ):
        profile = Profile(model=Model(family=name), drift=PROFILE.drift)
        with pytest.raises(ValueError, match=problem):
            family_from_profile(profile)


def test_its_jacobian_is_the_derivative():
    family = GaussianFamily()
    gamma = family.sample(2, torch.Generator().manual_seed(0)).double()
    psf, jacobian = family.psf_and_jacobian(gamma)
    torch.testing.assert_close(psf, family.psf(gamma))
    step = 1e-6 * torch.eye(3, dtype=torch.float64)
    for row in range(2):
        numeric = family.psf(gamma[row] + step) - family.psf(gamma[row] - step)
        torch.testing.assert_close(jacobian[row], numeric / 2e-6, rtol=1e-4, atol=1e-8)


@pytest.mark.slow
def test_it_is_identified_tracked_and_deblurred(finished):
    _, results, _ = finished
    before = [r for r in results if 10 < r.frame.time < STEP_AT and r.estimate]
    assert all(r.estimate.trusted for r in before)
    errors = np.array([r.track.coefficients - STILL for r in before])
    assert np.abs(errors).mean() < 0.06
    after = [r for r in results if r.frame.time > STEP_AT + 15]
    moved = np.mean([r.track.coefficients - STILL for r in after], axis=0)
    np.testing.assert_allclose(moved, STEP, atol=0.1)
    assert all(r.state is FrameState.DEBLURRED for r in after)
    # Deblurred frames are nearer to the sharp ones than raw frames.
    truth = [specimen().truth_image(r.frame.time) for r in after]
    raw, sharp = (
        np.mean([psnr(one, sharp) for one, sharp in zip(images, truth, strict=True)])
        for images in (
            [r.raw.astype(float) for r in after],
            [r.deblurred for r in after],
        )
    )
    assert sharp > raw + 1


@pytest.mark.slow
def test_its_change_raises_an_alert_in_its_own_words(finished):
    session, _, _ = finished
    raised = session.alerts[-1]
    assert raised.level in (DriftState.WARN, DriftState.ALARM)
    assert STEP_AT < raised.time < END
    # The spectra raised it; the estimates say what has changed.
    alert = session.monitor.absolute.assess()
    assert alert.level in (DriftState.WARN, DriftState.ALARM)
    assert alert.unit == "pixels"
    assert alert.change == pytest.approx(0.45, abs=0.12)
    assert alert.coefficients[0] == "width"
    assert alert.cause == "the focus has moved"
    assert "pixels" in alert.text
    for foreign in ("waves", " nm", "wavefront", "defocus"):
        assert foreign not in raised.text + alert.text


@pytest.mark.slow
def test_window_log_and_report_have_its_names_and_units(finished):
    session, _, texts = finished
    assert "pixels" in texts["status"] + texts["psf"]
    assert "resolution" in texts["psf"]
    assert list(texts["drift"]) == list(GaussianFamily.names)
    with (session.folder / "drift.csv").open(newline="") as file:
        columns = next(csv.reader(file))
    assert "width_pixels" in columns
    assert "resolution_pixels" in columns
    page = write_report(session.folder)[0].read_text("utf-8")
    for name in (*GaussianFamily.names, "resolution"):
        assert name in page
    # The profile at its end has the optics of other families, too.
    figures = re.sub(r"<pre>.*?</pre>", "", page, flags=re.DOTALL)
    for foreign in ("waves", "wavefront", "Strehl", "defocus"):
        assert foreign not in figures
