"""The tools that measure sampling and the calibrated prior, on the smallest inputs."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from deepblur_live.blur.convex import Hull
from deepblur_live.blur.zernike import ZernikeFamily

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module


def test_the_compared_points_lie_in_their_sets(load):
    tool = load("compare_sampling")
    for kind, size, vertices in (("box", 3, 0), ("ellipsoid", 3, 0), ("hull", 2, 7)):
        admissible = tool.the_set(kind, size, vertices)
        for points in (
            tool.uniform(kind, admissible, size, 50, 0),
            tool.sobol(kind, admissible, size, 64),
        ):
            assert points.shape[1] == size
            tolerance = 1e-6 if isinstance(admissible, Hull) else 1e-12
            assert admissible.gauge(points).max() <= 1 + tolerance
    pool = np.array([[0.0], [0.1], [1.0], [0.5]])
    np.testing.assert_allclose(tool.farthest(pool, 3).ravel(), [0, 1, 0.5])


def test_sampling_writes_its_tables(load, monkeypatch, tmp_path):
    tool = load("compare_sampling")
    out = tmp_path / "table.md"
    arguments = ["--out", str(out), "--points", "60", "--quick", "--kinds", "box"]
    monkeypatch.setattr("sys.argv", ["compare_sampling.py", *arguments])
    monkeypatch.setattr(tool.torch, "set_num_threads", lambda _: None)
    tool.main()
    text = out.read_text("utf-8")
    assert "| box, P 7 | single pass |" in text
    assert "half sweeps, half uniform" in text


def test_errors_are_up_to_the_ambiguities(load):
    tool = load("evaluation.calibrated_prior")
    local = ZernikeFamily()
    truth = np.array([0.05, 0.02, -0.03, 0.04, 0.01, 0.0, 0.02])
    even = np.where(local.even, -1.0, 1.0)
    for image, signed in ((truth, True), (truth * -even, True), (truth * even, False)):
        found = tool.score(local, truth, image)
        assert found.nm == pytest.approx(0, abs=1e-9)
        assert found.signed is signed
        assert found.snr > 60
    off = truth + np.array([0, 0, 0, 0.01, 0, 0, 0])
    assert tool.score(local, truth, off).nm == pytest.approx(5.4)


def test_the_simulated_microscope_drifts_as_stated(load):
    tool = load("evaluation.calibrated_prior")
    local = ZernikeFamily(noll=tuple(range(4, 16)))
    states = tool.Microscope(local, wide=False).states(4000, seed=0)
    drift = np.sqrt(states.var(0).sum()) * local.wavelength_nm
    assert drift == pytest.approx(53, abs=2)
    assert np.linalg.matrix_rank(states - states.mean(0), tol=1e-6) == 3
    focused = tool.Microscope(local, wide=True).states(4000, seed=0)
    assert np.abs(focused[:, 0]).max() == pytest.approx(0.1, abs=0.001)


def test_states_are_moved_out_of_the_set_by_a_distance(load):
    measure, prior = load("measure_outside"), load("evaluation.calibrated_prior")
    local = ZernikeFamily(noll=tuple(range(4, 12)))
    microscope = prior.Microscope(local, True)
    family = measure.learn_family(microscope.measured(20), local)
    direction = np.zeros(8)
    direction[[2, 4]] = 0.6, -0.8
    truth, admissible = microscope.states(1, seed=3)[0], family.prior.admissible
    for distance in (0.0, 0.05):
        moved = measure.moved_out(family, truth, direction, distance)
        c = family.learned.coefficients(moved)
        away = np.linalg.norm(c - admissible.project(c))
        assert away == pytest.approx(distance, abs=1e-6)


def test_the_field_at_a_place_writes_its_table(load, monkeypatch, tmp_path):
    tool, prior = load("measure_place_prior"), load("evaluation.calibrated_prior")
    monkeypatch.setattr(tool, "LIBRARY", 60)
    monkeypatch.setattr(prior, "_STARTS", 2)
    monkeypatch.setattr(tool.torch, "set_num_threads", lambda _: None)
    out = tmp_path / "place.md"
    arguments = ["--out", str(out), "--places", "1", "--sigma", "0.01", "--field", "40"]
    monkeypatch.setattr("sys.argv", ["measure_place_prior.py", *arguments])
    tool.main()
    text = out.read_text("utf-8")
    assert "| field of 40 nm | 0.01 | value at the place |" in text
    assert text.count("of 1 |") == 3
