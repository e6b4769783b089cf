"""The benchmark: what it counts, how it times, and that it runs as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from deepblur_live.deblurring import UnrolledFista
from deepblur_live.identification import INPUT_SHAPE, IdentificationNet
from deepblur_live.optics import ZernikeFamily
from deepblur_live.runtime.executor import TorchExecutor
from deepblur_live.runtime.graph_executor import GraphExecutor
from deepblur_live.runtime.pack import load_pack
from deepblur_live.runtime.tensorrt import EngineError

TOOLS = Path(__file__).parent.parent.parent / "tools"
FAMILY = ZernikeFamily()


@pytest.fixture(autouse=True)
def tools(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)


def counted(run):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    return counter.get_total_flops()


def test_operations_are_those_that_torch_counts():
    from benchmarking.floor import network_costs, proximal_costs

    identification = IdentificationNet(FAMILY.even.tolist()).eval()
    shape = (1, 2, *INPUT_SHAPE)
    costs = network_costs(identification, shape, torch.float32)
    flop = counted(lambda: identification(torch.zeros(shape)))
    assert sum(cost.flop for cost in costs) == flop
    # A ResNet18 has 11 million weights, and each is read.
    assert sum(cost.moved for cost in costs) > 4 * 11e6
    proximal = UnrolledFista(channels=8).proximal
    layers = nn.Sequential(*proximal.layers)
    flop = counted(lambda: layers(torch.zeros(1, 4, 20, 30)))
    *convolutions, around = proximal_costs(proximal, (40, 60), torch.bfloat16)
    assert sum(cost.flop for cost in convolutions) == flop
    # 600 folded pixels of 4 + 8 features, 8·4·9 weights, two bytes each.
    assert convolutions[0].moved == 2 * (600 * (4 + 8) + 8 * 4 * 9)
    # The image: read, written narrow; read with the narrow change, written.
    assert around.moved == 2400 * (4 + 2 + 4 + 2 + 4)


def test_the_floor_takes_the_slower_of_arithmetic_and_memory():
    from benchmarking.floor import Cost, Peaks, floor_ms, frame_costs, gradient_costs

    peaks = Peaks({torch.float32: 1e9, torch.bfloat16: 2e9}, 1e8)
    parts = [Cost(1e6, 1e4), Cost(1e3, 1e6), Cost(4e6, 0, torch.bfloat16)]
    assert floor_ms(parts, peaks) == pytest.approx(1 + 10 + 2)
    network = UnrolledFista(iterations=3, channels=8)
    one = floor_ms(gradient_costs((40, 60)), peaks)
    assert floor_ms(frame_costs(network, (40, 60), torch.bfloat16), peaks) > 3 * one


def test_a_frame_costs_more_than_its_iterations():
    """The OTF, the right side and the exact data step: six FFTs, counted once."""
    from benchmarking.floor import Peaks, floor_ms, frame_costs

    networks = [UnrolledFista(iterations=n, channels=8) for n in (1, 3)]
    # So slow a memory that only it counts.
    peaks = Peaks({torch.float32: 1e30, torch.bfloat16: 1e30}, 1e9)
    one, three = (
        floor_ms(frame_costs(network, (40, 60), torch.bfloat16), peaks)
        for network in networks
    )
    once = one - (three - one) / 2
    # Each FFT reads and writes the image twice, 4 bytes a pixel; between them three
    # products and two images' worth of steps, 12 bytes a pixel each.
    assert once == pytest.approx((6 * 16 + 5 * 12) * 2400 / 1e9 * 1e3)
    # An exact step instead of a gradient step is two FFTs more, and has no momentum.
    network = UnrolledFista(iterations=3, channels=8, exact=1)
    more = floor_ms(frame_costs(network, (40, 60), torch.bfloat16), peaks) - three
    between = 4 * 12 - (14 + 12 + 12)
    assert more == pytest.approx((2 * 16 + between) * 2400 / 1e9 * 1e3)


def test_works_take_turns_and_what_comes_before_does_not_count():
    from benchmarking.clock import Clock

    said = []
    clock = Clock(torch.device("cpu"), seconds=0, least=3, warm_up=1)
    timings = clock.together(
        {"a": lambda: said.append("a"), "b": lambda: said.append("b")},
        before=lambda: said.append("-"),
    )
    assert "".join(said) == "-a-b" * 4
    assert {name: len(timing.runs) for name, timing in timings.items()} == {
        "a": 3,
        "b": 3,
    }


def test_a_timing_tells_its_middle_and_its_tail():
    from benchmarking.clock import Timing

    timing = Timing(tuple(float(ms) for ms in range(1, 102)))
    assert (timing.best, timing.mean, timing.p50, timing.p99) == (1, 51, 51, 100)


def test_goals_and_ratios_are_told_as_they_are():
    from benchmarking.clock import Timing
    from benchmarking.floor import Peaks
    from benchmarking.report import as_json, as_markdown, machine
    from benchmarking.stages import DEBLUR, LIVE, PEER, Row

    def rows(live):
        return [
            Row(DEBLUR, 512, "torch", Timing((100.0,)), 50.0),
            Row(PEER, 512, "peer", Timing((300.0,))),
            Row(LIVE, 512, "torch", Timing((live,))),
        ]

    here = machine(torch.device("cpu"), {512: Peaks({torch.float32: 2e11}, 3e10)})
    text = as_markdown(here, rows(200.0))
    assert "Goal of 250 ms a live frame: met" in text
    assert "300 ms, 3.00 times the deblurring, 1.50 times the live frame" in text
    assert "| 50 | 2.0 |" in text
    assert "200 GFLOP/s float32" in text
    assert "Torch convolves in " in text.partition("\n")[0]
    assert "missed" in as_markdown(here, rows(251.0))
    content = json.loads(json.dumps(as_json(here, rows(200.0))))
    assert content["rows"][0]["floor_ms"] == 50
    assert content["machine"]["peaks"]["512"]["bytes_per_s"] == 3e10


def test_a_card_that_is_fast_but_uneven_misses_its_goal():
    from benchmarking.clock import Timing
    from benchmarking.floor import Peaks
    from benchmarking.report import Machine, as_markdown
    from benchmarking.stages import LIVE, Row

    peaks = {2048: Peaks({torch.bfloat16: 1e14}, 3e12)}
    card = Machine("CPU", 16, 15, "a card", "3.12", "2.11", "Linux", peaks)
    even = Row(LIVE, 2048, "torch", Timing((8.0,) * 200))
    uneven = Row(LIVE, 2048, "torch", Timing((8.0,) * 190 + (40.0,) * 10))
    told = "Goal of 100 a second: met; of p99 under 20 ms: "
    assert told + "met" in as_markdown(card, [even])
    assert told + "missed" in as_markdown(card, [uneven])


def test_a_stream_is_told_by_its_rate_and_its_latency():
    from benchmarking.clock import Timing
    from benchmarking.floor import Peaks
    from benchmarking.report import Machine, as_markdown
    from benchmarking.stages import Row
    from benchmarking.stream import LATENCY, STREAM

    peaks = {2048: Peaks({torch.bfloat16: 1e14}, 3e12)}
    card = Machine("CPU", 16, 15, "a card", "3.12", "2.11", "Linux", peaks)
    rows = [
        Row(STREAM, 2048, "torch", Timing((8.0,) * 50)),
        Row(LATENCY, 2048, "torch", Timing((24.0,) * 50)),
    ]
    text = as_markdown(card, rows)
    assert "8 ms a frame (125 a second)" in text
    assert "Goal of 100 a second: met; of p99 under 20 ms: missed" in text


def test_live_frames_are_timed_without_a_pause_between_them():
    """A card's executor on the processor: the same steps, without an overlap."""
    from benchmarking.executors import Candidate
    from benchmarking.floor import Peaks
    from benchmarking.stream import LATENCY, STREAM, stream_rows
    from benchmarking.workload import Workload

    pack = load_pack("zernike7")
    executor = GraphExecutor(pack, FAMILY, torch.device("cpu"), half=False)
    candidate = Candidate("it", executor, pack, torch.float32)
    peaks = Peaks({torch.float32: 1e14}, 3e12)
    interval, latency = stream_rows(Workload(96, FAMILY), FAMILY, candidate, 0.0, peaks)
    assert (interval.stage, latency.stage) == (STREAM, LATENCY)
    assert len(interval.timing.runs) == len(latency.timing.runs) >= 50
    assert interval.floor_ms > 0
    # Each waits for the next one's beginning.
    assert latency.timing.mean > interval.timing.mean > 0


