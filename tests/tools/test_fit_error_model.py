"""The fits of the error model, on errors and estimates whose constants are known."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from deepblur_live.identification import Fit
from deepblur_live.runtime.pack import load_manifest, load_pack

TOOLS = Path(__file__).parents[2] / "tools"
P = 8
SCALE = np.full(P, 0.15)


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("fit_error_model")


@pytest.fixture
def errors():
    return load_manifest("zernike7")[1].error_model


def test_size_and_tails_of_known_errors_are_found(tool, errors):
    """Of 800 fits with 0.5 of the curvature, a third with a competing minimum."""
    rng = np.random.default_rng(0)
    truth = errors.model_copy(update={"curvature": 0.5, "tail_dof": 6.0})
    fits = []
    for number in range(800):
        curvature = np.diag(rng.uniform(0.005, 0.02, P) ** 2)
        spread = 0.03 if number % 3 == 0 else 0.0
        competing = spread**2 * np.eye(P)
        stated = np.sqrt(np.diag(0.5 * curvature + truth.competing * competing))
        unit = truth.coverage_factor(0.6827) / _t_quantile(6.0)
        error = rng.standard_t(6.0, P) * stated * unit
        fit = SimpleNamespace(
            curvature=curvature, competing=competing, scale=np.ones(P)
        )
        fits.append(tool.Fitted(np.zeros(P), error, fit, 20.0, False))
    found = tool.fit_errors(fits, errors)
    assert found["curvature"] == pytest.approx(0.5, rel=0.15)
    assert found["competing"] == pytest.approx(truth.competing, rel=0.15)
    assert found["tail_dof"] == pytest.approx(6.0, rel=0.3)
    assert found["floor"] < 0.004
    # What is wrong, and what has no true coefficients, says nothing of the size.
    wrong = replace(fits[0], error=100 * np.ones(P), snr=2.0)
    troubled = replace(fits[0], error=None)
    assert tool.fit_errors([*fits, wrong, troubled], errors) == found


def _t_quantile(dof: float) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + 0.6827) / 2, dof))


def test_known_odds_are_found_again(tool):
    rng = np.random.default_rng(0)
    features = rng.normal([0.6, -2.0, 0.1], [0.2, 1.0, 0.2], (20_000, 3))
    weights = np.array([-3.0, -1.5, -6.0])
    odds = 0.5 + features @ weights
    right = rng.random(len(odds)) < 1 / (1 + np.exp(-odds))
    found = tool.regression(features, right, np.ones(len(odds)))
    np.testing.assert_allclose(found, [0.5, *weights], rtol=0.15, atol=0.1)


def test_large_misfits_lower_the_odds(tool, errors, capsys):
    """Of fits that differ in their misfit alone, those below 0.8 are right."""
    family = load_pack("zernike7").family
    fits = []
    for quality in np.linspace(0.4, 1.2, 81):
        matrix = 0.02**2 * np.eye(P)
        fit = Fit(np.zeros((1, P)), np.zeros(1), matrix, matrix, quality, errors, SCALE)
        snr = 20.0 if quality < 0.795 else 2.0
        fits.append(tool.Fitted(np.zeros(P), None, fit, snr, False))
    found = tool.fit_verdict(fits, family, errors)
    assert found["misfit"] > 1
    assert found["poor_misfit"] == pytest.approx(0.77, abs=0.02)
    assert "81 fits, 40 right" in capsys.readouterr().out


def test_a_quick_fit_is_not_published(tool, monkeypatch, capsys):
    line = ["fit_error_model", "--data", "FOLDER", "--quick", "--write"]
    monkeypatch.setattr(sys, "argv", line)
    with pytest.raises(SystemExit, match="2"):
        tool.main()
    assert "leave --quick out" in capsys.readouterr().err


def test_a_weight_of_two_equals_a_duplicate(tool):
    rng = np.random.default_rng(1)
    features = rng.normal(size=(300, 2))
    right = features[:, 0] + rng.normal(size=300) > 0
    twice = np.concatenate([features, features[:100]])
    weight = np.where(np.arange(300) < 100, 2.0, 1.0)
    found = tool.regression(features, right, weight)
    # The spread to which the ridge is relative differs a little between the two.
    expected = tool.regression(
        twice, np.concatenate([right, right[:100]]), np.ones(len(twice))
    )
    np.testing.assert_allclose(found, expected, atol=0.03)


def test_what_streams_have_in_common_is_found(tool, errors):
    """Mean errors twice, and scatter half, as large as stated."""
    streams_of = importlib.import_module("simulation.error_streams")
    rng = np.random.default_rng(2)
    stated = np.full(P, 0.01)

    def stream() -> object:
        means = 0.02 * rng.standard_t(errors.tail_dof, (4, P))
        means = means / _t_quantile(errors.tail_dof)
        still = means[0] + 0.005 * rng.standard_t(errors.tail_dof, (50, P)) / (
            _t_quantile(errors.tail_dof)
        )
        parts = [streams_of.Part(mean, stated) for mean in means[1:]]
        return streams_of.Stream(
            "made up", 0.01, np.zeros(P), np.ones(P), still, stated, 1.0, *parts
        )

    streams = [stream() for _ in range(300)]
    silent = replace(streams[0], still=np.zeros((0, P)), answered=0.0)
    found = tool.fit_streams([*streams, silent], errors)
    assert found["systematic"] == pytest.approx(4.0, rel=0.15)
    assert found["fluctuating"] == pytest.approx(0.25, rel=0.15)
    assert found["light_creep"] > 0


def test_constants_are_written_with_three_digits(tool, errors):
    changed = tool.updated(errors, {"curvature": 0.123456, "floor": 0.00123456})
    assert (changed.curvature, changed.floor) == (0.123, 0.00123)
    assert changed.verdict == errors.verdict
    stricter = tool.updated(errors, {}, {"intercept": 0.25678})
    assert stricter.verdict.intercept == 0.257
    assert stricter.curvature == errors.curvature
