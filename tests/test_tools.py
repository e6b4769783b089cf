"""The maintainers' tools: a training that starts, resumes, and ships."""

import csv
import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from deepblur_live.runtime.pack import load_pack

TOOLS = Path(__file__).parent.parent / "tools"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Two small sharp pictures with a tiles list; no manifest, as a user's folder."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    rows = []
    # The split goes by content: enough files that some are for training.
    for i in range(6):
        picture = rng.integers(0, 255, (160, 170)).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"{i}.png")
        for y, x in ((0, 0), (32, 40)):
            rows.append([f"{i}.png", y, x, 128, 5.0, 0.8])
    with (folder / "TILES.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "y", "x", "size", "texture", "sharpness"])
        writer.writerows(rows)
    return folder


def run(script, *arguments, expect=0):
    """Run a tool as a program; return its output."""
    command = [sys.executable, str(TOOLS / script), *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == expect, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def tool(monkeypatch, capsys):
    """Run a tool in this process, where slow imports are done; return its output."""
    monkeypatch.syspath_prepend(str(TOOLS))
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)

    def run(script, *arguments, expect=0):
        module = importlib.import_module(script.removesuffix(".py"))
        monkeypatch.setattr(module, "tune_process", lambda _: None, raising=False)
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        code, last = 0, ""
        try:
            module.main()
        except SystemExit as ended:
            code = ended.code
            if isinstance(code, str):
                code, last = 1, code
        said = capsys.readouterr()
        assert code == expect, said.err + last
        return said.out + said.err + last

    return run


def test_both_networks_train_resume_and_ship(tool, pictures, tmp_path):
    training = tmp_path / "training"
    common = ["--data", pictures, "--minutes", "0.02", "--device", "cpu"]
    out = ["--out", training / "specimen", "--crop", 66, "--crops", 64]
    said = tool("train_specimen.py", "--data", pictures, *out, "--patterns", 3)
    assert "3 patterns leave" in said
    knowledge = training / "specimen" / "weights.safetensors"
    for script, name, options in (
        (
            "train_identification.py",
            "identification",
            ["--crop", 66, "--crops", 32, "--batch", 8, "--specimen", knowledge],
        ),
        ("train_deblurring.py", "deblurring", ["--crop", 34, "--batch", 2]),
    ):
        out = ["--out", training / name]
        first = tool(script, *common, *options, *out)
        assert "trivial" in first
        before = json.loads((training / name / "training.json").read_text("utf-8"))
        again = tool(script, *common, *options, *out)
        assert f"at {before['progress']['samples']} samples" in again
        after = json.loads((training / name / "training.json").read_text("utf-8"))
        assert after["progress"]["step"] > before["progress"]["step"] > 0
        assert after["tiles_sha256"] == before["tiles_sha256"]
        assert after["tiles"] >= 2
    ship = ["make_pack.py", "--training", training, "--name", "own"]
    tool(*ship, "--engines", tmp_path)
    pack = load_pack(str(tmp_path / "own"))
    assert pack.manifest.name == "own"
    assert pack.manifest.deblurring.training["progress"]["step"] > 1
    live = ["--live", training / "deblurring"]
    tool("make_pack.py", *live, "--name", "own", "--engines", tmp_path)
    both = load_pack(str(tmp_path / "own"), ("live", "quality"))
    assert both.weights == "live"
    assert both.manifest.deblurring == pack.manifest.deblurring
    # The level, and the patterns.
    assert pack.specimen.basis.shape[1] == 1 + 3
    # What was not trained again stays; what the start lacks is reported.
    shutil.rmtree(training / "deblurring")
    tool(*ship, "--engines", tmp_path)
    again = load_pack(str(tmp_path / "own")).manifest
    assert again.deblurring == pack.manifest.deblurring
    refused = tool(*ship, "--engines", tmp_path / "none", expect=2)
    assert "deblurring: not there" in refused


def test_a_training_begins_with_a_models_weights(tool, pictures, tmp_path):
    model = Path(str(load_pack("zernike7").folder))
    out = tmp_path / "deblurring"
    common = ["--data", pictures, "--minutes", "0.02", "--device", "cpu", "--crop", 34]
    start = ["--batch", 2, "--start", model]
    said = tool("train_deblurring.py", *common, *start, "--out", out)
    manifest = json.loads((model / "manifest.json").read_text("utf-8"))
    before = manifest["deblurring"]["training"]["progress"]["samples"]
    assert f"at {before} samples" in said
    after = json.loads((out / "training.json").read_text("utf-8"))["progress"]
    assert after["samples"] > before
    # A shallower one keeps the outer layers.
    small = tmp_path / "small" / "deblurring"
    tool("train_deblurring.py", *common, *start, "--depth", 3, "--out", small)
    written = json.loads((small / "training.json").read_text("utf-8"))
    assert written["architecture"]["depth"] == 3
    kept = load_file(small / "weights.safetensors")
    whole = load_file(model / manifest["deblurring"]["file"])
    first = "proximal.layers.0.weight"
    assert torch.allclose(kept[first], whole[first].float(), atol=0.02)
    assert "proximal.layers.3.weight" not in kept
    common += start
    wrong = tool("train_deblurring.py", *common, "--out", tmp_path / "other", expect=1)
    assert "has no 'other'" in wrong


def test_a_folder_without_a_tiles_list_is_named(tmp_path):
    said = run(
        "train_deblurring.py", "--data", tmp_path, "--out", tmp_path / "o", expect=2
    )
    assert said.startswith(f"{tmp_path / 'TILES.csv'}: not there")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("script", "option", "missing"),
    [
        ("evaluate.py", "--data", "MANIFEST.csv"),
        ("evaluate_real.py", "--data", "MANIFEST.csv"),
        ("fit_error_model.py", "--data", "MANIFEST.csv"),
        ("simulate_drift.py", "--measure", "MANIFEST.csv"),
    ],
)
def test_a_folder_without_data_ends_in_one_line(
    tool, tmp_path, script, option, missing
):
    for folder in (tmp_path, tmp_path / "none"):
        (line,) = tool(script, option, folder, expect=2).splitlines()
        assert line.startswith(f"{folder / missing}: not there; ")


