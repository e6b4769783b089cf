"""`tools/prove_card.py`: every stage run without a card, and stages that go wrong."""

import dataclasses
import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deepblur_live.deblurring import UnrolledFista

TOOLS = Path(__file__).parent.parent.parent / "tools"


@pytest.fixture(autouse=True)
def tools(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)


def prove(*arguments):
    command = [sys.executable, str(TOOLS / "prove_card.py"), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False
    )


def test_a_dry_run_walks_every_stage(tmp_path):
    import prove_card

    done = prove("--dry-run", "--out", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    outcomes = json.loads((tmp_path / "card.json").read_text("utf-8"))
    assert [o["name"] for o in outcomes] == [s.name for s in prove_card.STAGES]
    status = {o["name"]: (o["status"], o["why"]) for o in outcomes}
    kernels = status.pop("kernels for other cards")
    assert set(status.values()) == {("ran", "")}
    figures = {f["what"]: f for o in outcomes for f in o["figures"]}
    if kernels == ("ran", ""):
        # One of them, for a card that is not there: sums stay in registers.
        found = figures["hidden layer, 16 channels, sm_90"]["value"]
        registers, spilled = found.split(", ")[:2]
        # Four programs of 128 threads fit in a multiprocessor.
        assert int(registers.split()[0]) * 128 * 4 <= 65536
        assert spilled == "0 bytes spilled"
    else:
        assert kernels == ("skipped", "Triton is not installed")
    # Streams of frames were deblurred, and the floor stands beside the times.
    deblurred = [f for what, f in figures.items() if what.endswith(": deblurred")]
    assert len(deblurred) == 1
    assert any("floor" in f for what, f in figures.items() if ": frame" in what)
    assert figures["passed"]["value"] == figures["failed"]["value"] == 0
    text = (tmp_path / "card.md").read_text("utf-8")
    assert (
        done.stdout.count("| ran |")
        == text.count("| ran |")
        == len(status) + (kernels[0] == "ran")
    )


def test_without_a_card_the_dry_run_is_named(tmp_path, monkeypatch):
    import prove_card

    monkeypatch.setattr(prove_card, "_has_card", lambda: False)
    monkeypatch.setattr(sys, "argv", ["prove_card.py", "--out", str(tmp_path / "o")])
    with pytest.raises(SystemExit, match="--dry-run walks the stages without"):
        prove_card.main()
    assert not (tmp_path / "o").exists()


# Stages of their own, imported by the stages' processes.
STAGES = """
import os, time
from proving.stage import Figure, NotHere
def sound(context):
    yield Figure("a number", 1.0, "ms", 0.5)
def raises(context):
    yield Figure("before it", 2)
    raise ValueError("no kernel image is available")
def crashes(context):
    yield Figure("before it", 3)
    os.abort()
def hangs(context):
    yield Figure("before it", 4)
    time.sleep(60)
def lacks(context):
    raise NotHere("it is not installed")
    yield
def wrong(context):
    yield Figure("error", "1.0", passed=False)
    yield Figure("after it", 5)
def peaks(context):
    from proving.runner import COPY, PRODUCT
    yield Figure(COPY, 4.0)
    yield Figure(PRODUCT, 800.0)
def told(context):
    yield Figure("rates", f"{context.bandwidth:g} {context.rate:g}")
"""


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run stages of the module above by name, each in its process."""
    from proving import runner
    from proving.stage import Context, Stage

    (tmp_path / "own_stages.py").write_text(STAGES, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    search = os.pathsep.join([str(tmp_path), str(TOOLS)])
    monkeypatch.setenv("PYTHONPATH", search)
    # A new process each: torch is not needed.
    monkeypatch.setattr(runner, "_METHOD", "spawn")
    context = Context("cpu", "zernike7", (64,), 1, 0.0, tmp_path)
    kept = []

    def run(*names, seconds=100.0, limit=50.0):
        stages = [Stage(n, f"own_stages:{n}", 1.0, limit) for n in names]

        def keep(outcomes):
            kept.append([outcome.name for outcome in outcomes])

        return runner.run_all(stages, context, seconds, keep), kept

    return run


def test_a_stage_that_fails_ends_alone(run):
    names = ("raises", "crashes", "lacks", "wrong", "sound")
    outcomes, kept = run(*names)
    found = {o.name: (o.status, o.why, [f.value for f in o.figures]) for o in outcomes}
    assert found == {
        "raises": ("failed", "ValueError: no kernel image is available", [2]),
        "crashes": ("failed", "its process ended with exit code -6", [3]),
        "lacks": ("skipped", "it is not installed", []),
        "wrong": ("failed", "error: 1.0", ["1.0", 5]),
        "sound": ("ran", "", [1.0]),
    }
    assert "ValueError" in outcomes[0].trace
    # After each.
    assert kept == [list(names[: i + 1]) for i in range(len(names))]


def test_a_stage_that_hangs_is_ended_and_one_without_time_is_not_begun(run):
    began = time.monotonic()
    outcomes, _ = run("hangs", "sound", seconds=5.9, limit=5.0)
    assert time.monotonic() - began < 40
    assert outcomes[0].status == "failed"
    assert outcomes[0].why == "it had not ended after 5 s"
    assert [f.value for f in outcomes[0].figures] == [4]
    assert outcomes[1].status == "skipped"
    assert "s were left, it needs 1" in outcomes[1].why


def test_measured_peaks_are_what_later_floors_are_counted_by(run):
    outcomes, _ = run("peaks", "told")
    assert outcomes[1].figures[0].value == "4e+12 8e+14"


def test_the_floor_is_bytes_or_operations_whichever_takes_longer(tmp_path):
    from proving import floor
    from proving.stage import Context

    # An H200, as measured: 4.3 TB/s and 790 TFLOP/s.
    card = Context("cuda", "zernike7", (2048,), 1, 0.0, tmp_path, 4.3e12, 7.9e14)
    network, pixels = UnrolledFista(15, 32, 2, 4, 2), 2100**2
    layers = floor.proximal(network.proximal, 2100, 2100)
    # 4·32, twice 32·32 and 32·4 products of nine taps, at a quarter of the pixels.
    products = [4 * 32, 32 * 32, 32 * 32, 32 * 4]
    assert [layer.operations for layer in layers] == [
        2 * 9 * count * pixels / 4 for count in products
    ]
    # The image in float32 twice in, once out; 32 features in float16 written and read.
    assert sum(layer.bytes for layer in layers) == pixels * (3 * 4 + 6 * 32 * 2 / 4)
    assert floor.milliseconds(layers[1:2], card) == pytest.approx(
        1e3 * layers[1].bytes / 4.3e12
    )
    slow = dataclasses.replace(card, rate=1e13)
    assert floor.milliseconds(layers[1:2], slow) == pytest.approx(
        1e3 * layers[1].operations / 1e13
    )
    # 39 transforms, and about what was counted before (docs/decisions/0072).
    whole = floor.frame(network, 2100, 2100)
    assert whole.count(floor.transform(2100, 2100)[0]) == 2 * 39
    assert floor.milliseconds(whole, card) == pytest.approx(3.0, abs=0.15)
    unknown = dataclasses.replace(card, bandwidth=0.0)
    assert floor.milliseconds(whole, unknown) is None


def test_the_report_says_what_is_over_the_floor_and_what_failed(tmp_path):
    report = importlib.import_module("proving.report")
    from proving.runner import Outcome
    from proving.stage import Figure

    outcomes = [
        Outcome("one", "ran", seconds=3, figures=[Figure("time", 3.0, "ms", 1.5)]),
        Outcome("two", "failed", "a | b", 1, [Figure("error", "nan", passed=False)]),
        Outcome("three", "skipped", "it is not installed"),
    ]
    text = report.as_markdown(outcomes)
    assert "| time | 3 ms | 1.5 ms | 2.0 |" in text
    assert "| two | failed | 1 | a \\| b |" in text
    assert "| error | nan **(failed)** |  |  |" in text
    assert "## three" not in text
