"""Measure a model on frames as real microscopes make them, and on real stacks.

python tools/evaluate_real.py --data FOLDER [--quick] [--only SECTION ...] [--write]

The realism table departs from the model one step at a time, on held-out micrographs;
the stacks are beads and cells through focus, each plane alone and as a drift in time.
None of these frames may be used to choose or fit anything.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from evaluation import publish
from evaluation.bead_scores import bead_row
from evaluation.held_out import held_out_pictures
from evaluation.parallel import parallel
from evaluation.realism import CONDITIONS
from evaluation.realism_scores import REALISM, RealSpec, score
from evaluation.replay import replay
from evaluation.stack_tables import CONTROL, REPLAY, stack_table
from evaluation.stacks import STACKS, control, plane
from evaluation.table import Section
from training.pictures import one_line_errors

from deepblur_live.profile import Model, Profile
from deepblur_live.runtime.pack import find_packs

if TYPE_CHECKING:
    from collections.abc import Callable

    from evaluation.table import Row
    from numpy.typing import NDArray

SECTIONS = ("realism", *STACKS)
FRAMES, QUICK_FRAMES = 12, 1
# Every n-th plane, counted from the focus, in a quick run.
QUICK_PLANES = 6
# A stack is replayed up to this distance from the focus.
REPLAYED_UM = 2.4


class Task(NamedTuple):
    """One unit of work for a worker process: its section, its name, what it runs."""

    section: str
    key: str
    run: Callable[[], list[Row]]


def plain(value: object) -> object:
    """Return a figure as JSON has it: without NumPy's types, NaN and infinity."""
    if isinstance(value, list):
        return [plain(v) for v in value]
    number = value.item() if isinstance(value, np.generic) else value
    if not isinstance(number, float):
        return number
    return round(number, 5) if math.isfinite(number) else None


def as_json(rows: dict[str, list[Row]]) -> str:
    """Return rows by section as JSON, one row a line: two runs are easily compared."""
    sections = []
    for name, part in rows.items():
        lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in part)
        sections.append(f"{json.dumps(name)}: [\n{lines}\n]")
    return "{\n" + ",\n".join(sections) + "\n}\n"


def work(task: Task) -> tuple[str, list[Row]]:
    """Return a task's section and its rows, each with the task's key."""
    torch.set_num_threads(1)
    rows = [
        {key: plain(value) for key, value in row.items()} | {"task": task.key}
        for row in task.run()
    ]
    return task.section, rows


def realism_tasks(asked: argparse.Namespace) -> list[Task]:
    """Return one task per frame; pictures are the outermost loop.

    A run that is interrupted has thus measured all conditions on some pictures.
    """
    paths = held_out_pictures(asked.data, asked.split)["micrographs"]
    profile = Profile(model=Model(name=asked.model, device="cpu", threads=1))
    return [
        Task("realism", f"{condition}: {path.name}", partial(_realism, spec))
        for number, path in enumerate(paths[: asked.frames])
        for condition in CONDITIONS
        for spec in [RealSpec(path, number, condition, profile, asked.best)]
    ]


def _realism(spec: RealSpec) -> list[Row]:
    return [score(spec)]


@lru_cache(maxsize=2)
def _read(name: str, data: Path) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    planes = STACKS[name].read(data)
    return planes, STACKS[name].z_um(len(planes))


def stack_tasks(name: str, asked: argparse.Namespace) -> list[Task]:
    """Return the tasks of a stack: the control, each plane, each replay."""
    stack = STACKS[name]
    planes, z_um = _read(name, asked.data)
    every = QUICK_PLANES if asked.quick else 1
    chosen = [k for k in range(len(planes)) if (k - stack.focus) % every == 0]
    tasks = [Task(name, CONTROL, partial(_control, name, asked.data, chosen))]
    ways = {"one frame": False}
    if stack.bead_diameter_nm is not None:
        ways["one frame, bead size given"] = True
    for method, bead_size in ways.items():
        rig = stack.profile(asked.model, bead_size)
        tasks += [
            Task(
                name,
                f"{method}: {k}",
                partial(_plane, name, asked.data, k, rig, method),
            )
            for k in chosen
        ]
    # No plane of the cells is identified, and a refused frame is searched each time.
    identifies = stack.bead_diameter_nm is not None
    for method, bead_size in ways.items():
        rig = stack.profile(asked.model, bead_size)
        label = method.replace("one frame", REPLAY)
        if not identifies:
            label += ", spectra alone"
        for side, sign in {"upwards": 1, "downwards": -1}.items():
            course = [k for k in chosen if 0 <= sign * z_um[k] <= REPLAYED_UM + 1e-9]
            course.sort(key=lambda k: abs(z_um[k]))
            about = {"method": label, "side": side}
            run = partial(_replay, name, asked.data, course, rig, about, identifies)
            tasks.append(Task(name, f"{label}: {side}", run))
    return tasks


