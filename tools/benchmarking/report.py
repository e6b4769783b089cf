"""The benchmark's figures as a Markdown table and as JSON."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from benchmarking.stages import (
    DEBLUR,
    LIVE,
    PEER,
    PEER_SINGLE,
    PEER_THREADS,
    Row,
)
from benchmarking.stream import LATENCY, STREAM
from deepblur_live.runtime.device import choose_precision

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarking.floor import Peaks

__all__ = ["Machine", "as_json", "as_markdown", "machine"]

# By side: a frame in so many ms on two cores; on a card so many frames a second, and
# the 99th percentile within two of them.
_CPU_GOALS_MS = {256: 70.0, 512: 250.0}
_CARD_GOALS = {512: 1000.0, 2048: 100.0}


@dataclass(frozen=True)
class Machine:
    """Where the figures come from.

    Parameters
    ----------
    processor, cores, threads
        The CPU, how many cores the system shows, and how many threads torch was given.
    card
        The graphics card, empty on the CPU.
    python, torch, system
        Versions.
    peaks
        Measured, by the frames' side.
    precision
        What convolutions are computed in where torch has the choice, and why.
    """

    processor: str
    cores: int
    threads: int
    card: str
    python: str
    torch: str
    system: str
    peaks: Mapping[int, Peaks]
    precision: str = ""

    @property
    def text(self) -> str:
        """One line for a person."""
        cpu = f"{self.processor}, {self.threads} of {self.cores} cores"
        flops = ", ".join(
            f"{rate / 1e9:,.0f} GFLOP/s {plain(dtype)}"
            for dtype, rate in next(iter(self.peaks.values())).flops.items()
        )
        copies = ", ".join(
            f"{peaks.bandwidth / 1e9:,.0f} GB/s at {side}²"
            for side, peaks in self.peaks.items()
        )
        where = f"{self.card} beside {cpu}" if self.card else cpu
        return (
            f"{where}; torch {self.torch}, Python {self.python}, {self.system}. "
            f"Measured peaks: matrix product {flops}; copy {copies}. {self.precision}"
        )


def machine(device: torch.device, peaks: Mapping[int, Peaks]) -> Machine:
    """Describe this machine."""
    dtype, why = choose_precision(device)
    return Machine(
        _processor(),
        os.cpu_count() or 1,
        torch.get_num_threads(),
        torch.cuda.get_device_name(device) if device.type == "cuda" else "",
        platform.python_version(),
        torch.__version__,
        platform.system(),
        peaks,
        f"Torch convolves in {plain(dtype)}: {why}.",
    )


def _processor() -> str:
    """Return the CPU's name, which Python itself tells on Windows and macOS alone."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name} ({torch.backends.cpu.get_cpu_capability()})"


def as_markdown(
    here: Machine, rows: Sequence[Row], left_out: Sequence[str] = ()
) -> str:
    """Return the tables, the goals in words, and what was not measured."""
    lines = [
        here.text,
        "",
        "| stage | side | executor | mean, ms | p50, ms | p99, ms | runs | floor, "
        "ms | p50 over floor |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        floor = ratio = ""
        if row.floor_ms is not None:
            floor = _number(row.floor_ms)
            ratio = f"{row.timing.p50 / row.floor_ms:.1f}"
        lines.append(
            f"| {row.stage} | {row.side} | {row.executor} "
            f"| {_number(row.timing.mean)} | {_number(row.timing.p50)} "
            f"| {_number(row.timing.p99)} | {len(row.timing.runs)} | {floor} "
            f"| {ratio} |"
        )
    texts = [*_verdicts(here, rows), *(f"left out: {reason}" for reason in left_out)]
    return "\n".join([*lines, "", *(f"- {text}" for text in texts)])


def _verdicts(here: Machine, rows: Sequence[Row]) -> list[str]:
    """Return what the figures say of the goals and of the peer."""
    texts = []
    # A candidate's rows follow one another, its live and streamed frames last.
    deblurring, peers, period = 0.0, dict[str, float](), 0.0
    for row in rows:
        mean, p99 = row.timing.mean, row.timing.p99
        if row.stage == DEBLUR:
            deblurring, peers = mean, {}
        elif row.stage in (PEER, PEER_SINGLE, PEER_THREADS):
            peers[row.stage] = mean
        elif row.stage == LIVE:
            text = (
                f"{row.side}², {row.executor}: deblurring takes {_number(deblurring)} "
                f"ms; a live frame, its share of identification included, "
                f"{_number(mean)} ms ({1e3 / mean:.3g} a second), "
                f"p99 {_number(p99)} ms."
            )
            if here.card:
                text += _card_goal(row.side, mean, p99)
            elif row.side in _CPU_GOALS_MS:
                goal = _CPU_GOALS_MS[row.side]
                text += f" Goal of {goal:.0f} ms a live frame: {_met(mean < goal)}."
            for stage, peer in peers.items():
                text += (
                    f" {stage}: {_number(peer)} ms, {peer / deblurring:.2f} times the "
                    f"deblurring, {peer / mean:.2f} times the live frame."
                )
            texts.append(text)
        elif row.stage == STREAM:
            period = mean
        elif row.stage == LATENCY:
            text = (
                f"{row.side}², {row.executor}, live, each begun before the last is "
                f"down: {_number(period)} ms a frame ({1e3 / period:.3g} a second), "
                f"one's way from end to end {_number(p99)} ms at the 99th percentile."
            )
            if here.card:
                text += _card_goal(row.side, period, p99)
            texts.append(text)
    return texts


def _card_goal(side: int, mean: float, p99: float) -> str:
    rate = _CARD_GOALS.get(side)
    if rate is None:
        return ""
    latest = 2e3 / rate
    return (
        f" Goal of {rate:.0f} a second: {_met(mean < 1e3 / rate)}; of p99 under "
        f"{latest:.0f} ms: {_met(p99 < latest)}."
    )


def _met(goal: bool) -> str:
    return "met" if goal else "missed"


def as_json(
    here: Machine, rows: Sequence[Row], left_out: Sequence[str] = ()
) -> dict[str, object]:
    """Return all figures, every run's time included, as JSON can hold them."""
    return {
        "machine": {
            "processor": here.processor,
            "cores": here.cores,
            "threads": here.threads,
            "card": here.card,
            "python": here.python,
            "torch": here.torch,
            "system": here.system,
            "precision": here.precision,
            "peaks": {
                side: {
                    "bytes_per_s": peaks.bandwidth,
                    "flops": {plain(d): rate for d, rate in peaks.flops.items()},
                }
                for side, peaks in here.peaks.items()
            },
        },
        "rows": [
            {
                "stage": row.stage,
                "side": row.side,
                "executor": row.executor,
                "mean_ms": row.timing.mean,
                "p50_ms": row.timing.p50,
                "p99_ms": row.timing.p99,
                "floor_ms": row.floor_ms,
                "runs_ms": [round(run, 4) for run in row.timing.runs],
            }
            for row in rows
        ],
        "left_out": list(left_out),
    }


def plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _number(value: float) -> str:
    """Return a time with three figures that count."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
