"""Run stages one after another, each in a process of its own, and keep what they find.

A stage that fails, crashes, hangs or leaves the card unusable ends alone: the next one
has a new process. Processes are forked from one that has imported torch, which takes
seconds, but has not touched the card.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import sys
import time
import traceback
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from proving.stage import Context, Figure, NotHere, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection
    from pathlib import Path

__all__ = ["COPY", "PRODUCT", "Outcome", "run_all", "write_json"]

# Figures of the first stage that give the later ones their floor.
COPY, PRODUCT = "copy on the card", "matrix product in half precision"
_METHOD = "spawn" if sys.platform == "win32" else "forkserver"
_PRELOADED = ("torch", "deepblur_live.runtime.best", "deepblur_live.runtime.pipeline")
_POLL_S, _END_S = 0.05, 5.0
_TRACEBACK_LINES = 12
_NOT_ENDED = "it had not ended"


@dataclass
class Outcome:
    """What became of a stage.

    Parameters
    ----------
    name
        The stage's.
    status
        ``"ran"``, ``"failed"`` or ``"skipped"``.
    why
        Why it failed or was skipped.
    seconds
        How long it took.
    figures
        What it found, until it failed.
    trace
        The last lines of a traceback.
    """

    name: str
    status: str = "failed"
    why: str = ""
    seconds: float = 0.0
    figures: list[Figure] = field(default_factory=list)
    trace: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON can hold it."""
        content = asdict(self)
        content["figures"] = [figure.as_json() for figure in self.figures]
        return content


def run_all(
    stages: Sequence[Stage],
    context: Context,
    seconds: float,
    keep: Callable[[list[Outcome]], None],
) -> list[Outcome]:
    """Run stages while there is time; `keep` is given the outcomes after each."""
    processes = multiprocessing.get_context(_METHOD)
    if _METHOD == "forkserver":
        processes.set_forkserver_preload(list(_PRELOADED))
    end = time.monotonic() + seconds
    outcomes: list[Outcome] = []
    for stage in stages:
        left = end - time.monotonic()
        if left < stage.needs:
            why = f"{max(left, 0):.0f} s were left, it needs {stage.needs:.0f}"
            outcomes.append(Outcome(stage.name, "skipped", why))
        else:
            print(f"{stage.name} …", flush=True)
            limit = min(stage.limit, left)
            outcomes.append(_run(processes, stage, context, limit))
            context = _with_peaks(context, outcomes[-1].figures)
        keep(outcomes)
    return outcomes


def write_json(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Write the outcomes, whole or not at all."""
    content = json.dumps([outcome.as_json() for outcome in outcomes], indent=1)
    partial = path.with_suffix(".part")
    partial.write_text(content + "\n", "utf-8")
    partial.replace(path)


def _run(processes: Any, stage: Stage, context: Context, limit: float) -> Outcome:
    outcome, began = Outcome(stage.name), time.monotonic()
    ours, theirs = processes.Pipe(duplex=False)
    process = processes.Process(target=_child, args=(stage, context, theirs))
    process.start()
    theirs.close()
    ended = False
    try:
        while not ended and time.monotonic() - began < limit:
            try:
                if not ours.poll(_POLL_S):
                    continue
                kind, content = ours.recv()
            except EOFError:
                break
            if kind == "figure":
                outcome.figures.append(content)
            else:
                outcome.status, outcome.why, outcome.trace = content
                ended = True
        else:
            if not ended:
                outcome.why = f"{_NOT_ENDED} after {limit:.0f} s"
    finally:
        # An interpreter that holds a CUDA context may hang when it ends.
        process.join(0 if outcome.why.startswith(_NOT_ENDED) else _END_S)
        if process.is_alive():
            process.kill()
            process.join(_END_S)
        ours.close()
    if not ended and not outcome.why:
        outcome.why = f"its process ended with exit code {process.exitcode}"
    if outcome.status == "ran" and (
        bad := [f for f in outcome.figures if not f.passed]
    ):
        outcome.status = "failed"
        outcome.why = "; ".join(f"{figure.what}: {figure.value}" for figure in bad)
    outcome.seconds = round(time.monotonic() - began, 1)
    return outcome


def _child(stage: Stage, context: Context, pipe: Connection) -> None:
    """Run a stage and send its figures as they come."""
    try:
        if "torch" in sys.modules:
            from deepblur_live.runtime.device import tune_process

            # As the worker does: with more threads than cores they wait for each other.
            tune_process()
        for figure in stage.function()(context):
            pipe.send(("figure", figure))
        end = "ran", "", ""
    except NotHere as reason:
        end = "skipped", str(reason), ""
    except BaseException as error:  # an end by SystemExit or an interrupt, too
        lines = traceback.format_exc().splitlines()[-_TRACEBACK_LINES:]
        end = "failed", f"{type(error).__name__}: {error}"[:500], "\n".join(lines)
    with contextlib.suppress(OSError):
        pipe.send(("end", end))
        pipe.close()


def _with_peaks(context: Context, figures: Sequence[Figure]) -> Context:
    values = {figure.what: figure.value for figure in figures}
    if COPY in values and PRODUCT in values:
        return replace(
            context, bandwidth=1e12 * values[COPY], rate=1e12 * values[PRODUCT]
        )
    return context
