"""The evaluation of changes: tables, and what the simulated changes are."""

import importlib
from pathlib import Path

import numpy as np
import pytest

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture(autouse=True)
def tools(monkeypatch):
    """Import a tool by name."""
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module


def test_parts_of_an_image_move_by_the_pixels_asked_for(tools):
    module = tools("evaluation.spectral_changes")
    ramp = np.indices((300, 300))[0].astype(float)
    moved = module._moved(ramp, 2.0, np.random.default_rng(0))
    inner = (moved - ramp)[20:-20, 20:-20]
    assert np.sqrt(np.mean(inner**2)) == pytest.approx(2, rel=0.3)


def test_cells_wander_within_the_image(tools):
    module = tools("evaluation.spectral_changes")
    places = module._positions(50, 100, 1.0, np.random.default_rng(0))
    seen = np.array([next(places) for _ in range(200)])
    assert seen.min() >= 0
    assert seen.max() <= 60
    assert np.std(np.diff(seen[:, :, 0], axis=0)) == pytest.approx(1, abs=0.2)


def test_planes_of_a_stack_are_compared_with_the_focus(tools):
    module, stacks = tools("evaluation.spectral_changes"), tools("evaluation.stacks")
    stack, rng = stacks.STACKS["cells"], np.random.default_rng(0)
    sharp = rng.standard_normal((200, 200)).cumsum(0).cumsum(1)
    planes = [
        module.gaussian_filter(sharp, 1 + 0.1 * abs(k - stack.focus))
        + rng.normal(0, 1e-3, sharp.shape)
        for k in range(stack.focus - 2, stack.focus + 3)
    ]
    planes = np.array([planes[0]] * (stack.focus - 2) + planes)
    rows = module.through_focus(stack, planes)[:4]
    strength = [row["strength"] for row in rows]
    assert [round(row["z_um"], 2) for row in rows] == [-0.1, -0.05, 0.05, 0.1]
    assert strength[0] > strength[1] > 0.01
    assert strength[3] > strength[2] > 0.01
    assert max(row["sharpening"] for row in rows) < 0


def test_the_tables_count_alarms_and_alerts(tools):
    module = tools("evaluate_changes")
    row = {"kind": "nothing", "residual": 1.0, "coherence": 0.99, "strength": 0.01}
    rows = [row | {"chi_squared": x * module.LIMIT} for x in (0.5, 2.0)]
    assert "| nothing | 1 of 2 | 1.2 | 1.0 (1.0) | 0.99 | 0.010 |" in (
        module.change_table(rows)
    )
    found = {"drift": 0.1, "first": 3600.0, "watched": 0.9, "strength": 0.2}
    missed = found | {"first": None, "watched": 0.8}
    text = module.moving_table([found, missed])
    assert "| 0.1 waves in 1 h | 1 of 2 | 30 min | 85% (80%) | 0.200 |" in text