def _control(name: str, data: Path, chosen: list[int]) -> list[Row]:
    planes, z_um = _read(name, data)
    rows = control(planes[chosen], z_um[chosen], STACKS[name].theory)
    return [row | {"method": CONTROL} for row in rows]


def _plane(name: str, data: Path, k: int, rig: Profile, method: str) -> list[Row]:
    planes, z_um = _read(name, data)
    z = float(z_um[k])
    stack = STACKS[name]
    row = plane(planes[k], z, abs(z) * stack.theory.waves_per_um, rig)
    if stack.bead_diameter_nm is not None:
        focus = planes[stack.focus]
        row |= bead_row(planes[k], focus, row, rig, stack.bead_diameter_nm)
    return [row | {"method": method}]


def _replay(
    name: str,
    data: Path,
    course: list[int],
    rig: Profile,
    about: dict[str, str],
    identifies: bool,
) -> list[Row]:
    planes, z_um = _read(name, data)
    rows = replay(planes[course], z_um[course], rig, identifies=identifies)
    return [row | about for row in rows]


def tables(rows: dict[str, list[Row]]) -> dict[str, str]:
    """Return the Markdown of each section that has rows."""
    found = {}
    for name, part in rows.items():
        if not part:
            continue
        if name in STACKS:
            found[name] = stack_table(part, STACKS[name])
            continue
        order = list(CONDITIONS)
        part = sorted(part, key=lambda row: order.index(row["kind"]))
        base = {row["file"]: row["snr"] for row in part if row["kind"] == order[0]}
        part = [
            row | {"difference": row["snr"] - base.get(row["file"], math.nan)}
            for row in part
        ]
        columns = REALISM
        if not any("best" in row for row in part):
            columns = {k: v for k, v in REALISM.items() if "{best" not in v}
        section = Section(lambda plan: [], lambda case: {}, columns)
        found[name] = section.table(section.summarise(part))
    return found


def options() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="with MANIFEST.csv")
    parser.add_argument("--model", default="zernike7", help="its name, or a folder")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument(
        "--frames", type=int, help=f"micrographs per condition; {FRAMES} if not given"
    )
    parser.add_argument(
        "--best", action="store_true", help="with the best that the family could reach"
    )
    parser.add_argument("--quick", action="store_true", help="one picture, few planes")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every frame")
    parser.add_argument(
        "--resume", action="store_true", help="leave out what --json FILE has already"
    )
    parser.add_argument(
        "--write", action="store_true", help="publish in the model card (its README.md)"
    )
    chosen = parser.parse_args()
    if chosen.frames is None:
        chosen.frames = QUICK_FRAMES if chosen.quick else FRAMES
    if chosen.resume and chosen.json is None:
        parser.error("--resume: give the file to resume from, --json FILE")
    chosen.card = find_packs().get(chosen.model, Path(chosen.model)) / "README.md"
    if chosen.write:
        if chosen.quick or chosen.split != "test":
            parser.error(
                "--write publishes the whole table: leave --quick and --split out"
            )
        if error := publish.missing_marks(chosen.card, chosen.only):
            parser.error(error)
    return chosen


@one_line_errors()
def main() -> None:
    """Evaluate, print, and write if asked."""
    asked = options()
    began = time.monotonic()
    rows: dict[str, list[Row]] = {name: [] for name in asked.only}
    if asked.resume and asked.json.is_file():
        rows |= json.loads(asked.json.read_text("utf-8"))
    tasks = [] if "realism" not in asked.only else realism_tasks(asked)
    for name in asked.only:
        if name in STACKS:
            tasks += stack_tasks(name, asked)
    done = {(name, row["task"]) for name, part in rows.items() for row in part}
    tasks = [task for task in tasks if (task.section, task.key) not in done]
    for section, found in parallel(work, tasks, asked.jobs, "tasks"):
        rows[section] += found
        if asked.json is not None:
            asked.json.write_text(as_json(rows), "utf-8", newline="\n")
    texts = tables({name: rows[name] for name in asked.only})
    for name, text in texts.items():
        print(f"\n{name}\n\n{text}")
    if asked.write:
        publish.into_page(asked.card, texts)
    print(f"\n{(time.monotonic() - began) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
