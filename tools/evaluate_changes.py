"""Measure how well spectra alone distinguish a change of the blur from all else.

python tools/evaluate_changes.py --data FOLDER [--quick] [--only SECTION ...]

Real stacks through focus, simulated changes, unchanged batches, sessions on cells that
wander, and estimates that the spectra contradict; pictures of the validation split,
none of which sets a threshold.
"""

from __future__ import annotations

import argparse
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from evaluation.contradictions import simulated_contradictions, stack_contradictions
from evaluation.held_out import held_out_pictures
from evaluation.parallel import parallel
from evaluation.spectral_changes import changes, moving, through_focus, unchanged
from evaluation.stacks import STACKS
from evaluation.table import grouped, markdown
from scipy.special import chdtri
from training.pictures import one_line_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from evaluation.table import Row

SECTIONS = ("stacks", "changes", "unchanged", "moving", "contradictions")
PICTURES, SESSIONS = 12, 50
# Thirty batches each: with none above its limit the rate is below 1 in 500 (95 %).
UNCHANGED = 60
DRIFT = 0.072
# Sixteen shapes, one in a thousand.
LIMIT = float(chdtri(16, 1e-3))


def work(task: Callable[[], object]) -> object:
    """Run a task in a worker process."""
    torch.set_num_threads(1)
    return task()


def stacks(data: Path) -> str:
    """Return the table of both stacks, one frame a plane."""
    texts = []
    for name, stack in STACKS.items():
        rows = through_focus(stack, stack.read(data))
        near = [row for row in rows if abs(row["z_um"]) <= 1]
        away = np.abs([row["z_um"] for row in near])
        strength = [row["strength"] for row in near]
        lines = [
            [
                f"{row['z_um']:+.2f}",
                f"{row['chi_squared'] / LIMIT:.1f}",
                f"{row['residual']:.1f}",
                f"{row['coherence']:.2f}",
                f"{row['strength']:.3f}",
                f"{row['sharpening']:+.3f}",
            ]
            for row in near
        ]
        head = ["z, µm", "T", "U", "coherence", "strength, Np", "sharpening, Np"]
        agreement = np.corrcoef(away, strength)[0, 1]
        text = f"{name}: correlation of strength and |z| {agreement:.3f}"
        texts.append(f"{text}\n\n{markdown(head, lines)}")
    return "\n\n".join(texts)


def change_table(rows: Sequence[Row]) -> str:
    """Return the table of the kinds of change."""
    lines = []
    for (kind,), part in grouped(rows, "kind").items():
        test = np.array([row["chi_squared"] for row in part]) / LIMIT
        figure = {
            key: np.array([row[key] for row in part])
            for key in ("residual", "coherence", "strength")
        }
        lines.append(
            [
                kind,
                f"{(test > 1).sum()} of {len(test)}",
                f"{np.median(test):.2g}",
                f"{np.median(figure['residual']):.1f} ({figure['residual'].max():.1f})",
                f"{np.median(figure['coherence']):.2f}",
                f"{np.median(figure['strength']):.3f}",
            ]
        )
    head = ["what changed", "T > 1", "T", "U (max)", "coherence", "strength, Np"]
    return markdown(head, lines)


def unchanged_text(rows: Sequence[Row], specimens: int) -> str:
    """Return how often T of an unchanged batch exceeds 1."""
    test = np.array([row["test"] for row in rows])
    signals = sum(row["signal"] for row in rows)
    return (
        f"unchanged batches: {len(rows)} of {specimens} specimens; T > 1 in "
        f"{(test > 1).sum()}; T in 998 of 1000 below {np.quantile(test, 0.998):.2f}; "
        f"charts above their limit {signals} times"
    )


def moving_table(rows: Sequence[Row]) -> str:
    """Return the table of sessions, without and with a drift."""
    lines = []
    for (drift,), part in grouped(rows, "drift").items():
        first = [row["first"] for row in part if row["first"] is not None]
        watched = [row["watched"] for row in part]
        strength = np.nanmedian([row["strength"] for row in part])
        lines.append(
            [
                f"{drift:g} waves in 1 h",
                f"{len(first)} of {len(part)}",
                f"{np.median(first) / 60 - 30:.0f} min" if first else "–",
                f"{np.mean(watched):.0%} ({np.min(watched):.0%})",
                f"{strength:.3f}",
            ]
        )
    head = ["drift", "alerts", "after onset", "watched (least)", "strength, Np"]
    return markdown(head, lines)


def contradiction_table(rows: Sequence[Row]) -> str:
    """Return how many pairs of trusted estimates the spectra contradict."""
    lines = []
    for (frames, wrong), part in grouped(rows, "frames", "wrong").items():
        found = sum(bool(row["found"]) for row in part)
        kind = "wrong" if wrong else "right"
        lines.append([str(frames), kind, f"{found} of {len(part)}"])
    return markdown(["frames", "estimates", "contradicted"], lines)


@one_line_errors(OSError)
def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="a few of each")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--sessions", type=int, default=SESSIONS)
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    paths = held_out_pictures(asked.data, "validation")["micrographs"]
    count = 2 if asked.quick else PICTURES
    sessions = 2 if asked.quick else asked.sessions
    run = partial(parallel, work, jobs=asked.jobs)
    if "stacks" in asked.only:
        print(f"\n{stacks(asked.data)}", flush=True)
    if "changes" in asked.only:
        tasks = [partial(changes, paths[k], paths[k - 1], k) for k in range(count)]
        print(f"\n{change_table(list(chain(*run(tasks, unit='pictures'))))}")
    if "unchanged" in asked.only:
        tasks = [
            partial(unchanged, paths[k % len(paths)], k)
            for k in range(UNCHANGED * count // PICTURES)
        ]
        rows = list(run(tasks, unit="specimens"))
        known = sum(bool(part) for part in rows)
        print(f"\n{unchanged_text(list(chain(*rows)), known)}", flush=True)
    if "moving" in asked.only:
        rows = []
        for drift in (0.0, DRIFT):
            tasks = [
                partial(moving, paths[k % len(paths)], k, drift)
                for k in range(sessions)
            ]
            found = run(tasks, unit="sessions")
            rows += [row | {"drift": drift} for row in found]
        print(f"\n{moving_table(rows)}")
    if "contradictions" in asked.only:
        tasks = [
            partial(simulated_contradictions, path, k)
            for k, path in enumerate(paths[:count])
        ]
        found = chain(*run(tasks, unit="pictures"))
        rows = [row | {"frames": "simulated"} for row in found]
        tasks = [
            partial(stack_contradictions, stack, stack.read(asked.data))
            for stack in STACKS.values()
        ]
        for name, part in zip(STACKS, run(tasks, unit="stacks"), strict=True):
            rows += [row | {"frames": name} for row in part]
        print(f"\n{contradiction_table(rows)}")


if __name__ == "__main__":
    main()