def test_a_network_that_cannot_be_compiled_is_left_out(monkeypatch):
    from benchmarking import executors

    cpu = torch.device("cpu")
    compiled = executors._graph("zernike7", FAMILY, cpu, True)
    monkeypatch.setattr(compiled.executor, "deblur", lambda *_: 1 / 0)
    with pytest.raises(EngineError, match=r"could not compile .*division by zero"):
        compiled.prepare((64, 64))
    plain = executors._graph("zernike7", FAMILY, cpu, False)
    plain.prepare((64, 64))
    assert {compiled.name, plain.name} == {
        "torch, compiled, CUDA graph",
        "torch, CUDA graph",
    }


class Engines(TorchExecutor):
    """Engines that are none: they must be prepared, and one kind of them fails."""

    prepared = False

    def prepare(self, shape):
        if self.fault:
            raise EngineError(self.fault)
        self.prepared = True

    def answer(self, inputs):
        assert self.prepared
        return super().answer(inputs)


def test_engines_are_prepared_before_anything_is_timed_and_left_out_where_they_fail(
    monkeypatch, capsys
):
    import benchmark as tool
    from benchmarking.executors import Candidate

    def engines(name, fault=""):
        pack = load_pack("zernike7")
        executor = Engines(pack, FAMILY, torch.device("cpu"), half=False)
        executor.fault = fault
        return Candidate(name, executor, pack, torch.float32, executor.prepare)

    found = [engines("first", "differs from torch"), engines("second"), engines("slow")]
    monkeypatch.setattr(tool, "candidates", lambda *_: (found, ["none: no card"]))
    monkeypatch.setattr(
        sys,
        "argv",
        "benchmark --quick --sides 96 128 --seconds 0 --live-seconds 0.01".split(),
    )
    tool.main()
    told = capsys.readouterr().out
    assert "left out: none: no card" in told
    assert "left out: first: differs from torch" in told
    for line in ("96², second", "96², slow", "128², second"):
        assert line in told
    # Quick: the slower are told apart by one size. What failed is not tried again.
    assert "128², slow" not in told
    # At once, and in the report.
    assert told.count("left out: first") == 2


