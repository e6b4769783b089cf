"""The evaluation's parts: the classical methods, the splits, publishing."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.restoration import richardson_lucy as peer

from deepblur_live.acquisition.specimen import load_specimen
from deepblur_live.optics import (
    Convolution,
    ZernikeFamily,
    extend,
    psf_snr,
    psnr,
    reach,
)

TOOLS = Path(__file__).parent.parent.parent / "tools"
FAMILY = ZernikeFamily()


@pytest.fixture(autouse=True)
def tools(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)


@pytest.fixture
def frame():
    """A frame, continued, its PSF, and the truth."""
    sharp = torch.as_tensor(load_specimen()).float()[100:290, 100:290]
    psf = FAMILY.psf(FAMILY.sample(1, torch.Generator().manual_seed(5))[0])
    blurred = Convolution(psf, (190, 190)).forward(sharp)[15:-15, 15:-15]
    noise = torch.randn(160, 160, generator=torch.Generator().manual_seed(0))
    return extend(blurred + 0.005 * noise, 30), psf, sharp[15:-15, 15:-15].numpy()


INNER = (slice(16, 144), slice(16, 144))


def test_richardson_lucy_is_that_of_scikit_image(frame):
    from evaluation.classical import richardson_lucy

    y, psf, truth = frame
    ours = richardson_lucy(y, psf).numpy()[INNER]
    theirs = peer(y.clamp(min=0).numpy(), psf.numpy(), 20, clip=False)[INNER]
    truth = truth[INNER]
    assert psnr(ours, theirs) > 40
    assert psnr(ours, truth) == pytest.approx(psnr(theirs, truth), abs=0.1)


def test_blind_richardson_lucy_stays_near_the_truth_and_does_not_find_it(frame):
    from evaluation.classical import blind_richardson_lucy

    y, psf, truth = frame
    image, found = blind_richardson_lucy(y, psf)
    assert found.shape == psf.shape
    assert float(found.sum()) == pytest.approx(1, abs=1e-4)
    assert float(found.min()) >= 0
    # The true PSF, turned or shifted, would be far off: an update of its own is right.
    assert float(psf_snr(found, psf)) > 20
    raw = psnr(y.numpy()[:160, :160][INNER], truth[INNER])
    assert psnr(image.numpy()[INNER], truth[INNER]) > raw + 4
    _, lost = blind_richardson_lucy(y, FAMILY.psf(torch.zeros(7)))
    assert float(psf_snr(lost, psf)) < 0


def test_the_oracle_wiener_is_the_best_of_its_balances(frame):
    from evaluation.classical import best_wiener

    y, psf, truth = frame
    best = psnr(best_wiener(y, psf, truth, INNER)[INNER], truth[INNER])
    operator = Convolution(psf, tuple(y.shape))
    for balance in (1e-4, 1e-2, 1e-1):
        other = operator.wiener(y, balance).numpy()
        assert best >= psnr(other[INNER], truth[INNER])


def test_the_validation_split_has_no_test_picture(tmp_path):
    from held_out import held_out_pictures

    names = {
        "natural/tampere17__a.png": "0f",
        "natural/own__b.png": "1a",
        "natural/own__c.png": "2b",
        "natural/own__small.png": "03",
    }
    with (tmp_path / "MANIFEST.csv").open("w", newline="") as file:
        head = ["file", "sha256", "width", "height"]
        rows = [[n, s, 800, 200 if "small" in n else 600] for n, s in names.items()]
        csv.writer(file).writerows([head, *rows])
    with (tmp_path / "TILES.csv").open("w", newline="") as file:
        head = ["file", "y", "x", "size", "texture", "sharpness"]
        csv.writer(file).writerows([head, *([n, 0, 0, 256, 5, 0.6] for n in names)])
    found = {
        split: [path.name for path in held_out_pictures(tmp_path, split)["photographs"]]
        for split in ("test", "validation")
    }
    assert found == {"test": ["tampere17__a.png"], "validation": ["own__b.png"]}


def test_tables_and_summaries_are_put_where_people_read_them(tmp_path):
    from evaluation.publish import into_manifest, into_readme, missing_places

    readme, manifest = tmp_path / "README.md", tmp_path / "manifest.json"
    readme.write_text("a\n<!-- speed -->\nold\n<!-- /speed -->\nb\n", "utf-8")
    assert missing_places(readme, ["speed", "size"]) == ["size"]
    into_readme(readme, {"speed": "| new |"})
    text = readme.read_text("utf-8")
    assert text == "a\n<!-- speed -->\n| new |\n<!-- /speed -->\nb\n"
    manifest.write_text('{"name": "own", "accuracy": {"size": [1]}}', "utf-8")
    into_manifest(manifest, {"speed": [{"sigma": 0.01, "error": float("nan")}]})
    content = json.loads(manifest.read_text("utf-8"))
    assert content["accuracy"]["size"] == [1]
    assert content["accuracy"]["speed"] == [{"sigma": 0.01, "error": None}]


def test_summaries_are_means_over_the_frames_that_have_a_figure():
    from evaluation.section import figure, markdown, summary

    rows = [
        {"kind": "a", "sigma": 0.1, "error": 1.0, "answered": True},
        {"kind": "a", "sigma": 0.1, "answered": False},
        {"kind": "b", "sigma": 0.1, "answered": False},
    ]
    first, second = summary(rows, ("error", "answered"))
    assert first["frames"] == 2
    assert first["error"] == 1
    assert first["answered"] == 0.5
    assert np.isnan(second["error"])
    assert figure(second["error"], ".1f") == "–"
    assert figure(first["answered"], ".0%") == "50%"
    table = markdown(["x", "y"], [["1", "2"]])
    assert table.splitlines() == ["| x | y |", "| --- | --- |", "| 1 | 2 |"]


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """The shipped specimen as a picture of the evaluation's."""
    path = tmp_path_factory.mktemp("pictures") / "specimen.png"
    grey = np.asarray(load_specimen())
    Image.fromarray((255 * grey / grey.max()).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def case(picture):
    """Return a maker of frames under evaluation."""
    from evaluation.case import Case, Spec

    return lambda kind="micrographs", sigma=0.01, **more: Case(
        Spec(picture, kind, 3, sigma, **more), "zernike7"
    )


def plan(picture, count=7):
    from evaluation.plan import Plan

    paths = [picture.with_name(f"{i}.png") for i in range(count)]
    pictures = {"photographs": paths, "micrographs": paths}
    return Plan(pictures, (0.001, 0.01, 0.05), 1, "zernike7")


def test_the_sections_ask_for_the_frames_that_they_are_about(picture):
    import evaluate
    from evaluation import refusals
    from evaluation.troubles import TROUBLES

    asked = {name: s.specs(plan(picture)) for name, s in evaluate.SECTIONS.items()}
    assert all(len(set(specs)) == len(specs) > 0 for specs in asked.values())
    # What coverage and the paper's sampling need is computed once, for all.
    assert set(asked["coverage"]) == set(asked["identification"])
    assert len(set(asked["sampling"]) & set(asked["identification"])) == 16
    assert {spec.sigma for spec in asked["time"]} == {0.01, 0.05}
    assert {spec.rms for spec in asked["zero"]} == {0.0, 0.03, 0.07}
    assert {len(spec.noll) for spec in asked["modes"]} == {7, 8, 12}
    assert len({spec.optics for spec in asked["modes"]}) == 4
    assert {spec.kind for spec in asked["refusals"]} == set(TROUBLES)
    assert len(refusals.specs(plan(picture, 14))) == 12 * len(TROUBLES)


def test_a_better_spectrum_allows_a_better_psf(case):
    from evaluation.bound import allowed_snr

    clear, noisy = (allowed_snr(case(sigma=sigma)) for sigma in (0.001, 0.05))
    assert 15 < clear < 45
    assert noisy < clear - 3


def test_a_hundred_frames_tell_more_than_one(case):
    from evaluation import over_time
    from evaluation.bound import allowed_snr

    row = over_time.score(case(sigma=0.01))
    assert row["answered_100"]
    assert row["after_100"] > row["after_1"] + 3
    assert row["after_100"] > 20
    table = over_time.table(over_time.SECTION.summarise([row | ABOUT]))
    assert table.splitlines()[-1].endswith(f"| 18 | {row['allowed']:.1f} |")
    # The bound is that of all hundred.
    assert row["allowed"] > allowed_snr(case(sigma=0.01)) + 1


ABOUT = {"kind": "micrographs", "sigma": 0.01}


def test_coverage_counts_the_deviations_within_an_interval(tmp_path):
    from evaluation import coverage

    true = np.array([reach(share) for share in (np.arange(4000) + 0.5) / 4000])
    rows = [
        {"kind": "photographs", "sigma": 0.01, "deviations": list(true)},
        {"kind": "micrographs", "sigma": 0.01, "deviations": list(2 * true)},
        {"kind": "micrographs", "sigma": 0.05, "deviations": []},
    ]
    found = coverage.summarise(rows)
    assert [row["kind"] for row in found[:3]] == ["all", "photographs", "micrographs"]
    assert found[1]["inside_68"] == pytest.approx(0.68, abs=0.001)
    assert found[1]["inside_95"] == pytest.approx(0.95, abs=0.001)
    assert found[2]["inside_95"] < 0.8
    assert np.isnan(found[3]["inside_68"])
    assert "| photographs | 0.01 | 4000 | 68% | 95% |" in coverage.table(found)
    coverage.draw(rows, tmp_path / "coverage.png")
    with Image.open(tmp_path / "coverage.png") as drawn:
        assert drawn.size[0] > 300


def test_frames_that_cannot_tell_are_made_as_they_say(case):
    from evaluation import refusals
    from evaluation.troubles import TROUBLES

    made = {kind: make(case(kind)) for kind, make in TROUBLES.items()}
    pixels = {kind: trouble.pixels for kind, trouble in made.items()}
    assert np.mean(pixels["saturated"] == 4095) == pytest.approx(0.03, abs=0.01)
    assert pixels["flat"].std() == pytest.approx(30, rel=0.05)
    assert made["moved by 15 pixels"].psf is None
    assert made["±0.45 waves"].psf.shape == (31, 31)
    # Bars of one period have their power in few places, beads of one size in rings.
    power = np.abs(np.fft.rfft2(pixels["periodic"] - pixels["periodic"].mean())) ** 2
    assert np.sort(power.ravel())[-20:].sum() > 0.3 * power.sum()
    assert pixels["equal beads"].mean() < 1000
    rows = [
        refusals.score(case(kind)) | {"kind": kind} for kind in ("flat", "saturated")
    ]
    found = refusals.SECTION.summarise(rows)
    assert [row["refused"] for row in found] == [1, 1]
    assert "| 1 flat | 100% | – | – |" in refusals.table(found)


def test_other_samplings_are_measured_at_their_own_pixels(case):
    from evaluation import sampling

    row = sampling.score(case(sigma=0.001, pixel_size_nm=sampling.PIXEL_SIZES[3.0]))
    assert row["sampling"] == 3.0
    assert row["psf"] > 8
    assert row["gain"] > 1
    rows = [ABOUT | row | {"sampling": value} for value in (3.83, 2.2)]
    head = sampling.table(sampling.summarise(rows)).splitlines()[0]
    assert head == "| pictures | σ | 2.2 | 3.83 |"


def test_the_modes_in_common_are_compared_by_the_spectrum_alone(case):
    from evaluation import modes

    row = modes.score(case(sigma=0.001, noll=modes.SPHERICAL_MODES))
    assert row["condition"] == "4–11"
    assert row["error"] < 0.05
    assert modes.condition(case(ranges=modes.LONG_DEFOCUS).spec) in modes.CONDITIONS
    table = modes.table(modes.summarise([ABOUT | row]))
    assert table.splitlines()[0] == "| pictures | σ | 4–11 |"


def test_the_wavefront_near_zero_is_as_large_as_asked(case):
    from evaluation import near_zero

    assert float(case(rms=0.07).frame.coefficients.norm()) == pytest.approx(0.07)
    row = near_zero.score(case(sigma=0.001, rms=0.07))
    assert row["true"] == "0.07"
    assert row["found"] == pytest.approx(0.07, abs=0.05)
    assert "(0%)" in near_zero.table(near_zero.summarise([ABOUT | row]))


def test_the_rim_of_a_frame_is_told_from_its_interior(case):
    from evaluation import borders

    truth = torch.zeros(401, 307)
    image = truth.clone()
    image[:16] += 0.1
    found = borders.rim_and_interior("x", image, truth)
    assert found["x_rim"] < 30 < 100 < found["x_inner"]
    row = borders.score(case())
    assert row["crop_ours_inner"] > row["crop_observed_inner"] + 1
    assert row["whole_ours_rim"] > row["whole_observed_rim"] - 1
    table = borders.table(borders.SECTION.summarise([ABOUT | row]))
    assert "401 × 307" in table.splitlines()[0]
