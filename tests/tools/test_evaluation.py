"""The evaluation's parts: the classical methods, the splits, publishing."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.restoration import richardson_lucy as peer

from deepblur_live.acquisition.specimen import load_specimen
from deepblur_live.optics import Convolution, ZernikeFamily, extend, psf_snr, psnr

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
