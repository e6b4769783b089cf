"""Frames as real microscopes make them, and the analysis of real stacks."""

import importlib
import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import ndimage

from deepblur_live.acquisition.specimen import load_specimen
from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.drift import TrackState
from deepblur_live.optics import psf_snr
from deepblur_live.profile import Optics, Profile

TOOLS = Path(__file__).parents[2] / "tools"
NUMBER = 3
# Smaller frames than the table's.
SIDE, MARGIN = 256, 96
# Conditions of which the PSF is the whole story: no other light, no noise of their own.
LINEAR = (
    "baseline",
    "spherical 0.20 waves",
    "pixel integration",
    "aplanatic pupil, pixel integration",
    "exact defocus in place of Noll 4",
    "emission band 80 nm",
    "pixel size wrong by 10 %",
    "Noll 12–15, each ±0.05 waves",
    "motion of 2 px within the exposure",
    "resampled by 0.4 px",
    "camera filter, Gaussian 0.6 px",
)


@pytest.fixture(autouse=True)
def tools(monkeypatch):
    """Import a tool by name."""
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module


@pytest.fixture
def realism(tools, monkeypatch):
    module = tools("evaluation.realism")
    monkeypatch.setattr(module, "SIDE", SIDE)
    return module


@pytest.fixture(scope="module")
def scene():
    """A specimen."""
    picture = np.asarray(load_specimen(), float)
    extra = [(0, max(0, SIDE + 2 * MARGIN - n)) for n in picture.shape]
    whole = np.pad(picture / picture.max(), extra, mode="symmetric")
    return whole[: SIDE + 2 * MARGIN, : SIDE + 2 * MARGIN]


@pytest.fixture(scope="module")
def points():
    """Two bright points, far apart."""
    whole = np.zeros((SIDE + 2 * MARGIN, SIDE + 2 * MARGIN))
    whole[MARGIN + 60, MARGIN + 50] = whole[MARGIN + 200, MARGIN + 190] = 20
    return whole


@pytest.fixture
def noiseless(realism, monkeypatch):
    monkeypatch.setattr(realism, "SIGMA", 0.0)


def scaled(frame):
    return (frame.pixels.astype(float) - 1000) / 20_000


@pytest.fixture
def image(realism):
    """Return a maker of a condition's image, in [0, 1]."""
    return lambda name, sharp: scaled(
        realism.expose(realism.CONDITIONS[name], sharp, NUMBER)
    )


def around(picture, row, column, half=31):
    rows = slice(row - half, row + half + 1)
    return picture[rows, column - half : column + half + 1]


