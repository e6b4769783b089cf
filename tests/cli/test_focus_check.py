"""The command check: from a stack or a microscope to a verdict in plain words."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from deepblur_live.acquisition.simulated import SIMULATED_CONFIG
from deepblur_live.acquisition.simulated_sample import SimulatedSample
from deepblur_live.acquisition.specimen import load_specimen
from deepblur_live.blur import (
    Estimate,
    family_from_profile,
    focus_direction,
    focus_weights,
)
from deepblur_live.cli.commands import app
from deepblur_live.profile import Profile
from deepblur_live.runtime import focus_check

FAMILY = family_from_profile(Profile())
PER_UM = focus_direction(FAMILY)


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """Three planes, the second at position 0."""
    sample = SimulatedSample(load_specimen(), shape=(256, 256), family=FAMILY)
    planes = [sample.frame(0.0, z_um=0.3 * k).pixels for k in (-1, 0, 1)]
    file = tmp_path_factory.mktemp("check") / "stack.tif"
    tifffile.imwrite(file, np.stack(planes), photometric="minisblack")
    return file


@pytest.fixture
def given(monkeypatch):
    """Estimates at some positions (µm) instead of the identification's."""

    def give(z_um, slope):
        found = [
            Estimate(0.02 + slope * z * PER_UM, 1e-4 * np.eye(8), 0.5) for z in z_um
        ]
        shares = np.linspace(0, 1, len(found))
        pairs = list(zip(shares, found, strict=True))
        monkeypatch.setattr(focus_check, "_estimates", lambda *_: iter(pairs))

    return give


def run(*arguments):
    return CliRunner().invoke(app, ["check", *map(str, arguments)])


def test_a_stack_gives_a_verdict_and_what_was_found(stack, given):
    given([-0.3, 0.0, 0.3], 0.9)
    shown = run(stack, "--z-step", "300nm", "--json")
    assert shown.exit_code == 0, shown.output
    answer = json.loads(shown.output)
    assert answer["verdict"] == "follows the stage"
    assert answer["slope"] == pytest.approx(0.9)
    assert [plane["z_nm"] for plane in answer["planes"]] == [-300, 0, 300]
    assert answer["origin"].endswith("stack.tif: plane 1")


def test_a_microscope_is_checked_in_words(given):
    given([0.0, 0.3, -0.3, 0.0], 0.0)
    shown = run("--config", SIMULATED_CONFIG, "--z-step", "0.3um")
    assert shown.exit_code == 0, shown.output
    words = " ".join(shown.output.split())
    assert "The estimate is not reliable on this specimen, or the profile" in words
    here = 1000 * focus_weights(FAMILY) @ np.full(8, 0.02)
    assert f"at positions from Focus at 0.000 µm: +0 nm: {here:.0f} ± " in words


def test_wrong_options_are_named(stack):
    for arguments, reason in (
        ((stack,), "--z-step: give the distance"),
        (("--z-step", "300nm"), "give a recorded z-stack, or --config"),
        ((stack, "--z-step", "300nm", "--planes", "1"), "one plane"),
    ):
        shown = run(*arguments)
        assert shown.exit_code == 2
        assert reason in shown.output
