"""Simulated states of a microscope."""

import numpy as np

MEAN = np.array([0.0, 0.05, -0.03, 0.04, -0.02, 0.02, 0.03, 0.0])


def states(count, modes=8, seed=0, spread=0.02):
    """Measured modes of a microscope that drifts along two directions."""
    rng = np.random.default_rng(seed)
    axes = np.random.default_rng(7).normal(size=(2, modes))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    mean = np.resize(MEAN, modes)
    drift = rng.normal(size=(count, 2)) * [1.5 * spread, spread] @ axes
    return mean + drift + 0.003 * rng.normal(size=(count, modes))