def test_the_vectorial_pupil_is_that_of_the_profile(tools):
    optics = tools("evaluation.true_optics").TrueOptics(aplanatic=True, vectorial=True)
    known = Optics(apodisation=1, pixel_aperture=0, extra_blur_nm="vectorial")
    family = ZernikeFamily.from_optics(known)
    gamma = torch.linspace(-0.08, 0.08, 8, dtype=torch.float64)
    gamma[0] = 0
    modes = dict(zip(family.noll, gamma.tolist(), strict=True))
    truth = torch.from_numpy(optics.psf(modes, half=family.window // 2))
    assert float(psf_snr(family.psf(gamma), truth)) > 28
    plain = replace(optics, vectorial=False).psf(modes, half=family.window // 2)
    assert float(psf_snr(torch.from_numpy(plain), truth)) < 18


def test_the_true_psf_is_that_of_the_family_where_the_family_has_it(tools):
    optics = tools("evaluation.true_optics").TrueOptics
    family = ZernikeFamily()
    gamma = family.sample(1, torch.Generator().manual_seed(3))[0].double()
    modes = dict(zip(family.noll, gamma.tolist(), strict=True))
    ours = torch.from_numpy(optics().psf(modes, half=family.window // 2))
    assert float(psf_snr(family.psf(gamma), ours)) > 60


def test_a_shift_of_the_focus_has_the_defocus_of_theory(tools):
    optics = tools("evaluation.true_optics").TrueOptics
    assert optics().waves_per_um == pytest.approx(0.49, abs=0.01)
    air = optics(0.95, 520, 1.0, 108)
    assert air.waves_per_um == pytest.approx(0.36, abs=0.01)
    # Of low aperture the two are the same thing.
    low = optics(0.4, 540, 1.51, 300)
    exact = low.psf({}, 0.1 / low.waves_per_um)
    noll = torch.from_numpy(low.psf({4: 0.1}))
    assert float(psf_snr(torch.from_numpy(exact), noll)) > 40
    assert float(psf_snr(torch.from_numpy(low.psf({})), noll)) < 15


def test_a_pixel_integrates_over_its_area(tools):
    optics = tools("evaluation.true_optics").TrueOptics()
    plain = np.fft.fft2(np.fft.ifftshift(optics.psf({5: 0.1})))
    whole = replace(optics, pixel_integration=True).psf({5: 0.1})
    f = np.fft.fftfreq(63)
    box = np.sinc(f)[:, None] * np.sinc(f)
    found = np.fft.fft2(np.fft.ifftshift(whole))
    np.testing.assert_allclose(found, plain * box, atol=2e-3)


def test_other_optics_blur_otherwise(tools):
    optics = tools("evaluation.true_optics").TrueOptics()
    plain = optics.psf({})
    # More light at the rim of the pupil makes the PSF narrower.
    bright = replace(optics, aplanatic=True).psf({})
    assert bright[31, 33] / bright[31, 31] < plain[31, 33] / plain[31, 31]
    assert replace(optics, band_nm=80.0).psf({})[31, 31] != plain[31, 31]
    assert replace(optics, pixel_size_nm=110.0).psf({})[31, 31] > plain[31, 31]


@pytest.mark.parametrize("name", LINEAR)
def test_a_point_looks_like_the_true_psf_wherever_it_is(
    name, realism, noiseless, points
):
    scores = importlib.import_module("evaluation.realism_scores")
    frame = realism.expose(realism.CONDITIONS[name], points, NUMBER)
    assert frame.psf.sum() == pytest.approx(1)
    picture = scaled(frame)
    for row, column in ((60, 50), (200, 190)):
        snr, _ = scores.aligned_snr(around(picture, row, column) / 20, frame.psf)
        assert snr > 30


def test_a_field_has_many_psfs_and_their_mean_is_the_truth(realism, noiseless, points):
    name = "defocus ±0.15 waves over the field"
    frame = realism.expose(realism.CONDITIONS[name], points, NUMBER)
    picture, mean = scaled(frame), frame.psf
    one, other = around(picture, 60, 50), around(picture, 200, 190)
    assert np.linalg.norm(one - other) > 0.3 * np.linalg.norm(one)
    base = realism.expose(realism.CONDITIONS["baseline"], points, NUMBER).psf
    assert mean.sum() == pytest.approx(1)
    assert 0 < np.linalg.norm(mean - base) < np.linalg.norm(base)


@pytest.mark.parametrize(
    "name",
    [
        "haze 50 %, Gaussian 20 px",
        "haze 50 %, Gaussian 6 px",
        "out-of-focus planes, 30 % of the light",
        "out-of-focus planes, 60 % of the light",
        "motion of 2 px within the exposure",
        "spherical 0.20 waves",
    ],
)
def test_light_goes_elsewhere_and_none_is_lost(name, image, scene):
    base, found = image("baseline", scene), image(name, scene)
    assert found.mean() == pytest.approx(base.mean(), rel=0.05)
    assert found.std() < base.std()


def test_haze_leaves_its_share_of_the_detail(noiseless, image, scene):
    base = image("baseline", scene)
    hazy = image("haze 50 %, Gaussian 20 px", scene)

    def detail(picture):
        return picture - ndimage.gaussian_filter(picture, 3)

    slope = np.vdot(detail(base), detail(hazy)) / np.vdot(detail(base), detail(base))
    assert slope == pytest.approx(0.5, abs=0.05)


def test_noise_is_as_strong_as_it_says(realism, image, scene):
    base = image("baseline", scene)
    dark = image("baseline", np.full_like(scene, 0.5))
    assert dark.std() == pytest.approx(realism.SIGMA, rel=0.02)
    for name, electrons, background in (
        ("shot noise, 2000 e", 2000, 0),
        ("shot noise, 200 e", 200, 0),
        ("shot noise, 2000 e, background as bright", 2000, 1),
    ):
        added = image(name, scene) - base
        expected = (base.clip(0) + background).mean() / electrons
        assert added.var() == pytest.approx(expected, rel=0.1)
    columns = image("column offsets 0.01", scene) - base
    assert columns.mean(0).std() == pytest.approx(0.01, rel=0.15)
    assert columns.std(0).max() < 1e-3
    pattern = image("fixed pattern 1 %", scene) - base
    assert (pattern / base)[base > 0.3].std() == pytest.approx(0.01, rel=0.1)


def test_bad_pixels_are_as_many_as_it_says(image, scene):
    base = image("baseline", scene)
    for name, mean in (
        ("hot pixels 0.1 %, mean 0.5", 0.5),
        ("hot pixels 0.1 %, mean 0.05", 0.05),
    ):
        excess = image(name, scene) - base
        hot = excess > 2e-4
        assert hot.mean() == pytest.approx(0.001, rel=0.3)
        assert excess[hot].mean() == pytest.approx(mean, rel=0.3)
    dead = image("dead pixels 0.1 %", scene)
    assert ((dead == 0) & (base != 0)).mean() == pytest.approx(0.001, rel=0.4)


def test_the_camera_clips_rounds_and_dims(image, scene):
    base = image("baseline", scene)
    clipped = image("saturation 0.5 %", scene)
    assert (clipped == clipped.max()).mean() == pytest.approx(0.005, rel=0.1)
    for name, levels in (
        ("12 bit, 200 grey levels used", 200),
        ("8 bit, 60 grey levels used", 60),
    ):
        rounded = image(name, scene)
        assert np.abs(rounded * levels - np.rint(rounded * levels)).max() < 0.02
        assert np.abs(rounded - base).max() <= 0.5 / levels + 1e-4
    ratio = image("vignetting 50 %", np.full_like(scene, 1.0))
    assert ratio[:8, :8].mean() == pytest.approx(0.5, abs=0.03)
    assert ratio[124:132, 124:132].mean() == pytest.approx(1.0, abs=0.02)


def test_files_are_processed_as_it_says(image, scene):
    base = image("baseline", scene)
    errors = [np.std(image(f"JPEG, quality {q}", scene) - base) for q in (95, 80)]
    assert 1e-3 < errors[0] < errors[1] < 0.05
    woven = image("interlaced by 1 px", scene)
    np.testing.assert_array_equal(woven[::2], base[::2])
    np.testing.assert_array_equal(woven[1::2], np.roll(base[1::2], 1, 1))


def test_a_frame_is_the_same_each_time_and_another_for_another_number(realism, scene):
    name = "**all moderate at once**"
    assert list(realism.CONDITIONS)[-1] == name
    first, again, other = (
        realism.expose(realism.CONDITIONS[name], scene, number) for number in (3, 3, 4)
    )
    np.testing.assert_array_equal(first.pixels, again.pixels)
    assert (first.pixels != other.pixels).mean() > 0.5
    assert first.modes == again.modes != other.modes
    assert first.modes[11] == 0.03


def test_a_shift_of_the_estimate_costs_nothing(tools):
    scores = tools("evaluation.realism_scores")
    optics = tools("evaluation.true_optics").TrueOptics()
    truth = optics.psf({4: 0.1, 7: 0.1}, half=15)
    spectrum = np.fft.fft2(truth)
    moved = np.fft.ifft2(scores._shifted(spectrum, np.array([0.4, -1.3]))).real
    snr, shift = scores.aligned_snr(moved, truth)
    assert snr > 50
    assert shift == pytest.approx([-0.4, 1.3], abs=0.01)
    plain = psf_snr(torch.from_numpy(moved), torch.from_numpy(truth))
    assert float(plain) < 10
    other = optics.psf({4: 0.1, 7: -0.1}, half=15)
    assert scores.aligned_snr(other, truth)[0] < 10


def test_the_best_of_the_family_is_found(tools):
    scores = tools("evaluation.realism_scores")
    optics = tools("evaluation.true_optics").TrueOptics()
    family = ZernikeFamily(noll=(4, 5, 6))
    modes = {4: 0.1, 5: -0.05, 6: 0.08}
    near = np.array([0.05, 0.0, 0.05])
    inside = scores.best_snr(family, optics.psf(modes, half=15), near)
    outside = scores.best_snr(family, optics.psf(modes | {11: 0.1}, half=15), near)
    assert inside > 35
    assert outside < 20


def test_a_realism_row_is_scored_against_the_psf_applied(
    tools, realism, monkeypatch, scene
):
    scores = tools("evaluation.realism_scores")
    family = ZernikeFamily()
    errors = SimpleNamespace(coverage_factor=lambda share: 1.0 if share < 0.9 else 2.0)
    given = {}

    class Identifier:
        def __init__(self):
            self.errors = errors

        def observe(self, image, time):
            given["image"] = image

        def estimate(self, image):
            return given["estimate"]

    def pipeline(profile, asynchronous):
        return SimpleNamespace(
            family=family, identifier=Identifier(), close=lambda: None
        )

    monkeypatch.setattr(scores, "build_pipeline", pipeline)
    monkeypatch.setattr(
        scores, "scene", lambda path, side: torch.from_numpy(scene.copy())
    )
    spec = scores.RealSpec(Path("a.png"), NUMBER, "baseline", Profile())
    mean = family.psf(family.sample(20)).mean(0).double().numpy()
    monkeypatch.setattr(scores, "_mean_psf", lambda: mean)
    frame = realism.expose(realism.CONDITIONS["baseline"], scene, NUMBER)
    truth = np.array([frame.modes[noll] for noll in family.noll])
    estimate = SimpleNamespace(
        coefficients=truth + 0.0015,
        covariance=np.diag(np.full(7, 1e-6)),
        quality=0.6,
        trusted=True,
        reason="",
    )
    given["estimate"] = estimate
    row = scores.score(spec)
    assert row["snr"] > 25 and row["answered"] and not row["wrong"]
    assert (row["inside_68"], row["inside_95"]) == (0.0, 1.0)
    estimate.coefficients = np.full(7, 0.3)
    assert scores.score(spec)["wrong"]
    estimate.trusted = False
    refused = scores.score(spec)
    assert refused["snr"] == refused["trivial"] and not refused["wrong"]
    assert "inside_68" not in refused


@pytest.fixture
def through_focus(tools):
    """Nine planes of small objects through focus, (9, 192, 192), their z and optics."""
    optics = tools("evaluation.true_optics").TrueOptics(1.1, 520, 1.33, 108)
    rng = np.random.default_rng(0)
    sharp = (rng.random((255, 255)) < 0.02) * rng.random((255, 255))
    convolved = tools("evaluation.effects").convolved
    z_um = np.linspace(-0.8, 0.8, 9)
    planes = [1000 * convolved(sharp, optics.psf({}, z))[31:-32, 31:-32] for z in z_um]
    planes = np.array(planes) + 0.3 * rng.standard_normal((9, 192, 192))
    return planes, z_um, optics


def test_the_control_follows_a_simulated_focus(tools, through_focus):
    stacks = tools("evaluation.stacks")
    planes, z_um, optics = through_focus
    rows = stacks.control(planes, z_um, optics)
    found = stacks.agreement(rows)
    assert found.answered == found.planes == 9
    assert found.wrong == 0
    assert found.correlation > 0.98
    assert found.slope == pytest.approx(1, abs=0.15)
    assert found.scatter < 0.03


def stack_rows(found, method="one frame", answered=True):
    z = [-0.6, -0.3, 0.0, 0.3, 0.6]
    return [
        {
            "z_um": at,
            "stage": 0.36 * abs(at),
            "found": value,
            "sigma": 0.01,
            "answered": answered,
            "wrong": answered and abs(value - 0.36 * abs(at)) > 0.072,
            "method": method,
        }
        for at, value in zip(z, found, strict=True)
    ]


def test_agreement_with_the_stage(tools):
    stacks = tools("evaluation.stacks")
    exact = stacks.agreement(stack_rows([0.236, 0.128, 0.02, 0.128, 0.236]))
    assert (exact.answered, exact.wrong) == (5, 0)
    assert exact.correlation == pytest.approx(1)
    assert exact.slope == pytest.approx(1)
    assert exact.scatter == pytest.approx(0, abs=1e-9)
    constant = stacks.agreement(stack_rows([0.075] * 5))
    assert constant.wrong == 3
    assert math.isnan(constant.correlation) and abs(constant.slope) < 1e-9
    near = stacks.agreement(stack_rows([0.3, 0.1, 0, 0.1, 0.3]), 0.3)
    assert (near.planes, near.wrong) == (3, 0)
    refused = stacks.agreement(stack_rows([0.5] * 5, answered=False))
    assert (refused.answered, refused.wrong) == (0, 0)
    assert math.isnan(refused.slope)


def test_the_table_of_a_stack_groups_methods_and_replays(tools):
    tables = tools("evaluation.stack_tables")
    stack = tools("evaluation.stacks").STACKS["beads"]
    replays = [
        {
            "z_um": z,
            "state": state,
            "change": change,
            "sigma": 0.001,
            "unchanged": state == "ok" and z > 0.3,
            "method": tables.REPLAY,
            "side": "upwards",
        }
        for z, state, change in (
            (0.0, "ok", 0.0),
            (0.3, "ok", 0.02),
            (0.6, "ok", 0.03),
            (0.9, "alarm", 0.09),
        )
    ]
    found = stack_rows([0.236, 0.128, 0.02, 0.128, 0.236])
    far = stack_rows([0.5] * 5, "other", answered=False)
    text = tables.stack_table([*far, *found, *replays], stack)
    assert "| one frame | 0.6 | 5 of 5 | 0 | 1.00 | 1.00 | 0.000 |" in text
    assert "| other | 0.6 | 0 of 5 | 0 | – | – | – |" in text
    assert f"| {tables.TRIVIAL} | 0.6 | 5 of 5 | 3 | – | 0.00 |" in text
    assert "| ok 2, alarm 1 | yes | 0.92 (0.95) | 0.12 waves | 1 of 2 |" in text
    assert "| (0.500 ± 0.010) | 0.236 ± 0.010 | ok, 0.030 waves |" in text
    # The charts stand on the spectra where these have a baseline.
    spectral = [row | {"strength": 0.0, "strength_sigma": 0.0} for row in replays]
    for row, strength in zip(spectral, (0, 0.1, 0.3, 0.2), strict=True):
        row["strength"] = strength
    text = tables.stack_table(spectral, stack)
    assert "| ok 2, alarm 1 | no | 0.50 (0.56) | 0.17 Np | 1 of 2 |" in text


def test_the_realism_table_is_in_the_order_of_the_conditions(tools):
    tool = tools("evaluate_real")
    about = {"sigma": 0.01, "trivial": 4.0, "wrong": False, "answered": True}
    inside = {"inside_68": 0.5, "inside_95": 1.0}
    rows = [
        about
        | {"file": "a", "kind": "JPEG, quality 95", "snr": 4.0, "answered": False},
        about
        | {"file": "a", "kind": "baseline", "snr": 20.0, "estimated": 20.0}
        | inside,
        about | {"file": "b", "kind": "baseline", "snr": 10.0, "estimated": 10.0},
    ]
    lines = tool.tables({"realism": rows, "beads": []})["realism"].splitlines()
    assert "best in the family" not in lines[0]
    assert lines[2:] == [
        "| baseline | 2 | 15.0 | +0.0 | 15.0 | 4.0 | 100% | 0% | 50% / 100% |",
        "| JPEG, quality 95 | 1 | 4.0 | -16.0 | – | 4.0 | 0% | 0% | – / – |",
    ]


def test_a_replay_reports_the_monitor_and_what_is_not_identified(tools, monkeypatch):
    replay = tools("evaluation.replay")
    family = ZernikeFamily()
    rng = np.random.default_rng(0)
    # Mean grey value of a plane → its defocus; the last plane is not identified.
    defocus = {100: 0.02, 110: 0.021, 120: 0.12, 130: None}

    class Pipeline:
        executor = None

        def __init__(self):
            self.family = family

        def submit(self, frame):
            now = defocus[round(float(frame.pixels.mean()), -1)]
            gamma = rng.normal(0, 0.002, 7)
            gamma[0] += now or 0
            state = TrackState(
                frame.time, gamma, np.eye(7) * 4e-6, 5.0, now is not None, False, gamma
            )
            found = SimpleNamespace(estimate=object(), track=state, spectrum=None)
            return SimpleNamespace(result=lambda: found)

        def close(self):
            pass

    monkeypatch.setattr(replay, "build_pipeline", lambda *a, **k: Pipeline())
    planes = np.stack([np.full((64, 64), float(v)) for v in defocus])
    planes += rng.standard_normal(planes.shape)
    rows = replay.replay(planes, np.array([0.0, 0.4, 0.8, 1.2]), Profile())
    states = [row["state"] for row in rows]
    assert states == ["ok", "ok", "alarm", replay.NO_ESTIMATE]
    assert [row["unchanged"] for row in rows] == [False, True, False, False]
    assert rows[2]["change"] == pytest.approx(0.1, abs=0.02)
    assert replay.is_monotone([*rows, rows[2]])
    assert not replay.is_monotone([rows[0], rows[2], rows[1]])


def test_a_replay_without_identification_follows_the_spectra(tools, monkeypatch):
    replay = tools("evaluation.replay")
    pipeline = SimpleNamespace(
        family=ZernikeFamily(), executor=None, close=lambda: None
    )
    monkeypatch.setattr(replay, "build_pipeline", lambda *a, **k: pipeline)
    sharp = np.random.default_rng(0).uniform(100, 200, (160, 160))
    planes = np.stack(
        [ndimage.gaussian_filter(sharp, width) for width in (1.0, 1.0, 1.4)]
    )
    rows = replay.replay(
        planes + 100, np.array([0.0, 0.4, 0.8]), Profile(), identifies=False
    )
    assert [row["state"] for row in rows] == ["ok", "ok", "alarm"]
    assert [row["unchanged"] for row in rows] == [False, True, False]
    assert rows[1]["strength"] < 0.02 < 0.08 < rows[2]["strength"]
    assert replay.reported(rows[2])[2] == "Np"


def test_a_run_is_resumed_where_it_ended(tools, monkeypatch, tmp_path, capsys):
    tool = tools("evaluate_real")
    ran = []

    def task(name):
        def run():
            ran.append(name)
            about = {"kind": name, "file": "a", "sigma": 0.01, "snr": np.float64(20)}
            about |= {"trivial": 4.0, "answered": True, "wrong": False}
            return [about | {"misfit": np.inf}]

        return tool.Task("realism", name, run)

    names = ["baseline", "pixel integration"]
    monkeypatch.setattr(tool, "realism_tasks", lambda asked: [task(n) for n in names])
    monkeypatch.setattr(tool, "parallel", lambda work, tasks, *_: map(work, tasks))
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    kept = tmp_path / "rows.json"
    command = ["evaluate_real.py", "--data", str(tmp_path), "--only", "realism"]
    command += ["--json", str(kept), "--resume"]
    monkeypatch.setattr("sys.argv", command)
    tool.main()
    names.append("JPEG, quality 80")
    tool.main()
    assert ran == names
    rows = json.loads(kept.read_text("utf-8"))["realism"]
    assert [row["task"] for row in rows] == names
    assert rows[0]["misfit"] is None
    assert "| JPEG, quality 80 | 1 | 20.0 | +0.0 |" in capsys.readouterr().out


def test_the_tasks_of_a_stack_are_its_planes_and_replays(tools, monkeypatch):
    tool = tools("evaluate_real")
    z_um = tool.STACKS["beads"].z_um(34)
    monkeypatch.setattr(tool, "_read", lambda *_: (np.zeros((34, 64, 64)), z_um))
    asked = SimpleNamespace(data=Path("x"), quick=False, model="zernike7")
    tasks = tool.stack_tasks("beads", asked)
    keys = [task.key for task in tasks]
    # The control, each plane with and without the bead size, and four replays.
    assert len(set(keys)) == len(keys) == 1 + 2 * 34 + 4
    courses = [task.run.args[2] for task in tasks[-4:]]
    assert courses[0] == [17, 18, 19, 20, 21, 22, 23, 24, 25]
    assert courses[1] == [17, 16, 15, 14, 13, 12, 11, 10, 9]
    asked.quick = True
    assert len(tool.stack_tasks("beads", asked)) < 20
