"""Measure a model on held-out pictures and compare it with classical methods.

python tools/evaluate.py --data FOLDER [--quick] [--only SECTION ...] [--write]
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from deepblur_live.runtime.pack import find_packs, load_manifest

if TYPE_CHECKING:
    from evaluation.table import Row
from evaluation import pictures, publish
from evaluation.case import BLURS, Case, Plan, Spec
from evaluation.held_out import held_out_pictures
from evaluation.parallel import parallel
from evaluation.sections import SECTIONS
from training.pictures import one_line_errors

SIGMAS = (0.001, 0.01, 0.03, 0.05)
QUICK_SIGMAS = (0.01, 0.05)
PICTURE = Path("docs/images/evaluation.png")

# One frame, and the sections that measure it.
Task = tuple[Spec, list[str], str]


def work(tasks: list[Task]) -> list[tuple[str, Row, float]]:
    """Return section, row and seconds of each frame and section, in a worker process.

    The time of what sections share counts for the first of them.
    """
    torch.set_num_threads(1)
    rows = []
    for spec, names, model in tasks:
        case = Case(spec, model)
        about: Row = {"kind": spec.kind, "file": spec.path.name, "sigma": spec.sigma}
        for name in names:
            began = time.perf_counter()
            row = about | SECTIONS[name].score(case)
            rows.append((name, row, time.perf_counter() - began))
    return rows


def measure(
    names: list[str], plan: Plan, jobs: int
) -> tuple[dict[str, list[Row]], dict[str, float]]:
    """Return each section's rows, ordered by kind and noise, and its core seconds."""
    wanted: dict[Spec, list[str]] = {}
    for name in names:
        for spec in SECTIONS[name].specs(plan):
            wanted.setdefault(spec, []).append(name)
    # The frames of one picture go to one worker, which reads the picture once; those of
    # one family follow each other, as its tables are costly.
    tasks = [(spec, sections, plan.model) for spec, sections in wanted.items()]
    parts = [
        list(part)
        for _, part in itertools.groupby(
            tasks, lambda t: (t[0].path, t[0].number, t[0].optics)
        )
    ]
    rows: dict[str, list[Row]] = {name: [] for name in names}
    seconds = dict.fromkeys(names, 0.0)
    for part in parallel(work, parts, jobs, "blurred pictures"):
        for name, row, took in part:
            rows[name].append(row)
            seconds[name] += took
    for found in rows.values():
        kinds = list(dict.fromkeys(row["kind"] for row in found))
        found.sort(key=lambda row: (kinds.index(row["kind"]), row["sigma"]))
    return rows, seconds


def options() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="with MANIFEST.csv")
    parser.add_argument("--model", default="zernike7", help="its name, or a folder")
    parser.add_argument(
        "--only", nargs="+", choices=[*SECTIONS, "pictures"], help="these sections"
    )
    parser.add_argument(
        "--weights",
        type=Path,
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="further deblurring networks, from tools/train_deblurring.py: columns of "
        "deblurring-realism",
    )
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument("--sigmas", type=float, nargs="+", help="noise of [0, 1]")
    parser.add_argument("--quick", action="store_true", help="a few pictures, one blur")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures of every frame")
    parser.add_argument(
        "--pictures",
        type=Path,
        metavar="FILE",
        help=f"draw into this file; by default {PICTURE} with --write, else none",
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="publish in the model's manifest and model card (its README.md)",
    )
    chosen = parser.parse_args()
    if chosen.write and chosen.pictures is None:
        chosen.pictures = PICTURE
    if "pictures" in (chosen.only or ()) and chosen.pictures is None:
        parser.error("--only pictures: give the file to draw into, --pictures FILE")
    chosen.only = chosen.only or [*SECTIONS, "pictures"]
    chosen.folder = find_packs().get(chosen.model, Path(chosen.model))
    if chosen.write:
        if chosen.quick or chosen.sigmas or chosen.weights or chosen.split != "test":
            parser.error(
                "--write publishes the whole table: leave --quick, --sigmas, --weights "
                "and --split out"
            )
        names = [n for n in chosen.only if n in SECTIONS]
        if error := publish.missing_marks(chosen.folder / "README.md", names):
            parser.error(error)
    return chosen


@one_line_errors()
def main() -> None:
    """Evaluate, print, and write if asked."""
    asked = options()
    torch.set_num_threads(1)
    began = time.monotonic()
    found = held_out_pictures(asked.data, asked.split)
    if asked.quick:
        found = {kind: paths[1::7] for kind, paths in found.items()}
    sigmas = tuple(asked.sigmas or (QUICK_SIGMAS if asked.quick else SIGMAS))
    blurs = 1 if asked.quick else BLURS
    plan = Plan(found, sigmas, blurs, asked.model, tuple(asked.weights))
    names = [name for name in asked.only if name in SECTIONS]
    rows, seconds = measure(names, plan, asked.jobs)
    summaries = {name: SECTIONS[name].summarise(rows[name]) for name in names}
    tables = {name: SECTIONS[name].table(summaries[name]) for name in names}
    for name, table in tables.items():
        took = f"{len(rows[name])} frames, {seconds[name]:.0f} s of one core"
        print(f"\n{name}: {took}\n\n{table}")
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    if "pictures" in asked.only and asked.pictures is not None:
        pictures.draw_examples(plan, asked.pictures)
        print(f"\n{asked.pictures}")
        if "coverage" in rows:
            curve = asked.pictures.with_stem(f"{asked.pictures.stem}_coverage")
            errors = load_manifest(asked.model)[1].error_model
            pictures.draw_coverage(rows["coverage"], errors, curve)
            print(curve)
    if asked.write:
        publish.into_manifest(asked.folder / "manifest.json", summaries)
        publish.into_page(asked.folder / "README.md", tables)
    print(f"\n{(time.monotonic() - began) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
