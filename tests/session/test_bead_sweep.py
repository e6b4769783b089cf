"""A stack of beads through a session's microscope; the focus drive always returns."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from deepblur_live.acquisition import open_series
from deepblur_live.acquisition.bead_slide import bead_slide
from deepblur_live.acquisition.simulated import simulated_core
from deepblur_live.blur import family_from_profile
from deepblur_live.calibration.detect import BeadState, cut_out, find_beads
from deepblur_live.calibration.fit import ToFit, fit_beads, start_of
from deepblur_live.calibration.model import StackModel
from deepblur_live.calibration.stack import bead_stack, crop_side
from deepblur_live.identification import SweepError
from deepblur_live.profile import Optics, Profile
from deepblur_live.session import bead_sweep
from deepblur_live.session.bead_sweep import (
    BeadSweep,
    SweepCancelled,
    suggested_sweep,
    sweep_beads,
)

PROFILE = Profile()
SWEEP = BeadSweep(0.6, 0.2)


class Session:
    """What a sweep uses of a session, around a real core."""

    def __init__(self, core):
        self.core, self.closed = core, False
        self.notes, self.attached = [], [True]
        self.listener = SimpleNamespace(
            live_mode=True,
            detach=lambda: self.attached.append(False),
            attach=lambda core: self.attached.append(True),
        )

    def note(self, event, **values):
        self.notes.append((event, values))


@pytest.fixture(scope="module")
def slide():
    return bead_slide(family_from_profile(PROFILE), beads=9, shape=(104, 104), seed=17)


@pytest.fixture(scope="module")
def session(slide):
    core = simulated_core(slide, exposure_ms=1.0)
    yield Session(core)
    core.unloadAllDevices()


@pytest.fixture
def live(session):
    """The core of the session, in live mode and away from the origin."""
    core = session.core
    core.setPosition(0.1)
    core.startContinuousSequenceAcquisition()
    yield core
    core.stopSequenceAcquisition()
    core.setPosition(0.0)


def test_a_stack_is_recorded_and_gives_the_aberrations(session, live, slide, tmp_path):
    path, shares = tmp_path / "new" / "beads.ome.tif", []
    sweep_beads(session, SWEEP, path, 100.0, shares.append)
    assert live.getPosition() == pytest.approx(0.1)
    assert live.isSequenceRunning()
    assert shares == pytest.approx([k / 7 for k in range(8)])
    with open_series(path) as series:
        assert (series.planes, series.pixel_size_nm) == (7, pytest.approx(100))
        assert series.z_step_um == pytest.approx(0.2)
        planes = [series[k] for k in range(7)]
    assert session.attached == [True, False, True]
    [(event, noted)] = session.notes
    assert (event, noted["file"], noted["planes"]) == ("beadSweep", str(path), 7)
    assert noted["position_um"] == pytest.approx(0.1)
    # One bead tells the truth, with its sign: planes and z step are what they say.
    side = crop_side(PROFILE.optics)
    draft = StackModel(PROFILE.optics, tuple(range(5, 12)), 200.0, (0.0,), side)
    stack = bead_stack(planes, 0.2 * np.arange(7), draft, PROFILE.camera)
    model = StackModel(PROFILE.optics, draft.noll, 200.0, stack.z_um, side)
    found = find_beads(stack.light, model.bead_width, side)
    used = [bead for bead in found if bead.state is BeadState.USED]
    assert len(used) >= 4
    crop = cut_out(stack.light, used[0], side)
    (fit,) = fit_beads(model, [ToFit(crop, start_of(model, crop))], stack.noise)
    np.testing.assert_allclose(
        fit.coefficients, slide.coefficients(0.0)[1:], atol=0.004
    )


def test_a_cancelled_sweep_returns_the_drive(session, live, tmp_path):
    path, moved = tmp_path / "beads.ome.tif", []

    def cancelled():
        moved.append(live.getPosition())
        return len(moved) == 4

    with pytest.raises(SweepCancelled, match=r"cancelled\. Focus is at 0\.100 µm"):
        sweep_beads(session, SWEEP, path, 100.0, cancelled=cancelled)
    assert moved == pytest.approx([0.1, -0.5, -0.3, -0.1])
    assert live.getPosition() == pytest.approx(0.1)
    assert live.isSequenceRunning()
    assert not path.exists()


def test_an_error_is_reported_with_plane_and_place(
    session, live, tmp_path, monkeypatch
):
    path, snap, snaps = tmp_path / "beads.ome.tif", live.snapImage, []

    def fail_at_the_third():
        snaps.append(live.getPosition())
        if len(snaps) == 3:
            raise RuntimeError("camera unplugged")
        snap()

    monkeypatch.setattr(live, "snapImage", fail_at_the_third)
    right = r"failed at plane 3 of 7: camera unplugged\. Focus is at 0\.100 µm\."
    with pytest.raises(SweepError, match=right):
        sweep_beads(session, SWEEP, path, 100.0)
    assert live.isSequenceRunning()
    assert not path.exists()


def test_a_full_disk_leaves_no_file(session, live, tmp_path, monkeypatch):
    def fill(stream, *values, **options):
        stream.write(b"II")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bead_sweep.tifffile, "imwrite", fill)
    with pytest.raises(OSError, match="No space left"):
        sweep_beads(session, SWEEP, tmp_path / "beads.ome.tif", 100.0)
    assert list(tmp_path.iterdir()) == []


def test_a_stage_that_does_not_follow_is_named(session, live, tmp_path, monkeypatch):
    monkeypatch.setattr(live, "setPosition", lambda label, z: None)
    right = r"failed: Focus does not move: .* not locked\? Focus is at 0\.100 µm\."
    with pytest.raises(SweepError, match=right):
        sweep_beads(session, SWEEP, tmp_path / "beads.ome.tif", 100.0)
    monkeypatch.undo()


def test_a_stage_at_its_end_is_named(session, live, tmp_path):
    far = BeadSweep(3.0, 1.0)
    with pytest.raises(SweepError, match=r"travels 2 µm.*Focus is at 0\.100 µm"):
        sweep_beads(session, far, tmp_path / "beads.ome.tif", 100.0)
    assert live.getPosition() == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("optics", "reach_um"),
    # As far as docs/how-to/calibrate.md says that planes are used.
    [
        (Optics(numerical_aperture=1.4, refractive_index=1.515), 0.8),
        (Optics(numerical_aperture=0.95, refractive_index=1.0, wavelength_nm=520), 1.1),
    ],
)
def test_the_suggested_planes_reach_beyond_those_used(optics, reach_um):
    sweep = suggested_sweep(optics)
    offsets = sweep.offsets_um
    assert 1.1 * reach_um <= sweep.range_um <= 1.5 * reach_um
    assert 7 <= (np.abs(offsets) <= reach_um * 1.05).sum() <= 9
    assert offsets[len(offsets) // 2] == 0
    assert offsets[-1] == pytest.approx(sweep.range_um)


def test_too_few_and_too_many_planes_are_refused():
    with pytest.raises(ValueError, match="at least 3 planes"):
        BeadSweep(0.1, 0.2)
    with pytest.raises(ValueError, match="4001 planes: at most 101"):
        BeadSweep(20.0, 0.01)
