"""`deepblur-live engines` and the doctor's order, as a user meets them."""

import pytest
import torch
from typer.testing import CliRunner

from deepblur_live.cli import engines as engines_command
from deepblur_live.cli import probes
from deepblur_live.cli.commands import app
from deepblur_live.cli.doctor import Level
from deepblur_live.profile import Model, Profile
from deepblur_live.runtime import engine_cache, engines
from deepblur_live.runtime.graph_executor import EngineExecutor
from deepblur_live.runtime.order import Attempt


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(engine_cache, "default_folder", lambda: tmp_path / "engines")
    return tmp_path / "engines"


@pytest.fixture
def with_card(monkeypatch, fake_tensorrt, card):
    """A stand-in for a card; engines in float32, as float16 is slow on the CPU."""
    order = [
        Attempt("tensorrt", True, "fake", fake_tensorrt, card),
        Attempt("tensorrt-rtx", False, "not installed"),
        Attempt("torch on the CPU", True, "always"),
    ]
    monkeypatch.setattr(engines_command, "executor_order", lambda _: order)
    monkeypatch.setattr(engines, "_PRECISIONS", ("float32",))


def call(*arguments):
    return CliRunner().invoke(app, ["engines", *arguments], env={"COLUMNS": "300"})


def test_engines_are_built_compared_listed_and_cleared(folder, with_card):
    """In child processes, with the fake TensorRT of `fakes/tensorrt.py`."""
    built = call("build", "--size", "64x70")
    assert built.exit_code == 0, built.output
    assert "deblurring of 64 × 70: the engine agrees with torch" in built.output
    assert "identification: the engine agrees with torch" in built.output
    assert "tensorrt-rtx: not used: not installed" in built.output
    listed = call("list")
    assert listed.exit_code == 0
    for word in ("proximal", "1 × 1 × 84 × 90", "test card, driver 570.1", "usable"):
        assert word in listed.output
    plan = next(folder.glob("proximal*.plan"))
    plan.write_bytes(plan.read_bytes()[:-100])
    assert "unusable: altered or truncated" in call("list").output
    (found,) = [f for f in probes.executor(Profile()) if f.subject == "engines"]
    assert "2 in the cache, 1 unusable" in found.text
    cleared = call("clear")
    assert "2 engines deleted" in cleared.output
    assert "No engines in" in call("list").output


def test_engines_that_disagree_are_an_error_with_the_reason(
    folder, with_card, builds, monkeypatch
):
    monkeypatch.setenv("FAKE_TENSORRT_FAULT", "wrong")
    built = call("build", "--size", "64")
    assert built.exit_code == 2
    assert "identification: the engine differs from torch" in built.output
    assert "no engine is usable: torch runs the networks" in built.output


def test_when_the_card_is_full_the_next_precision_is_tried(
    folder, with_card, builds, monkeypatch
):
    monkeypatch.setattr(engines, "_PRECISIONS", ("float32", "float32"))
    prepare, tried = EngineExecutor.prepare, []

    def full_at_first(self, *arguments):
        tried.append(self.name)
        if len(tried) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        prepare(self, *arguments)

    monkeypatch.setattr(EngineExecutor, "prepare", full_at_first)
    built = call("build", "--size", "64")
    assert "not used: CUDA out of memory" in built.output
    assert built.exit_code == 0
    assert len(tried) == 2


def test_without_a_card_it_says_what_is_missing(folder, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    built = call("build")
    assert built.exit_code == 2
    assert "tensorrt: not used: torch finds no CUDA card" in built.output
    assert "tensorrt-rtx: not used: torch finds no CUDA card" in built.output
    assert "no TensorRT is available here" in built.output


@pytest.mark.parametrize("size", ["tiny", "63", "512x", "512x20000", "-5", "5x12x9"])
def test_an_invalid_size_is_refused_with_what_would_be_right(size):
    refused = call("build", "--size", size)
    assert refused.exit_code == 2
    assert "must be ROWSxCOLUMNS of a frame, such as 512x640" in refused.output


def test_the_doctor_shows_the_order_and_the_reasons(folder):
    findings = list(probes.executor(Profile(model=Model(device="cpu"))))
    unused, used = findings
    reason, names = unused.text.split(": ", 1)[0], unused.text.rsplit(": ", 1)[1]
    assert reason == "not used, as the CPU was requested"
    assert names.split("; ") == [
        "tensorrt",
        "tensorrt-rtx",
        "Triton kernels in a CUDA graph",
        "Triton kernels in a CUDA graph, bfloat16",
        "compiled torch in a CUDA graph",
        "torch in a CUDA graph",
        "torch on the card",
    ]
    assert (unused.level, used.level) == (Level.NOTE, Level.OK)
    assert used.text.startswith("torch on the CPU, used")
