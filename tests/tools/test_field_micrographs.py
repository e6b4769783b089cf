"""The table of deblurred micrographs, by how hard they were blurred."""

import importlib
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def micrographs(monkeypatch):
    """The module."""
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("evaluation.field_micrographs")


def test_every_micrograph_of_both_splits_is_blurred(micrographs, monkeypatch):
    held = {"test": [Path("a.png"), Path("b.png")], "validation": [Path("c.png")]}
    monkeypatch.setattr(
        micrographs,
        "held_out_pictures",
        lambda folder, split: {"photographs": [], "micrographs": held[split]},
    )
    frames = micrographs.micrograph_frames(Path(), 1)
    assert [frame.path.name for frame in frames[::2]] == ["a.png", "b.png", "c.png"]
    assert [frame.kind for frame in frames[::2]] == ["test", "test", "validation"]
    assert [frame.strength for frame in frames[::2]] == [0.5, 1.0, 1.5]
    assert {frame.sigma for frame in frames} == {0.001, 0.01}
    # A further field of a micrograph has a seed of its own.
    assert (
        len({frame.number for frame in micrographs.micrograph_frames(Path(), 2)}) == 6
    )


def test_rows_are_by_the_ssim_of_the_blurred_frame(micrographs):
    def row(raw, reported, split):
        figures = {
            f"{name}_{score}": value
            for name in ("one", "true")
            for score, value in (("psnr", 30.0), ("ssim", 0.9))
        }
        return figures | {
            "sigma": 0.01,
            "raw_ssim": raw,
            "raw_psnr": 25.0,
            "reported_psnr": reported,
            "reported_ssim": 0.9,
            "test": int(split == "test"),
            "validation": int(split == "validation"),
            "field": 1.0,
            "answered": 1.0,
        }

    rows = [row(0.9, 31.0, "test"), row(0.42, 33.0, "test")]
    rows.append(row(0.44, 29.0, "validation"))
    lines = micrographs.micrographs_table(rows).splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [line[:3] for line in cells] == [
        ["below 0.5", "2", "1, 1"],
        ["0.85 to 1", "1", "1, 0"],
    ]
    assert cells[0][4:7] == ["25.00 / 0.430", "30.00 / 0.900", "**31.00 / 0.900**"]
    assert cells[0][8] == "-1.00"
