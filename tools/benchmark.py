"""Measure how fast a model runs here, stage by stage, beside a floor and a peer.

python tools/benchmark.py [--quick] [--json FILE] [--markdown FILE]

On a machine with an NVIDIA card the same line measures the card.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from benchmarking.clock import Clock
from benchmarking.executors import Candidate, candidates
from benchmarking.floor import Peaks, measure_bandwidth, measure_flops
from benchmarking.report import as_json, as_markdown, machine
from benchmarking.stages import Clocks, Row, executor_rows, shared_rows
from benchmarking.stream import stream_rows
from benchmarking.workload import Workload

from deepblur_live.optics import ZernikeFamily
from deepblur_live.runtime.device import tune_process

if TYPE_CHECKING:
    from collections.abc import Iterator

SIDES, QUICK_SIDES = (256, 512, 1024, 2048), (256, 512, 1024)
SECONDS, QUICK_SECONDS = 4.0, 0.8
LIVE, QUICK_LIVE = 20.0, 12.0
# Sides of the matrices whose product is the peak: large, and quick on a CPU too.
MATRIX, CARD_MATRIX = 1536, 8192
# A copy is measured on as much as a layer's features: 32 of two bytes a 2 × 2 pixels.
FEATURE_BYTES = 16


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="zernike7", help="a name, or a folder")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--sides", type=int, nargs="+", help="of the frames, pixels")
    parser.add_argument("--threads", type=int, help="left out: one less than cores")
    parser.add_argument("--seconds", type=float, help="for each figure")
    parser.add_argument("--live-seconds", type=float, help="for live frames")
    parser.add_argument("--quick", action="store_true", help="under three minutes")
    parser.add_argument("--json", type=Path, help="write every run's time here")
    parser.add_argument("--markdown", type=Path, help="write the tables here")
    options = parser.parse_args()
    sides = options.sides or (QUICK_SIDES if options.quick else SIDES)
    if min(sides) < 64:
        parser.error(f"--sides {min(sides)}: frames have at least 64 × 64 pixels")
    for name, path in (("--json", options.json), ("--markdown", options.markdown)):
        if path is not None and not path.absolute().parent.is_dir():
            parser.error(f"{name} {path}: there is no such folder")
    began = time.monotonic()
    tune_process(options.threads)
    family = ZernikeFamily()
    found, lacking = candidates(options.model, family, options.device)
    left = LeftOut(lacking)
    device = found[0].executor.device
    seconds = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    patient = options.live_seconds or (QUICK_LIVE if options.quick else LIVE)
    clock = Clock(device, seconds, least=3 if options.quick else 5)
    clocks = Clocks(clock, replace(clock, seconds=patient, most=100_000))
    matrix = CARD_MATRIX if device.type == "cuda" else MATRIX
    dtypes = dict.fromkeys([*(other.dtype for other in found), torch.float32])
    flops = {dtype: measure_flops(clock, dtype, matrix) for dtype in dtypes}
    peaks: dict[int, Peaks] = {}
    rows: list[Row] = []
    for side in sides:
        work = Workload(side, family)
        peaks[side] = Peaks(flops, measure_bandwidth(clock, FEATURE_BYTES * side**2))
        # The slower ones need no more than one size to be told apart.
        most = 1 if options.quick and side != sides[0] else None
        found = ready(found, side, most, left)
        name = f"{side}², shared stages"
        rows += left.unless(name, shared_rows(work, family, found[0], clocks))
        for candidate in found:
            name = f"{side}², {candidate.name}"
            print(f"{name} …", flush=True)
            timed = executor_rows(work, family, candidate, clocks, peaks[side])
            rows += left.unless(name, timed)
            if device.type == "cuda":
                # On a CPU nothing is gained by it.
                timed = stream_rows(work, family, candidate, seconds, peaks[side])
                rows += left.unless(name, timed)
        # A later size that fails, or is broken off, takes nothing with it.
        here = machine(device, peaks)
        text = as_markdown(here, rows, left.reasons)
        if options.markdown:
            options.markdown.write_text(text + "\n", "utf-8")
        if options.json:
            content = json.dumps(as_json(here, rows, left.reasons), indent=1)
            options.json.write_text(content, "utf-8")
    print(f"\n{text}\n\n{(time.monotonic() - began) / 60:.1f} minutes")
    if not rows:
        raise SystemExit("nothing could be measured")


class LeftOut:
    """What is not measured, each said at once and kept for the report.

    Parameters
    ----------
    reasons
        Those known beforehand.
    """

    def __init__(self, reasons: list[str]) -> None:
        self.reasons: list[str] = []
        for reason in reasons:
            self.say(reason)

    def say(self, reason: str) -> None:
        """Take a reason."""
        print(f"left out: {reason}", flush=True)
        self.reasons.append(reason)

    def unless(self, name: str, rows: Iterator[Row]) -> Iterator[Row]:
        """Yield rows until one fails; what is left of them is left out."""
        try:
            yield from rows
        except RuntimeError as error:
            self.say(f"{name}: {error}")


def ready(
    found: list[Candidate], side: int, most: int | None, left: LeftOut
) -> list[Candidate]:
    """Return the first `most` that serve frames of a side; the others are told.

    Torch, which is among them, always does.
    """
    serving: list[Candidate] = []
    for candidate in found:
        if len(serving) == most:
            break
        try:
            candidate.prepare((side, side))
        except RuntimeError as error:  # of a full card too
            left.say(f"{candidate.name}: {error}")
        else:
            serving.append(candidate)
    return serving


if __name__ == "__main__":
    main()
