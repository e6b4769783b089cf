"""The command sweep: from a stack or a microscope to what to do."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from deepblur_live.acquisition.simulated import SIMULATED_CONFIG
from deepblur_live.acquisition.simulated_sample import SimulatedSample
from deepblur_live.acquisition.specimen import load_specimen
from deepblur_live.blur import family_from_profile, focus_direction
from deepblur_live.cli.commands import app
from deepblur_live.cli.sweep import parse_length
from deepblur_live.identification import SweepResult
from deepblur_live.identification.sweep import search as sweep_search
from deepblur_live.profile import Profile
from deepblur_live.runtime.focus_sweep import best_planes
from deepblur_live.session.sweep_report import sweep_text

pytestmark = pytest.mark.usefixtures("no_pictures")

FAMILY = family_from_profile(Profile())
PER_UM = focus_direction(FAMILY)


@pytest.fixture(autouse=True)
def quick_search(monkeypatch):
    """A search of a tenth of the size; its breadth is a matter of the evaluation."""
    for name, value in {"_TRIED": 300, "_STARTS": 5, "_ROUNDS": 1}.items():
        monkeypatch.setattr(sweep_search, name, value)


@pytest.fixture(scope="module")
def sample():
    return SimulatedSample(load_specimen(), shape=(256, 256), family=FAMILY)


@pytest.fixture(scope="module")
def stack(sample, tmp_path_factory):
    """Five planes, the third at position 0."""
    planes = [sample.frame(0.0, z_um=0.25 * k).pixels for k in range(-2, 3)]
    file = tmp_path_factory.mktemp("sweep") / "stack.tif"
    tifffile.imwrite(file, np.stack(planes), photometric="minisblack")
    return file


def run(*arguments):
    return CliRunner().invoke(app, ["sweep", *map(str, arguments)])


def test_the_first_step_depends_on_the_stack(stack, sample):
    shown = run(stack, "--z-step", "250nm", "--json")
    assert shown.exit_code == 0, shown.output
    answer = json.loads(shown.output)
    truth = sample.coefficients(0.0)
    assert answer["refocus_nm"] == pytest.approx(-1000 * truth[0] / PER_UM[0], abs=40)
    assert answer["coefficients"] == pytest.approx(list(truth), abs=0.03)
    assert answer["z_nm"] == [-500, -250, 0, 250, 500]
    assert answer["names"][0] == "defocus" and "positive" in answer["convention"]
    assert not answer["thick"]


def test_a_microscope_is_swept_by_its_stage():
    shown = run("--config", SIMULATED_CONFIG, "--z-step", "0.3um", "--json")
    assert shown.exit_code == 0, shown.output
    answer = json.loads(shown.output)
    truth = SimulatedSample().coefficients(0.0)
    assert answer["origin"] == "Focus at 0.000 µm"
    assert answer["refocus_nm"] == pytest.approx(-1000 * truth[0] / PER_UM[0], abs=60)


def test_a_stage_that_counts_the_other_way_flips_the_even_modes(stack, tmp_path):
    rig = tmp_path / "rig.toml"
    rig.write_text('[stage]\ndeeper = "smaller"\n')
    plain, other = (
        json.loads(run(stack, "--z-step", "250nm", "--json", *more).output)
        for more in ((), ("--profile", rig))
    )
    assert other["refocus_nm"] == pytest.approx(plain["refocus_nm"], abs=5)
    flipped = np.where(FAMILY.even, -1, 1) * plain["coefficients"]
    assert other["coefficients"] == pytest.approx(flipped, abs=0.01)


def result(**changes):
    p = FAMILY.n_coefficients
    fields = {
        "coefficients": np.linspace(-0.1, 0.1, p),
        "covariance": 1e-4 * np.eye(p),
        "refocus_um": -0.12,
        "refocus_sigma_um": 0.03,
        "chi2": 1.1,
        "thick": "",
        "turn_known": True,
        "shifts": np.zeros((3, 2), int),
    }
    return SweepResult(**(fields | changes))


def test_the_text_begins_with_the_remedy():
    lines = sweep_text(FAMILY, result(), "the middle plane")
    assert lines[0] == "Refocus by -120 ± 30 nm (from the middle plane)."
    assert "defocus" in lines[1] and "-0.100 ± 0.010 waves rms" in lines[1]
    assert len(lines) == 3 + FAMILY.n_coefficients
    turned = sweep_text(FAMILY, result(turn_known=False), "the middle plane")
    assert any("rotated by 180°" in line for line in turned)


def test_a_thick_specimen_gets_no_numbers():
    lines = sweep_text(FAMILY, result(thick="it is deep"), "the middle plane")
    assert lines[0] == "Refocus towards smaller positions (from the middle plane)."
    assert "only the direction of focus is known" in lines[1]
    assert len(lines) == 2


def test_saturated_planes_and_wrong_options_are_named(tmp_path, sample, stack):
    planes = [sample.frame(0.0, z_um=0.3 * k).pixels for k in range(-1, 2)]
    planes[1] = planes[1].copy()
    planes[1][:20, :20] = 65535
    file = tmp_path / "bright.tif"
    tifffile.imwrite(file, np.stack(planes), photometric="minisblack")
    for arguments, reason in (
        ((file, "--z-step", "300nm"), "plane 2 of 3 (+0 nm): saturated"),
        ((stack,), "--z-step: give the distance"),
        ((stack, "--z-step", "near"), "give a length such as 200nm"),
        (("--z-step", "300nm"), "give a recorded z-stack, or --config"),
        ((stack, "--z-step", "250nm", "--planes", "1,2,x"), "give numbers such as"),
        ((stack, "--z-step", "250nm", "--planes", "0,2,1"), "not monotone"),
        ((stack, "--z-step", "0.25"), "give a length such as 200nm"),
        ((stack, "--z-step", "250nm", "--planes", "0,1,99"), "there is no plane 99"),
        ((stack, "--z-step", "250nm", "--planes", "0,1,1"), "given twice"),
    ):
        shown = run(*arguments)
        assert shown.exit_code == 2
        assert reason in shown.output


@pytest.mark.parametrize(
    ("text", "um"), [("200nm", 0.2), ("0.2um", 0.2), ("0.2 µm", 0.2), ("-300", -0.3)]
)
def test_lengths(text, um):
    assert parse_length(text, "--z-step") == pytest.approx(um)


def test_a_long_stack_is_swept_about_its_sharpest_plane():
    contrast = [1.0] * 34
    contrast[17] = 2.0
    # 0.11 waves of defocus a plane: neighbours at two planes.
    assert best_planes(contrast, 0.3, 0.364 / 0.15) == ([15, 17, 19], 17)
    contrast[0] = 3.0
    assert best_planes(contrast, 0.3, 0.364 / 0.15) == ([0, 2, 4], 2)
    assert best_planes([1.0] * 5, 0.3, 2.0) == ([0, 1, 2, 3, 4], 2)
