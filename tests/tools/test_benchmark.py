"""The benchmark: what it counts, how it times, and that it runs as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from deepblur_live.blur import family_from_profile
from deepblur_live.profile import Profile
from deepblur_live.runtime.executor import TorchExecutor
from deepblur_live.runtime.graph_executor import GraphExecutor
from deepblur_live.runtime.pack import load_pack
from deepblur_live.runtime.tensorrt import EngineError

TOOLS = Path(__file__).parent.parent.parent / "tools"
FAMILY = family_from_profile(Profile())


@pytest.fixture(autouse=True)
def tools(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)


def test_tasks_alternate_and_preparation_is_not_timed():
    from benchmarking.clock import Clock

    said = []
    clock = Clock(torch.device("cpu"), seconds=0, least=3, warm_up=1)
    timings = clock.interleaved(
        {"a": lambda: said.append("a"), "b": lambda: said.append("b")},
        before=lambda: said.append("-"),
    )
    assert "".join(said) == "-a-b" * 4
    assert {name: len(timing.runs) for name, timing in timings.items()} == {
        "a": 3,
        "b": 3,
    }


def test_a_timing_has_its_middle_and_its_tail():
    from benchmarking.clock import Timing

    timing = Timing(tuple(float(ms) for ms in range(1, 102)))
    assert (timing.mean, timing.p50, timing.p99) == (51, 51, 100)


def test_goals_and_ratios_are_reported():
    from benchmarking.clock import Timing
    from benchmarking.report import as_json, as_markdown, machine
    from benchmarking.stages import DEBLUR, LIVE, PEERS, Row

    def rows(live):
        return [
            Row(DEBLUR, 512, "torch", Timing((100.0,))),
            Row(PEERS[0], 512, "peer", Timing((300.0,))),
            Row(LIVE, 512, "torch", Timing((live,))),
        ]

    here = machine(torch.device("cpu"))
    text = as_markdown(here, rows(200.0))
    assert "Goal of 250 ms per live frame: met" in text
    assert "300 ms, 3.00 times the deblurring, 1.50 times the live frame" in text
    assert ", precision float32" in text.partition("\n")[0].replace(
        "bfloat16", "float32"
    )
    assert "missed" in as_markdown(here, rows(251.0))
    content = json.loads(json.dumps(as_json(here, rows(200.0))))
    assert content["rows"][0]["mean_ms"] == 100
    assert content["machine"]["threads"] == torch.get_num_threads()


@pytest.fixture
def card():
    return {"card": "a card", "processor": "CPU"}


def test_a_card_that_is_fast_but_uneven_misses_its_goal(card):
    from benchmarking.clock import Timing
    from benchmarking.report import as_markdown
    from benchmarking.stages import LIVE, Row

    even = Row(LIVE, 2048, "torch", Timing((8.0,) * 200))
    uneven = Row(LIVE, 2048, "torch", Timing((8.0,) * 190 + (40.0,) * 10))
    goal = "Goal of 100 per second: met; of p99 under 20 ms: "
    assert goal + "met" in as_markdown(card, [even])
    assert goal + "missed" in as_markdown(card, [uneven])


def test_a_stream_is_judged_by_its_rate_and_its_latency(card):
    from benchmarking.clock import Timing
    from benchmarking.report import as_markdown
    from benchmarking.stages import LATENCY, STREAM, Row

    rows = [
        Row(STREAM, 2048, "torch", Timing((8.0,) * 50)),
        Row(LATENCY, 2048, "torch", Timing((24.0,) * 50)),
    ]
    text = as_markdown(card, rows)
    assert "8 ms per frame (125 per second)" in text
    assert "Goal of 100 per second: met; of p99 under 20 ms: missed" in text


@pytest.mark.slow
def test_live_frames_are_timed_without_a_pause_between_them():
    """A card's executor on the processor: the same steps, without an overlap."""
    from benchmarking.executors import Candidate
    from benchmarking.stages import HOST, LATENCY, STREAM, stream_rows
    from benchmarking.workload import Workload

    pack = load_pack("zernike7")
    executor = GraphExecutor(pack, FAMILY, torch.device("cpu"), half=False)
    candidate = Candidate("it", executor, pack)
    rows = stream_rows(Workload(96, FAMILY), FAMILY, candidate, 0.0)
    interval, latency, host = rows
    assert (interval.stage, latency.stage, host.stage) == (STREAM, LATENCY, HOST)
    assert len(interval.timing.runs) == len(latency.timing.runs) >= 50
    # Each waits for the next one's beginning.
    assert latency.timing.mean > interval.timing.mean > 0


