"""Measure a model on held-out pictures, beside trivial and classical methods.

python tools/evaluate.py --data FOLDER [--quick] [--only SECTION ...] [--write]
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from evaluation import (
    baselines,
    borders,
    coverage,
    deblurring,
    identification,
    modes,
    near_zero,
    over_time,
    pictures,
    publish,
    refusals,
    sampling,
)
from evaluation.case import Case, Spec
from evaluation.plan import Plan
from evaluation.section import BLURS, Row, Section
from held_out import held_out_pictures
from training_data import told_in_one_line

from deepblur_live.runtime.pack import find_packs

SECTIONS = {
    module.SECTION.name: module.SECTION
    for module in (
        identification,
        over_time,
        coverage,
        refusals,
        sampling,
        modes,
        near_zero,
        deblurring,
        borders,
        baselines,
    )
}
SIGMAS = (0.001, 0.01, 0.03, 0.05)
QUICK_SIGMAS = (0.01, 0.05)
README = Path("README.md")
PICTURES = Path("tools/evaluation.png")

# One frame's share of the work: the sections that want it.
Task = tuple[Spec, tuple[str, ...], str]


def work(tasks: list[Task]) -> list[tuple[str, Row, float]]:
    """Return section, row and seconds of each frame and section, in a worker process.

    What sections share of a frame counts for the first of them.
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
    sections: list[Section], plan: Plan, jobs: int
) -> tuple[dict[str, list[Row]], dict[str, float]]:
    """Return each section's rows, ordered by kind and noise, and its core seconds."""
    wanted: dict[Spec, list[str]] = {}
    for section in sections:
        for spec in section.specs(plan):
            wanted.setdefault(spec, []).append(section.name)
    # One picture's frames go to one worker, which reads the picture once; those of one
    # optics follow each other, as its tables are costly.
    tasks = [(spec, tuple(names), plan.model) for spec, names in wanted.items()]
    parts = [
        list(part)
        for _, part in itertools.groupby(
            tasks, lambda t: (t[0].path, t[0].number, t[0].optics)
        )
    ]
    rows: dict[str, list[Row]] = {section.name: [] for section in sections}
    seconds = dict.fromkeys(rows, 0.0)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, spawn) as pool:
        for done, part in enumerate(pool.map(work, parts), 1):
            for name, row, took in part:
                rows[name].append(row)
                seconds[name] += took
            print(f"\r{done} of {len(parts)} blurred pictures", end="", flush=True)
    print()
    for found in rows.values():
        kinds = list(dict.fromkeys(row["kind"] for row in found))
        found.sort(key=lambda r: (kinds.index(r["kind"]), r["sigma"]))
    return rows, seconds


def options() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="with MANIFEST.csv")
    parser.add_argument("--model", default="zernike7", help="its name, or a folder")
    parser.add_argument(
        "--only", nargs="+", choices=[*SECTIONS, "pictures"], help="these sections"
    )
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument("--sigmas", type=float, nargs="+", help="noise of [0, 1]")
    parser.add_argument("--quick", action="store_true", help="a few pictures, one blur")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path, help="every frame's figures")
    parser.add_argument(
        "--pictures",
        type=Path,
        metavar="FILE",
        help=f"drawn into; with --write {PICTURES}, otherwise none are drawn",
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="into the manifest, the README and the pictures",
    )
    chosen = parser.parse_args()
    if chosen.write and chosen.pictures is None:
        chosen.pictures = PICTURES
    if "pictures" in (chosen.only or ()) and chosen.pictures is None:
        parser.error("--only pictures: say where to, --pictures FILE")
    chosen.only = chosen.only or [*SECTIONS, "pictures"]
    if chosen.write:
        if chosen.quick or chosen.sigmas or chosen.split != "test":
            parser.error(
                "--write publishes the whole table: leave --quick, --sigmas and "
                "--split out"
            )
        names = [n for n in chosen.only if n in SECTIONS]
        missing = publish.missing_places(README, names)
        if missing:
            name = missing[0]
            parser.error(
                f"{README} has no place for {', '.join(missing)}: add a line "
                f"<!-- {name} --> and a line <!-- /{name} -->"
            )
    return chosen


@told_in_one_line()
def main() -> None:
    """Evaluate, print, and write if asked."""
    asked = options()
    torch.set_num_threads(1)
    began = time.monotonic()
    found = held_out_pictures(asked.data, asked.split)
    if asked.quick:
        found = {kind: paths[1::7] for kind, paths in found.items()}
    sigmas = tuple(asked.sigmas or (QUICK_SIGMAS if asked.quick else SIGMAS))
    plan = Plan(found, sigmas, 1 if asked.quick else BLURS, asked.model)
    sections = [SECTIONS[name] for name in asked.only if name in SECTIONS]
    rows, seconds = measure(sections, plan, asked.jobs)
    summaries = {s.name: s.summarise(rows[s.name]) for s in sections}
    tables = {s.name: s.table(summaries[s.name]) for s in sections}
    for name, table in tables.items():
        took = f"{len(rows[name])} frames, {seconds[name]:.0f} s of one core"
        print(f"\n{name}: {took}\n\n{table}")
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    if "pictures" in asked.only and asked.pictures is not None:
        pictures.draw(pictures.chosen(plan), asked.model, asked.pictures)
        print(f"\n{asked.pictures}")
        if "coverage" in rows:
            curve = asked.pictures.with_stem(f"{asked.pictures.stem}_coverage")
            coverage.draw(rows["coverage"], curve)
            print(curve)
    if asked.write:
        folder = find_packs().get(asked.model, Path(asked.model))
        publish.into_manifest(folder / "manifest.json", summaries)
        publish.into_readme(README, tables)
    print(f"\n{(time.monotonic() - began) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
