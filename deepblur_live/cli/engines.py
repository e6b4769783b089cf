"""Build, list and delete the TensorRT engines of the networks."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from deepblur_live.calibration.rig import rig_family
from deepblur_live.cli.console import say
from deepblur_live.cli.progress import RunProgress
from deepblur_live.runtime.engine_cache import EngineCache
from deepblur_live.runtime.engines import engine_sources
from deepblur_live.runtime.graph_executor import EngineExecutor
from deepblur_live.runtime.order import executor_order
from deepblur_live.runtime.pack import load_pack, preferred_weights
from deepblur_live.runtime.tensorrt import LIBRARIES, EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from deepblur_live.blur import BlurFamily
    from deepblur_live.profile import Profile
    from deepblur_live.runtime.engines import EngineSource
    from deepblur_live.runtime.pack import ModelPack

__all__ = ["build", "clear", "parse_size", "show"]


def parse_size(text: str) -> tuple[int, int]:
    """Return (rows, columns) of ``"512"`` or ``"512x640"``.

    Raises
    ------
    ValueError
        The text is neither, or a side is out of range.
    """
    found = re.fullmatch(r"(\d+)(?:[x×](\d+))?", text.strip().lower())
    sides = [int(side or found[1]) for side in found.groups()] if found else []
    if not sides or not all(64 <= side <= 16384 for side in sides):
        raise ValueError(
            f"--size {text}: must be ROWSxCOLUMNS of a frame, such as 512x640, each "
            "from 64 to 16384 pixels"
        )
    return sides[0], sides[1]


def build(console: Console, profile: Profile, sizes: Sequence[tuple[int, int]]) -> None:
    """Build the engines for frames of these sizes and compare them with torch.

    Raises
    ------
    EngineError
        No TensorRT is available here, or no engine agrees with torch.
    """
    usable = []
    for attempt in executor_order(profile.model.device):
        if attempt.library is not None and attempt.card is not None:
            usable.append((attempt.library, attempt.card))
        elif attempt.name in LIBRARIES:
            say(console, f"{attempt.name}: not used: {attempt.why}")
    if not usable:
        raise EngineError(
            "no TensorRT is available here: torch runs the networks; `deepblur-live "
            "doctor` says what to do"
        )
    family = rig_family(profile)
    weights = preferred_weights(profile.model.deblurring, usable[0][1].device)
    pack = load_pack(profile.model.name, weights)
    pack.check(profile.optics)
    sources = [
        source
        for library, card in usable
        for source in engine_sources(pack, library, card)
    ]
    for source in sources:
        try:
            _build_by(source, console, pack, family, sizes)
        except RuntimeError as error:  # out of memory, too: the next may need less
            say(console, f"{source.name}: not used: {error}")
        else:
            return
    raise EngineError("no engine is usable: torch runs the networks")


def _build_by(
    source: EngineSource,
    console: Console,
    pack: ModelPack,
    family: BlurFamily,
    sizes: Sequence[tuple[int, int]],
) -> None:
    executor = EngineExecutor(pack, family, source)
    with RunProgress(console) as shown:
        for size in sizes:
            begun = time.monotonic()

            def progress(text: str, begun: float = begun) -> None:
                elapsed = time.monotonic() - begun
                shown.show(0, f"{elapsed:.0f} s · {text}", elapsed)

            verdicts = executor.admit(size, progress)
            took = time.monotonic() - begun
            for verdict in verdicts:
                shown.say(f"{executor.name}, {took:.0f} s: {verdict.text}")


def show(console: Console) -> None:
    """List the engines in the cache."""
    cache = EngineCache()
    kept = cache.contents()
    if not kept:
        say(console, f"No engines in {cache.folder}.")
        return
    table = Table(title=str(cache.folder), title_justify="left")
    for heading in ("network", "input", "precision", "built by", "for", "MB", ""):
        table.add_column(heading, overflow="fold")
    for engine in kept:
        spec = engine.spec
        if spec is None:
            about = [engine.path.name, "", "", "", ""]
        else:
            about = [
                spec.network,
                " × ".join(map(str, spec.shape)),
                spec.precision,
                f"{spec.backend} {spec.version}",
                f"{spec.gpu}, driver {spec.driver}",
            ]
        state = f"unusable: {engine.fault}" if engine.fault else "usable"
        if engine.timed_busy and not engine.fault:
            state += "; built while frames were processed: `engines build` may find "
            state += "faster kernels"
        cells = (*about, f"{len(engine.plan) / 1e6:.1f}", state)
        table.add_row(*(escape(cell) for cell in cells))
    console.print(table)


def clear(console: Console) -> None:
    """Delete all engines; they are rebuilt when needed."""
    cache = EngineCache()
    count = cache.clear()
    say(console, f"{count} engines deleted from {cache.folder}.")
