"""The benchmark's figures as a Markdown table and as JSON."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from evaluation.table import markdown

from benchmarking.stages import DEBLUR, LATENCY, LIVE, PEERS, STREAM, Row
from deepblur_live.runtime.device import choose_precision

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["as_json", "as_markdown", "machine"]

# By side: milliseconds a frame on two cores; frames per second on a card, whose 99th
# percentile is to stay within two of them.
_CPU_GOALS_MS = {256: 70.0, 512: 250.0}
_CARD_GOALS = {512: 1000.0, 2048: 100.0}
# Largest ratio of the 99th percentile to the median of live frames on a CPU.
_EVENNESS = 1.5


def machine(device: torch.device) -> dict[str, object]:
    """Describe this machine; ``card`` is empty on the CPU."""
    dtype, why = choose_precision(device)
    return {
        "card": torch.cuda.get_device_name(device) if device.type == "cuda" else "",
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count() or 1,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "precision": f"{str(dtype).removeprefix('torch.')}: {why}",
    }


def _processor() -> str:
    """Return the CPU's name, which Python itself knows on Windows and macOS alone."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name} ({torch.backends.cpu.get_cpu_capability()})"


def as_markdown(
    here: dict[str, object], rows: Sequence[Row], left_out: Sequence[str] = ()
) -> str:
    """Return the table, the goals in words, and what was not measured."""
    head = ["stage", "side", "executor", "mean, ms", "p50, ms", "p99, ms", "runs"]
    lines = []
    for row in rows:
        times = (row.timing.mean, row.timing.p50, row.timing.p99)
        runs = str(len(row.timing.runs))
        lines.append(
            [row.stage, str(row.side), row.executor, *map(_number, times), runs]
        )
    about = ", ".join(f"{name} {value}" for name, value in here.items() if value)
    texts = [
        *_verdicts(bool(here["card"]), rows),
        *(f"left out: {reason}" for reason in left_out),
    ]
    points = "\n".join(f"- {text}" for text in texts)
    return f"{about}\n\n{markdown(head, lines)}\n\n{points}"


def _verdicts(card: bool, rows: Sequence[Row]) -> list[str]:
    """Compare the figures with the goals and with the peer."""
    texts = []
    # A candidate's rows follow one another, its live and overlapping frames last.
    deblurring, peers, interval = 0.0, dict[str, float](), 0.0
    for row in rows:
        mean, p99 = row.timing.mean, row.timing.p99
        where = f"{row.side}², {row.executor}"
        if row.stage == DEBLUR:
            deblurring, peers = mean, {}
        elif row.stage in PEERS:
            peers[row.stage] = mean
        elif row.stage == LIVE:
            text = (
                f"{where}: deblurring takes {_number(deblurring)} ms; a live frame, "
                f"with its share of identification, {_number(mean)} ms "
                f"({1e3 / mean:.3g} per second), p99 {_number(p99)} ms."
            )
            text += _goal(card, row.side, mean, p99)
            if not card:
                slower = p99 / row.timing.p50
                text += (
                    f" p99 is {slower:.2f} times the median; goal of "
                    f"{_EVENNESS}: {_met(slower <= _EVENNESS)}."
                )
            for stage, peer in peers.items():
                text += (
                    f" {stage}: {_number(peer)} ms, {peer / deblurring:.2f} times the "
                    f"deblurring, {peer / mean:.2f} times the live frame."
                )
            texts.append(text)
        elif row.stage == STREAM:
            interval = mean
        elif row.stage == LATENCY:
            texts.append(
                f"{where}, live, frames overlapping: {_number(interval)} ms per frame "
                f"({1e3 / interval:.3g} per second), latency {_number(p99)} ms at the "
                f"99th percentile.{_goal(card, row.side, interval, p99)}"
            )
    return texts


def _goal(card: bool, side: int, mean: float, p99: float) -> str:
    if not card:
        if (goal := _CPU_GOALS_MS.get(side)) is None:
            return ""
        return f" Goal of {goal:.0f} ms per live frame: {_met(mean < goal)}."
    if (rate := _CARD_GOALS.get(side)) is None:
        return ""
    latest = 2e3 / rate
    return (
        f" Goal of {rate:.0f} per second: {_met(mean < 1e3 / rate)}; of p99 under "
        f"{latest:.0f} ms: {_met(p99 < latest)}."
    )


def _met(goal: bool) -> str:
    return "met" if goal else "missed"


def as_json(
    here: dict[str, object], rows: Sequence[Row], left_out: Sequence[str] = ()
) -> dict[str, object]:
    """Return all figures, the time of every run included, as JSON can hold them."""
    return {
        "machine": here,
        "rows": [
            {
                "stage": row.stage,
                "side": row.side,
                "executor": row.executor,
                "mean_ms": row.timing.mean,
                "p50_ms": row.timing.p50,
                "p99_ms": row.timing.p99,
                "runs_ms": [round(run, 4) for run in row.timing.runs],
            }
            for row in rows
        ],
        "left_out": list(left_out),
    }


def _number(value: float) -> str:
    """Return a time with three significant digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