def test_a_data_folder_without_a_fitting_picture_is_named(tool, tmp_path):
    (tmp_path / "MANIFEST.csv").write_text("file,sha256,width,height\n")
    head = "file,y,x,size,texture,sharpness\n"
    (tmp_path / "TILES.csv").write_text(head)
    (line,) = tool("evaluate.py", "--data", tmp_path, expect=2).splitlines()
    assert line.startswith(f"{tmp_path / 'MANIFEST.csv'}: no picture of the test split")
    out = ["--out", tmp_path / "out"]
    said = tool("train_deblurring.py", "--data", tmp_path, *out, expect=2)
    (line,) = said.splitlines()
    assert line.startswith(f"{tmp_path / 'TILES.csv'}: no tile of the train split")
    # Drift is simulated from photographs and micrographs.
    name = "natural/tampere17__a.png"
    (tmp_path / "MANIFEST.csv").write_text(f"file,sha256\n{name},5\n")
    (tmp_path / "TILES.csv").write_text(f"{head}{name},0,0,256,5,0.6\n")
    (line,) = tool("simulate_drift.py", "--measure", tmp_path, expect=2).splitlines()
    assert line.startswith(f"{tmp_path}: no micrographs of the test split")


def test_unknown_models_and_scenarios_are_named(tool):
    said = tool("simulate_drift.py", "--model", "nosuch", expect=2)
    assert "nosuch: not there; models: zernike7" in said
    said = tool("simulate_drift.py", "--only", "nosuch", expect=2)
    assert "nosuch: in no scenario's name: still; bleaching" in said


