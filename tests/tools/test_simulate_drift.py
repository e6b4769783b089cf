"""The simulated sessions: errors measured, kept, replayed; alerts counted."""

from __future__ import annotations

import importlib
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deepblur_live.runtime.pack import load_manifest

TOOLS = Path(__file__).parents[2] / "tools"
P = 8


@pytest.fixture
def tools(monkeypatch):
    """Import a tool by name; its workers find it too."""
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module


@pytest.fixture
def stream(tools):
    """A specimen whose estimates fluctuate by 0.003 waves a mode, one a second."""
    error = tools("simulation.error_streams")
    rng = np.random.default_rng(0)
    still = np.zeros((90, P))
    for k in range(1, 90):
        still[k] = 0.8 * still[k - 1] + 0.6 * rng.normal(0, 0.003, P)
    bias = rng.normal(0, 0.01, P)
    change = rng.normal(size=P)
    part = error.Part(bias, np.full(P, 0.01))
    return error.Stream(
        specimen="made up",
        sigma=0.01,
        coefficients=rng.normal(0, 0.05, P),
        change=0.072 * change / np.linalg.norm(change),
        still=still[20:] + bias,
        stated=np.full(P, 0.01),
        answered=1.0,
        bleached=part,
        changed=part,
        moved=error.Part(-3 * bias, np.full(P, 0.01)),
    )


@pytest.fixture
def scenario(tools):
    known = {s.name: s for s in tools("simulation.scenarios").SCENARIOS}
    return lambda name: known[name]


def test_streams_are_kept_and_read_back(tools, stream):
    error = tools("simulation.error_streams")
    silent = replace(stream, still=np.zeros((0, P)), bleached=None)
    for one in (stream, silent):
        back = error._unpacked(json.loads(json.dumps(error._packed(one))))
        np.testing.assert_allclose(back.still, one.still, atol=6e-5)
        assert back.still.shape == one.still.shape
        np.testing.assert_allclose(back.moved.error, one.moved.error, atol=6e-5)
        assert (back.bleached is None) == (one.bleached is None)
        assert (back.specimen, back.answered) == ("made up", 1.0)


def test_shipped_model_was_measured(tools):
    """With these weights, this version and these settings: else measure again."""
    streams = tools("simulation.error_streams").load_streams("zernike7")
    assert len(streams) >= 10
    assert any(one.answered > 0.9 for one in streams)
    for one in streams:
        assert np.linalg.norm(one.change) == pytest.approx(0.072, rel=0.01)


@pytest.fixture
def mine(tools, tmp_path, monkeypatch):
    """A model of its own: a manifest, and nothing measured."""
    error = tools("simulation.error_streams")

    def write(weights: str) -> None:
        manifest = {
            "name": "mine",
            "identification": {"file": "one", "sha256": weights},
            "deblurring": {"file": "two", "sha256": f"not {weights}"},
        }
        (tmp_path / "manifest.json").write_text(json.dumps(manifest))

    monkeypatch.setattr(error, "find_packs", lambda: {"mine": tmp_path})
    monkeypatch.setattr(error, "_MEASURED", {"version": 1, "side": 512})
    write("abc")
    return write


def test_model_that_was_not_measured_says_how(tools, mine):
    with pytest.raises(FileNotFoundError, match="--measure"):
        tools("simulation.error_streams").load_streams("mine")


def test_what_was_measured_otherwise_is_refused(tools, mine, stream, monkeypatch):
    error = tools("simulation.error_streams")
    error.keep_streams("mine", [stream])
    (back,) = error.load_streams("mine")
    assert back.specimen == stream.specimen
    with monkeypatch.context() as patch:
        patch.setattr(error, "_MEASURED", {"version": 2, "side": 512})
        with pytest.raises(
            error.StaleMeasurementError, match=r"another version; .*--m"
        ):
            error.load_streams("mine")
    mine("other weights")
    with pytest.raises(error.StaleMeasurementError, match="weights_sha256"):
        error.load_streams("mine")


