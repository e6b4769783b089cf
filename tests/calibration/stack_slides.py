"""Simulated stacks of bead slides."""

import numpy as np
import torch

from deepblur_live.calibration.model import BeadParameters, StackModel
from deepblur_live.profile import Camera, Optics, Profile

__all__ = ["MODES", "PROFILE", "Z_UM", "simulated_slide", "truth_at"]

MODES = tuple(range(5, 12))
Z_UM = tuple(np.linspace(-0.75, 0.75, 7))
PROFILE = Profile(
    name="rig",
    optics=Optics(refractive_index=1.515, apodisation=1.0, pixel_aperture=1.0),
    camera=Camera(offset_adu=100.0, gain_e_per_adu=0.5, read_noise_e=1.6),
)
_SIDE, _REACH = 170, 20
_MIDDLE = np.array([0.02, -0.03, 0.015, 0.02, -0.01, 0.01, 0.03])
_SLOPE = np.array([0.04, 0.0, -0.03, 0.0, 0.0, 0.0, 0.0])


def truth_at(row):
    """γ at a row: a linear field."""
    return _MIDDLE + _SLOPE * (row / _SIDE - 0.5)


def simulated_slide(seed=0):
    """(Z, H, W) uint16, and (n, 2) and (2, 2) the places of beads that can be used.

    Eleven isolated beads, and two 920 nm apart. Others are a pair 200 nm apart, one at
    the edge, one saturated.
    """
    rng = np.random.default_rng(seed)
    model = StackModel(PROFILE.optics, MODES, 100.0, Z_UM, 2 * _REACH + 1)
    grid = np.array([(r, c) for r in (25, 65, 105, 145) for c in (25, 65, 105)])
    places = grid + rng.uniform(-2, 2, grid.shape)
    pair = np.array([[65.0, 146.0], [66.6, 147.2]])
    single, edge, bright = places[:11], np.array([[145.0, 166.0]]), places[11:]
    near = np.array([[104.0, 147.3], [111.2, 152.8]])
    light = np.full((len(Z_UM), _SIDE + 2 * _REACH, _SIDE + 2 * _REACH), 20.0)
    groups = [(1.2e4, single), (1e4, pair), (2e4, edge), (2e5, bright), (1.1e4, near)]
    for photons, group in groups:
        for place in group:
            middle = np.round(place).astype(int)
            bead = BeadParameters(
                torch.from_numpy(truth_at(place[0])),
                *(place - middle),
                0.05 * rng.normal(),
                photons,
                0.5,
            )
            rows, columns = (slice(m, m + 2 * _REACH + 1) for m in middle)
            light[:, rows, columns] += model.image(bead).double().numpy()
    light = light[:, _REACH:-_REACH, _REACH:-_REACH]
    electrons = rng.poisson(light) + rng.normal(0, 1.6, light.shape)
    grey = np.clip(electrons / 0.5 + 100, 0, 2**14 - 1)
    return np.round(grey).astype(np.uint16), single, near
