"""Deblurring under realism: conditions × methods, with what they invent.

Every method gets the same frames and the same PSF, that of the estimated γ.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.case import Spec
from evaluation.deblurring_frames import CONDITIONS, SIDE, expose
from evaluation.deblurring_methods import MEASURED, RAW, SHOWN, methods, networks
from evaluation.deblurring_scores import agreement, fidelity
from evaluation.effects import MARGIN
from evaluation.held_out import scene
from evaluation.real_planes import PAIRS, PLANES, score_planes
from evaluation.stacks import STACKS
from evaluation.table import Row, Section, grouped, markdown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from evaluation.case import Case, Plan

__all__ = ["DEBLURRING_REALISM", "DeblurSpec", "score", "specs"]

# Pictures of each kind, or a third of those there are.
_PICTURES = 4
# A result is harmful if its PSNR is so many dB below the raw frame's.
_HARM = 0.2


@dataclass(frozen=True)
class DeblurSpec(Spec):
    """One frame and condition of this section.

    Parameters
    ----------
    condition
        A key of ``CONDITIONS``; of the real stack, the number of a pair of planes.
    weights
        Folders of further networks, as a training writes them.
    """

    condition: str = ""
    weights: tuple[Path, ...] = ()


def specs(plan: Plan) -> list[DeblurSpec]:
    """Return each picture under each condition, and the real planes if there are any.

    Pictures are the outermost loop: a worker reads each once.
    """
    chosen = [
        path
        for paths in plan.pictures.values()
        for count in [min(_PICTURES, (len(paths) + 2) // 3)]
        for path in [paths[len(paths) * k // count] for k in range(count)]
    ]
    found = [
        DeblurSpec(path, "simulated", k, 0, condition=name, weights=plan.weights)
        for k, path in enumerate(chosen)
        for name in CONDITIONS
    ]
    stack = chosen[0].parent.parent / "real" / STACKS[PLANES].file
    if stack.is_file():
        found += [
            DeblurSpec(stack, PLANES, k, 0, condition=str(k), weights=plan.weights)
            for k in PAIRS
        ]
    return found


def score(case: Case) -> Row:
    """Return each method's figures of one frame, by the method's name."""
    spec = case.spec
    assert isinstance(spec, DeblurSpec)
    known = networks(case.pack.folder, spec.weights)
    if spec.kind == PLANES:
        found = score_planes(spec.path, spec.number, known)
        return {"condition": PLANES, "group": PLANES, "methods": found}
    condition = CONDITIONS[spec.condition]
    picture = scene(spec.path, SIDE + 2 * MARGIN).double().numpy()
    # Two frames that differ in their noise alone.
    frames = [
        expose(condition, picture, spec.number, case.family, realisation)
        for realisation in range(2)
    ]
    first, second = (methods(frame, case.family, known) for frame in frames)
    figures = {
        name: fidelity(image, frames[0], condition.white)
        | {"share": agreement(image, second[name]).share}
        for name, image in first.items()
    }
    for found in figures.values():
        gain = found["psnr"] - figures[RAW]["psnr"]
        found |= {"gain": gain, "harmed": float(gain < -_HARM)}
    for name in known:
        shown = SHOWN.format(name)
        if not figures[MEASURED.format(name)]["harmed"]:
            raw = np.array_equal(first[shown], first[RAW])
            figures[shown]["withheld"] = float(raw)
    group = condition.group
    return {"condition": spec.condition, "group": group, "methods": figures}


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


# Figure → how it reads, its number format, how it is aggregated.
_FIGURES: dict[str, tuple[str, str, Callable[[Sequence[float]], float]]] = {
    "gain": ("PSNR over the raw frame's, dB", "+.2f", _mean),
    "ssim": ("SSIM", ".3f", _mean),
    "harmed": ("frames harmed", ".0%", _mean),
    "withheld": ("results not shown that were not harmful", ".0%", _mean),
    "beyond": ("invented where the data have no signal, dB", "+.1f", _mean),
    "share": ("fine detail reproduced under other noise", ".2f", _mean),
    "undershoot": ("mean undershoot", ".3%", _mean),
    "rim": ("worst rim", ".3f", _mean),
    "border": ("border against interior, dB", "+.1f", _mean),
    "flux": ("light changed by at most", ".1%", max),
}
# Those of all conditions together.
_OVERALL = ("gain", "harmed", "withheld")
_PLANES = {
    "share_haze": ("share of fine detail agreed on, haze", ".2f"),
    "share_bright": ("the same, bright parts", ".2f"),
    "common_haze": ("power of what is agreed on, over raw, haze", ".2f"),
    "common_bright": ("the same, bright parts", ".2f"),
    "noise_haze": ("not agreed on, 1/1000 of the range, haze", ".1f"),
    "noise_bright": ("the same, bright parts", ".1f"),
    "rim": ("worst rim", ".3f"),
}


def _figure(
    part: Sequence[Row], name: str, total: Callable[[Sequence[float]], float]
) -> Row:
    """Return one figure of a group of rows, by method; methods without it are absent.

    Methods are in the order of the rows.
    """
    found: dict[str, list[float]] = {}
    for row in part:
        for method, figures in row["methods"].items():
            if name in figures:
                found.setdefault(method, []).append(figures[name])
    return {method: round(total(values), 5) for method, values in found.items()}


class _ByMethod(Section):
    """A section whose tables have the methods as columns."""

    def summarise(self, rows: Sequence[Row]) -> list[Row]:
        """Return one row for each condition's PSNR and each group's figures."""
        simulated = [row for row in rows if row["group"] != PLANES]
        planes = [row for row in rows if row["group"] == PLANES]
        found: list[Row] = []

        def add(table: str, label: str, figure: str, part: Sequence[Row]) -> None:
            total = _FIGURES[figure][2] if table == "groups" else _mean
            values = _figure(part, figure, total)
            about = {"table": table, "label": label, "figure": figure}
            if values:
                found.append(about | {"frames": len(part), "methods": values})

        for condition, part in self._ordered(simulated):
            add("conditions", condition, "psnr", part)
        for (group,), part in grouped(simulated, "group").items():
            for figure in _FIGURES:
                add("groups", group, figure, part)
        for figure in _OVERALL:
            add("groups", "all conditions", figure, simulated)
        if planes:
            for figure in _PLANES:
                add("planes", PLANES, figure, planes)
        return found

    @staticmethod
    def _ordered(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
        parts = grouped(rows, "condition")
        return [(name, parts[(name,)]) for name in CONDITIONS if (name,) in parts]

    def table(self, summary: Sequence[Row]) -> str:
        """Return three Markdown tables: conditions, groups of them, real planes."""
        parts = grouped(summary, "table")
        texts = []
        if rows := parts.get(("conditions",)):
            texts.append(_table("PSNR, dB", rows, _condition))
        groups = grouped(parts.get(("groups",), []), "label")
        for (label,), part in groups.items():
            texts.append(_table(f"{label}, {part[0]['frames']} frames", part, _group))
        if rows := parts.get(("planes",)):
            head = f"{STACKS[PLANES].file}, {rows[0]['frames']} pairs of planes"
            texts.append(_table(head, rows, lambda row: _PLANES[row["figure"]]))
        return "\n\n".join(texts)


def _condition(row: Row) -> tuple[str, str]:
    return f"{row['frames']} × {row['label']}", ".1f"


def _group(row: Row) -> tuple[str, str]:
    return _FIGURES[row["figure"]][:2]


def _table(
    head: str, rows: Sequence[Row], reads: Callable[[Row], tuple[str, str]]
) -> str:
    """Return a Markdown table, one line per row, one column per method."""
    names = list(dict.fromkeys(itertools.chain(*(row["methods"] for row in rows))))
    lines = []
    for row in rows:
        label, spec = reads(row)
        values: dict[str, Any] = row["methods"]
        cells = [f"{values[name]:{spec}}" if name in values else "–" for name in names]
        lines.append([label, *cells])
    return markdown([head, *names], lines)


DEBLURRING_REALISM = _ByMethod(specs, score, {})