def test_measuring_runs_the_real_identification(tools, errors, tmp_path, monkeypatch):
    """Two seconds of a small picture, in place of a minute of large ones."""
    error = tools("simulation.error_streams")
    for name, value in {"SIDE": 128, "SETTLE_S": 1, "STILL_S": 2, "OTHER_S": 1}.items():
        monkeypatch.setattr(error, name, value)
    threads = torch.get_num_threads()
    try:
        rng = np.random.default_rng(1)
        path = tmp_path / "picture.png"
        Image.fromarray(rng.integers(0, 255, (256, 256)).astype(np.uint8)).save(path)
        found = error._measure_one(error._Task(path, 3, 0.002, "zernike7", errors))
    finally:
        torch.set_num_threads(threads)
    assert found.answered * 2 == len(found.still)
    assert found.still.shape[1] == P
    if len(found.still):
        # White noise is a specimen like no other, but its blur is easily read.
        assert np.abs(found.still).max() < 0.3
        assert (found.stated > 0).all()


@pytest.fixture
def errors():
    return load_manifest("zernike7")[1].error_model


@pytest.fixture
def simulate(tools, stream, errors):
    tool = tools("simulate_drift")

    def run(name, seed, hours):
        session = tool.Session(name, stream, errors, seed, hours)
        return tool.simulate(session)

    return run


@pytest.mark.parametrize(
    "name",
    [
        "still",
        "sign ambiguity at random",
        "empty and saturated frames",
        "stage moves, reported",
    ],
)
def test_no_alert_without_a_change(simulate, name):
    outcome = simulate(name, 1, 1.2)
    assert math.isnan(outcome.alert_s)
    assert not outcome.early
    # The bands hold the bias, which is of the size that is stated.
    assert 0.3 < outcome.inside_68 <= 1
    if name != "stage moves, reported":
        assert 600 <= outcome.armed_s < 3000


def test_step_is_found(simulate):
    outcome = simulate("step of 0.05 waves", 2, 1.2)
    assert not outcome.early
    assert outcome.alert_s < 120
    assert outcome.change == pytest.approx(0.05)
    assert outcome.shape == "step"


def test_same_seed_same_session(simulate):
    # Compared as text: NaN differs from itself.
    name = "sign ambiguity at random"
    first, again = (repr(simulate(name, 5, 0.2)) for _ in range(2))
    assert first == again


@pytest.mark.slow
def test_table(tools, stream, scenario, errors):
    tool = tools("simulate_drift")
    scenarios = [scenario("still"), scenario("step of 0.1 waves")]
    rows = tool.run_all([stream], errors, scenarios, sessions=2, hours=1.2, jobs=1)
    json.dumps(rows)
    still, step = rows
    assert (still["false_alarms"], still["found"]) == (0, None)
    assert step["found"] == 2
    text = tools("simulation.operating_table").table(rows)
    assert "| still | 0 of 2 (0%–66%) | 2 | – |" in text
    assert "| step of 0.1 waves | 0 of 2" in text
    assert step["shape_right"] + step["shape_unclear"] == 2
    assert f"| {step['shape_right']} / {step['shape_unclear']} / 0 |" in text


def test_interval_is_wilsons(tools):
    low, high = tools("simulation.operating_table").wilson(2, 50)
    assert (low, high) == (
        pytest.approx(0.0110, abs=5e-4),
        pytest.approx(0.135, abs=1e-3),
    )


def test_fwhm_grows_as_the_note_says(tools):
    """7 % at 0.072 waves of astigmatism and coma; nothing from defocus alone."""
    fwhm = tools("simulation.scenarios").fwhm
    still = fwhm(np.zeros(P))
    assert still == pytest.approx(0.51 * 540 / 1.41, rel=0.03)
    mixed = np.array([0.0, 0.5, 0.5, 0.5, 0.5, 0.0, 0.0, 0.0]) * 0.072
    assert 0.02 < fwhm(mixed) / still - 1 < 0.12