def test_what_fails_takes_no_other_figures_with_it(monkeypatch, tmp_path):
    import benchmark as tool
    from benchmarking.executors import Candidate

    class Broken(TorchExecutor):
        def deblur(self, *arguments):
            raise EngineError("the engine did not run; out of memory")

    pack = load_pack("zernike7")
    cpu = torch.device("cpu")
    found = [
        Candidate(name, kind(pack, FAMILY, cpu, half=False), pack, torch.float32)
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


def test_a_folder_that_is_not_there_is_told_before_anything_is_measured(tmp_path):
    done = benchmark("--sides", 64, "--json", tmp_path / "no" / "b.json")
    assert done.returncode == 2
    assert "there is no such folder" in done.stderr


def benchmark(*arguments):
    command = [sys.executable, str(TOOLS / "benchmark.py"), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=240, check=False
    )


def test_it_measures_every_stage_beside_the_peer(tmp_path):
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
        if row["floor_ms"] is not None:
            assert row["floor_ms"] > 0
    # Torch's network, and its float32 reference where that is another.
    executors = {row["executor"] for row in content["rows"]}
    assert "torch, float32" in executors
    assert content["machine"]["threads"] == 1
    text = (tmp_path / "b.md").read_text("utf-8")
    assert text in done.stdout
    assert len([line for line in text.splitlines() if line.startswith("| ")]) == (
        len(stages) + 2
    )


def test_frames_too_small_are_refused_at_once():
    done = benchmark("--sides", 32)
    assert done.returncode == 2
    assert "--sides 32: frames have at least 64 × 64 pixels" in done.stderr
