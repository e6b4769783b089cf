"""The regression behind the verdict, on answers whose odds are known."""

import importlib
from pathlib import Path

import numpy as np
import pytest

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def regression(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("fit_verdict").regression


def test_known_odds_are_found_again(regression):
    rng = np.random.default_rng(0)
    features = rng.normal([0.6, -2.0, 0.1], [0.2, 1.0, 0.2], (20_000, 3))
    weights = np.array([-3.0, -1.5, -6.0])
    odds = 0.5 + features @ weights
    right = rng.random(len(odds)) < 1 / (1 + np.exp(-odds))
    found = regression(features, right, np.ones(len(odds)))
    np.testing.assert_allclose(found, [0.5, *weights], rtol=0.15, atol=0.1)


def test_what_counts_twice_is_as_if_it_were_there_twice(regression):
    rng = np.random.default_rng(1)
    features = rng.normal(size=(300, 2))
    right = features[:, 0] + rng.normal(size=300) > 0
    twice = np.concatenate([features, features[:100]])
    weight = np.where(np.arange(300) < 100, 2.0, 1.0)
    found = regression(features, right, weight)
    # The spread that the ridge counts in differs a little between the two.
    expected = regression(
        twice, np.concatenate([right, right[:100]]), np.ones(len(twice))
    )
    np.testing.assert_allclose(found, expected, atol=0.03)