class Engines(TorchExecutor):
    """Stand-ins for engines: they must be prepared, and some fail."""

    prepared = False

    def prepare(self, shape):
        if self.fault:
            raise EngineError(self.fault)
        self.prepared = True

    def identification_output(self, inputs):
        assert self.prepared
        return super().identification_output(inputs)


@pytest.mark.slow
def test_engines_are_prepared_before_anything_is_timed_and_left_out_where_they_fail(
    monkeypatch, capsys
):
    import benchmark as tool
    from benchmarking.executors import Candidate

    def engines(name, fault=""):
        pack = load_pack("zernike7")
        executor = Engines(pack, FAMILY, torch.device("cpu"), half=False)
        executor.fault = fault
        return Candidate(name, executor, pack, executor.prepare)

    found = [engines("first", "differs from torch"), engines("second"), engines("slow")]
    monkeypatch.setattr(tool, "candidates", lambda *_: (found, ["none: no card"]))
    monkeypatch.setattr(
        sys,
        "argv",
        "benchmark --quick --sides 96 128 --seconds 0 --live-seconds 0.01".split(),
    )
    tool.main()
    said = capsys.readouterr().out
    assert "left out: none: no card" in said
    assert "left out: first: differs from torch" in said
    for line in ("96², second", "96², slow", "128², second"):
        assert line in said
    # Quick: one size is enough for the slower. What failed is not tried again.
    assert "128², slow" not in said
    # At once, and in the report.
    assert said.count("left out: first") == 2


@pytest.mark.slow
def test_a_measurement_that_fails_does_not_discard_the_others(monkeypatch, tmp_path):
    import benchmark as tool
    from benchmarking.executors import Candidate

    class Broken(TorchExecutor):
        def deblur(self, *arguments):
            raise EngineError("the engine did not run; out of memory")

    pack = load_pack("zernike7")
    cpu = torch.device("cpu")
    found = [
        Candidate(name, kind(pack, FAMILY, cpu, half=False), pack)
        for name, kind in (("broken", Broken), ("sound", TorchExecutor))
    ]
    monkeypatch.setattr(tool, "candidates", lambda *_: (found, []))
    files = [tmp_path / "b.json", tmp_path / "b.md"]
    line = "benchmark --quick --sides 96 --seconds 0 --live-seconds 0.01 --json"
    monkeypatch.setattr(
        sys, "argv", [*line.split(), str(files[0]), "--markdown", str(files[1])]
    )
    tool.main()
    content = json.loads(files[0].read_text("utf-8"))
    assert content["left_out"] == ["96², broken: the engine did not run; out of memory"]
    assert f"left out: {content['left_out'][0]}" in files[1].read_text("utf-8")
    stages = {row["stage"] for row in content["rows"] if row["executor"] == "sound"}
    assert any(stage.startswith("frame, live") for stage in stages)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("--sides 64 --json no/b.json", "there is no such folder"),
        ("--sides 32", "--sides 32: frames have at least 64 × 64 pixels"),
    ],
)
def test_what_cannot_be_measured_or_written_is_refused_at_once(
    monkeypatch, capsys, line, error
):
    import benchmark as tool

    monkeypatch.setattr(sys, "argv", ["benchmark", *line.split()])
    with pytest.raises(SystemExit, match="2"):
        tool.main()
    assert error in capsys.readouterr().err


def benchmark(*arguments):
    command = [sys.executable, str(TOOLS / "benchmark.py"), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=240, check=False
    )


@pytest.mark.slow
def test_it_measures_every_stage_and_the_peer(tmp_path):
    done = benchmark(
        *("--quick", "--sides", 96, "--seconds", 0.05, "--live-seconds", 0.5),
        *("--device", "cpu", "--threads", 1, "--json", tmp_path / "b.json"),
        *("--markdown", tmp_path / "b.md"),
    )
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "b.json").read_text("utf-8"))
    stages = [row["stage"] for row in content["rows"]]
    for start in ("identification: s", "identification: n", "deblurring: one"):
        assert any(stage.startswith(start) for stage in stages), start
    for row in content["rows"]:
        assert len(row["runs_ms"]) >= 3
        assert row["p99_ms"] >= row["p50_ms"] > 0
    # Torch's network, and its float32 reference where that is another.
    executors = {row["executor"] for row in content["rows"]}
    assert "torch, float32" in executors
    assert content["machine"]["threads"] == 1
    text = (tmp_path / "b.md").read_text("utf-8")
    assert text in done.stdout
    assert len([line for line in text.splitlines() if line.startswith("| ")]) == (
        len(stages) + 2
    )