def test_the_evaluation_draws_into_the_tree_only_when_it_writes(
    tool, monkeypatch, tmp_path
):
    evaluate = importlib.import_module("evaluate")
    drawn = []
    section = SimpleNamespace(summarise=lambda rows: [], table=lambda summary: "")
    for place, name, stub in (
        (evaluate, "SECTIONS", {"coverage": section}),
        (evaluate, "held_out_pictures", lambda *_: {}),
        (evaluate, "measure", lambda *_: ({"coverage": []}, {"coverage": 0.0})),
        (evaluate.pictures, "draw_examples", lambda *given: drawn.append(given[-1])),
        (evaluate.pictures, "draw_coverage", lambda *given: drawn.append(given[-1])),
        (evaluate.publish, "missing_marks", lambda *_: ""),
        (evaluate.publish, "into_manifest", lambda *_: None),
        (evaluate.publish, "into_page", lambda *_: None),
    ):
        monkeypatch.setattr(place, name, stub)
    own, tree = tmp_path / "own.png", Path("docs/images/evaluation.png")
    for options, file in (
        ([], None),
        (["--pictures", own], own),
        (["--write"], tree),
        (["--write", "--pictures", own], own),
    ):
        drawn.clear()
        tool("evaluate.py", "--data", "FOLDER", *options)
        curve = file and file.with_stem(f"{file.stem}_coverage")
        assert drawn == ([] if file is None else [file, curve])
    said = tool("evaluate.py", "--data", "FOLDER", "--only", "pictures", expect=2)
    assert "--pictures FILE" in said


@pytest.mark.parametrize(
    ("script", "page"),
    [
        (["evaluate.py", "--data", "FOLDER"], "README.md"),
        (["evaluate_real.py", "--data", "FOLDER"], "README.md"),
        (["simulate_drift.py"], "docs/operating-characteristics.md"),
        (["benchmark.py"], "docs/speed.md"),
    ],
)
def test_a_page_without_a_place_for_the_table_is_named_before_measuring(
    tool, tmp_path, monkeypatch, script, page
):
    """A model and a documentation of their own, without marks."""
    name = script[0].removesuffix(".py")
    module = importlib.import_module(name)
    monkeypatch.setattr(
        module, "find_packs", lambda: {"zernike7": tmp_path}, raising=False
    )
    monkeypatch.chdir(tmp_path)
    said = tool(*script, "--write", expect=2)
    assert f"{page} has no place for " in said


@pytest.mark.slow
def test_the_evaluation_compares_methods(tool, tmp_path):
    """Two held-out pictures by name, one of which --quick takes."""
    from deepblur_live.acquisition.specimen import load_specimen

    folder = tmp_path / "natural"
    folder.mkdir()
    picture = np.round(255 * load_specimen()).astype(np.uint8)
    names = ["natural/tampere17__a.png", "natural/tampere17__b.png"]
    for name in names:
        Image.fromarray(picture).save(tmp_path / name)
    with (tmp_path / "MANIFEST.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "sha256"], *([n, "5"] for n in names)])
    with (tmp_path / "TILES.csv").open("w", newline="") as file:
        rows = [[n, 0, 0, 256, 5.0, 0.6] for n in names]
        head = ["file", "y", "x", "size", "texture", "sharpness"]
        csv.writer(file).writerows([head, *rows])
    drawn, figures = tmp_path / "drawn.png", tmp_path / "figures.json"
    common = ["evaluate.py", "--data", tmp_path, "--jobs", 1, "--pictures", drawn]
    common += ["--quick", "--sigmas", 0.001]
    only = ["--only", "identification", "deblurring", "baselines", "pictures"]
    said = run(*common, *only, "--json", figures)
    rows = [line for line in said.splitlines() if line.startswith("| 1 photographs")]
    # Three tables.
    assert len(rows) == 3
    clear = [cell.strip(" *") for cell in rows[0].split("|")]
    trivial, shipped = float(clear[3]), float(clear[6])
    assert shipped > trivial + 6
    content = json.loads(figures.read_text("utf-8"))
    assert [row["sigma"] for row in content["deblurring"]] == [0.001]
    deblurred = content["deblurring"][0]
    assert deblurred["observed_psnr"] < deblurred["lucy_psnr"]
    assert deblurred["observed_psnr"] < deblurred["ours_psnr"]
    assert content["baselines"][0]["blind_psf"] < trivial
    with Image.open(drawn) as picture:
        assert picture.size[0] > 500
    assert "ours_psnr" in content["baselines"][0]
    assert content["identification"][0]["answered"]
    refused = tool(*common, "--write", expect=2)
    assert "leave --quick" in refused
