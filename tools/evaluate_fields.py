"""Measure how well fields are identified: blurs that vary over held-out pictures.

python tools/evaluate_fields.py --data FOLDER [--fields N] [--deblurred N] [--write]
python tools/evaluate_fields.py --data FOLDER --tiles N [--write]
python tools/evaluate_fields.py --data FOLDER --realism N [--write]
python tools/evaluate_fields.py --data FOLDER --micrographs N [--write]
python tools/evaluate_fields.py --data FOLDER --picture docs/images/fields.png

The frames are simulated by product-convolution with fields of sixteen coefficients, and
fitted with the whole family. Of the first N fields, single frames are deblurred too.
With --tiles, the frames of the first N fields and their parts by themselves are
compared instead; with --realism, N frames of each condition of
evaluation/field_realism.py are. With --micrographs, N fields on each held-out
micrograph are deblurred.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from evaluation import field_realism, publish
from evaluation.field_frames import (
    DEBLURRED_COLUMNS,
    FieldFrame,
    deblurred,
    field_pictures,
    score,
)
from evaluation.field_micrographs import (
    micrograph_frames,
    micrographs_table,
    micrographs_work,
)
from evaluation.field_picture import draw_fields
from evaluation.field_tiles import score_tiles
from evaluation.parallel import parallel
from evaluation.table import Section
from training.pictures import one_line_errors

from deepblur_live.runtime.pack import find_packs, load_manifest

if TYPE_CHECKING:
    from evaluation.table import Row

# Noise, and number of frames averaged.
CONDITIONS = ((0.001, 1), (0.01, 1), (0.01, 20), (0.03, 20))
SHARES = (0.68, 0.95)
COLUMNS = {
    "frames": "{frames}",
    "σ": "{sigma:g}",
    "averaged": "{averaged}",
    "constant, oracle": "{oracle:.1f}",
    "one PSF": "{one:.1f}",
    "joint, spectrum": "{joint:.1f}",
    "joint, + phases": "{phases:.1f}",
    "**as reported**": "**{reported:.1f}**",
    "worst place": "{reported_worst:.1f}",
    "its curvature allows": "{allowed:.1f}",
    "a field reported": "{field:.0%}",
    "orientation right": "{orientation:.0%}",
    "least against one PSF": "{loss:+.1f}",
    "inside 68 %, 95 %": "{inside_68:.0%}, {inside_95:.0%}",
}


DEBLURRED = {
    "frames": "{frames}",
    "σ": "{sigma:g}",
    **DEBLURRED_COLUMNS,
}


TILES = {
    "frames": "{frames}",
    "σ": "{sigma:g}",
    "one PSF": "{one:.1f}",
    "3 × 3 tiles alone": "{tiles:.1f}",
    "worst place": "{tiles_worst:.1f}",
    "trusted": "{tiles_trusted:.0%}",
    "**joint fit, as reported**": "**{reported:.1f}**",
    "its worst place": "{reported_worst:.1f}",
}


REALISM = {
    "frames with": "{kind}",
    "frames": "{frames}",
    "one PSF": "{one:.1f}",
    "**as reported**": "**{reported:.1f}**",
    "least against one PSF": "{loss:+.1f}",
    "a field reported": "{field:.0%}",
    "answered": "{answered:.0%}",
    "confidently wrong": "{wrong:.0%}",
}


def realism_work(task: tuple[field_realism.RealFieldFrame, str]) -> Row:
    """Return the figures of one frame of a condition, in a worker process."""
    torch.set_num_threads(1)
    return field_realism.score(*task)


def realism_table(rows: list[Row]) -> str:
    """Return the Markdown table: one row per condition."""
    for row in rows:
        if "reported" in row:
            row["loss"] = row["reported"] - row["one"]
    order = list(field_realism.CONDITIONS)
    rows = sorted(rows, key=lambda row: order.index(row["kind"]))
    section = Section(lambda plan: [], lambda case: {}, REALISM, totals={"loss": min})
    return section.table(section.summarise(rows))


def tiles_work(task: tuple[FieldFrame, str]) -> Row:
    """Return the figures of one frame and of its tiles, in a worker process."""
    torch.set_num_threads(1)
    frame, model = task
    return score(frame, model) | score_tiles(frame, model) | {"kind": ""}


def work(task: tuple[FieldFrame, str, bool]) -> Row:
    """Return the figures of one frame, in a worker process."""
    torch.set_num_threads(1)
    frame, model, whether = task
    return score(frame, model) | (deblurred(frame, model) if whether else {})


def table(rows: list[Row], model: str) -> str:
    """Return the Markdown table: one row per condition."""
    errors = load_manifest(model)[1].error_model
    for row in rows:
        row["kind"] = f"σ {row['sigma']:g}, {row['averaged']} averaged"
        row["loss"] = row["reported"] - row["one"]
        for share in SHARES:
            within = np.array(row["deviations"]) < errors.coverage_factor(share)
            row[f"inside_{100 * share:.0f}"] = float(within.mean())
    totals = {"loss": min, "averaged": max}
    section = Section(lambda plan: [], lambda case: {}, COLUMNS, totals=totals)
    return section.table(section.summarise(rows))


def deblurred_table(rows: list[Row]) -> str:
    """Return the Markdown table of deblurred frames: one row per noise level."""
    shown = [row | {"kind": ""} for row in rows if "true_psnr" in row]
    for row in shown:
        row["worst"] = row["reported_psnr"] - row["one_psnr"]
    section = Section(
        lambda plan: [], lambda case: {}, DEBLURRED, totals={"worst": min}
    )
    return section.table(section.summarise(shown))


def options() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="with MANIFEST.csv")
    parser.add_argument("--model", default="zernike7", help="its name, or a folder")
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument(
        "--fields", type=int, default=20, help="number of fields; 20 if not given"
    )
    parser.add_argument(
        "--deblurred", type=int, default=0, help="deblur frames of so many fields"
    )
    parser.add_argument(
        "--tiles", type=int, default=0, help="compare with tiles of so many fields"
    )
    parser.add_argument(
        "--realism", type=int, default=0, help="measure so many frames a condition"
    )
    parser.add_argument(
        "--micrographs",
        type=int,
        default=0,
        help="deblur so many fields on each held-out micrograph of either split",
    )
    parser.add_argument(
        "--picture", type=Path, metavar="PNG", help="draw the first two fields instead"
    )
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every frame")
    parser.add_argument(
        "--write", action="store_true", help="publish in the model card (its README.md)"
    )
    chosen = parser.parse_args()
    chosen.card = find_packs().get(chosen.model, Path(chosen.model)) / "README.md"
    if chosen.write:
        if chosen.split != "test":
            parser.error("--write publishes the test pictures: leave --split out")
        marks = ["fields", *(["fields-deblurred"] if chosen.deblurred else [])]
        marks = ["fields-tiles"] if chosen.tiles else marks
        marks = ["fields-realism"] if chosen.realism else marks
        marks = ["fields-micrographs"] if chosen.micrographs else marks
        if error := publish.missing_marks(chosen.card, marks):
            parser.error(error)
    return chosen


def finish(
    asked: argparse.Namespace, tables: dict[str, str], rows: list[Row], began: float
) -> None:
    """Print tables; keep every frame, and publish, if asked."""
    for text in tables.values():
        print(f"\n{text}")
    print(f"\n{(time.monotonic() - began) / 60:.1f} minutes")
    if asked.json is not None:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    if asked.write:
        publish.into_page(asked.card, tables)


@one_line_errors()
def main() -> None:
    """Evaluate, print, and write if asked."""
    asked = options()
    began = time.monotonic()
    if asked.micrographs:
        given = [
            (frame, asked.model)
            for frame in micrograph_frames(asked.data, asked.micrographs)
        ]
        done = list(parallel(micrographs_work, given, asked.jobs, "frames", 2))
        finish(asked, {"fields-micrographs": micrographs_table(done)}, done, began)
        return
    pictures = field_pictures(asked.data, asked.split)
    if asked.realism:
        paths = [path for _, path in pictures]
        real = [
            field_realism.RealFieldFrame(
                paths[k % len(paths)], paths[(k + 1) % len(paths)], k, condition
            )
            for condition in field_realism.CONDITIONS
            for k in range(asked.realism)
        ]
        given = [(frame, asked.model) for frame in real]
        done = list(parallel(realism_work, given, asked.jobs, "frames", 1))
        finish(asked, {"fields-realism": realism_table(done)}, done, began)
        return
    frames = [
        FieldFrame(path, kind, number, sigma, averaged)
        for number in range(asked.tiles or asked.fields)
        for kind, path in [pictures[number % len(pictures)]]
        for sigma, averaged in CONDITIONS
    ]
    if asked.picture is not None:
        # Single frames at the second noise level.
        draw_fields(frames[1 :: len(CONDITIONS)][:2], asked.model, asked.picture)
        return
    if asked.tiles:
        single = [(frame, asked.model) for frame in frames if frame.frames == 1]
        done = list(parallel(tiles_work, single, asked.jobs, "frames", 2))
        section = Section(lambda plan: [], lambda case: {}, TILES)
        text = section.table(section.summarise(sorted(done, key=lambda r: r["sigma"])))
        finish(asked, {"fields-tiles": text}, done, began)
        return
    tasks = [
        (frame, asked.model, frame.frames == 1 and frame.number < asked.deblurred)
        for frame in frames
    ]
    rows: list[Row] = []
    for row in parallel(work, tasks, asked.jobs, "frames", len(CONDITIONS)):
        rows.append(row)
        if asked.json is not None:
            asked.json.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    rows.sort(key=lambda row: (row["sigma"], row["averaged"]))
    tables = {"fields": table(rows, asked.model)}
    if asked.deblurred:
        tables["fields-deblurred"] = deblurred_table(rows)
    finish(asked, tables, rows, began)


if __name__ == "__main__":
    main()
