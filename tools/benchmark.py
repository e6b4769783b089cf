"""Measure how fast a model runs here, stage by stage, next to scikit-image.

python tools/benchmark.py [--quick] [--json FILE] [--markdown FILE] [--write]

On a machine with an NVIDIA card the same command measures the card.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarking.clock import Clock
from benchmarking.executors import Candidate, candidates
from benchmarking.report import as_json, as_markdown, machine
from benchmarking.stages import Row, executor_rows, shared_rows, stream_rows
from benchmarking.workload import Workload
from evaluation.publish import into_page, missing_marks

from deepblur_live.blur import family_from_profile
from deepblur_live.profile import Profile
from deepblur_live.runtime.device import tune_process

if TYPE_CHECKING:
    from collections.abc import Iterator

SIDES, QUICK_SIDES = (256, 512, 1024, 2048), (256, 512, 1024)
SECONDS, QUICK_SECONDS = 4.0, 0.8
LIVE, QUICK_LIVE = 20.0, 12.0
PAGE = Path("docs/speed.md")


def options() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="zernike7", help="a name, or a folder")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--sides", type=int, nargs="+", help="of the frames, pixels")
    parser.add_argument("--threads", type=int, help="default: one less than cores")
    parser.add_argument("--seconds", type=float, help="for each figure")
    parser.add_argument("--live-seconds", type=float, help="for live frames")
    parser.add_argument("--quick", action="store_true", help="under three minutes")
    parser.add_argument("--json", type=Path, help="write the time of every run here")
    parser.add_argument("--markdown", type=Path, help="write the table here")
    parser.add_argument("--write", action="store_true", help=f"publish in {PAGE}")
    chosen = parser.parse_args()
    quick = chosen.quick
    chosen.sides = chosen.sides or (QUICK_SIDES if quick else SIDES)
    chosen.seconds = chosen.seconds or (QUICK_SECONDS if quick else SECONDS)
    chosen.live_seconds = chosen.live_seconds or (QUICK_LIVE if quick else LIVE)
    if min(chosen.sides) < 64:
        parser.error(
            f"--sides {min(chosen.sides)}: frames have at least 64 × 64 pixels"
        )
    for name, path in (("--json", chosen.json), ("--markdown", chosen.markdown)):
        if path is not None and not path.absolute().parent.is_dir():
            parser.error(f"{name} {path}: there is no such folder")
    if chosen.write and (error := missing_marks(PAGE, ["benchmark"])):
        parser.error(error)
    return chosen


def main() -> None:
    """Measure, print, and write if asked."""
    asked = options()
    began = time.monotonic()
    tune_process(asked.threads)
    family = family_from_profile(Profile())
    found, lacking = candidates(asked.model, family, asked.device)
    left = LeftOut(lacking)
    device = found[0].executor.device
    clock = Clock(device, asked.seconds, least=3 if asked.quick else 5)
    # Every ten seconds an identification searches again and takes five times as long.
    long = replace(clock, seconds=asked.live_seconds, most=100_000)
    here = machine(device)
    rows: list[Row] = []
    for side in asked.sides:
        work = Workload(side, family)
        # One size is enough to rank the slower executors.
        most = 1 if asked.quick and side != asked.sides[0] else None
        found = ready(found, side, most, left)
        name = f"{side}², shared stages"
        rows += left.unless(name, shared_rows(work, family, found[0], clock, long))
        for candidate in found:
            name = f"{side}², {candidate.name}"
            print(f"{name} …", flush=True)
            timed = executor_rows(work, family, candidate, clock, long)
            rows += left.unless(name, timed)
            if device.type == "cuda":
                # On a CPU nothing is gained by overlapping frames.
                streamed = stream_rows(work, family, candidate, asked.seconds)
                rows += left.unless(name, streamed)
        # Written after each size: a later one that fails loses nothing.
        text = as_markdown(here, rows, left.reasons)
        if asked.markdown:
            asked.markdown.write_text(text + "\n", "utf-8")
        if asked.json:
            content = json.dumps(as_json(here, rows, left.reasons), indent=1)
            asked.json.write_text(content, "utf-8")
    print(f"\n{text}\n\n{(time.monotonic() - began) / 60:.1f} minutes")
    if not rows:
        raise SystemExit("nothing could be measured")
    if asked.write:
        into_page(PAGE, {"benchmark": text})


class LeftOut:
    """What could not be measured: reported at once, and kept for the report.

    Parameters
    ----------
    reasons
        Those known beforehand.
    """

    def __init__(self, reasons: list[str]) -> None:
        self.reasons: list[str] = []
        for reason in reasons:
            self.add(reason)

    def add(self, reason: str) -> None:
        """Report and keep a reason."""
        print(f"left out: {reason}", flush=True)
        self.reasons.append(reason)

    def unless(self, name: str, rows: Iterator[Row]) -> Iterator[Row]:
        """Yield rows until one fails; the others are left out."""
        try:
            yield from rows
        except RuntimeError as error:
            self.add(f"{name}: {error}")


def ready(
    found: list[Candidate], side: int, most: int | None, left: LeftOut
) -> list[Candidate]:
    """Return the first `most` candidates that serve frames of a side.

    Torch, which is among them, always does.
    """
    serving: list[Candidate] = []
    for candidate in found:
        if len(serving) == most:
            break
        try:
            candidate.prepare((side, side))
        except RuntimeError as error:  # also when the card's memory is full
            left.add(f"{candidate.name}: {error}")
        else:
            serving.append(candidate)
    return serving


if __name__ == "__main__":
    main()
