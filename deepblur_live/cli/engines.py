"""Building, listing and clearing the engines that TensorRT runs the networks by."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from deepblur_live.cli.progress import ProgressLine, say
from deepblur_live.optics import ZernikeFamily
from deepblur_live.runtime.engine_cache import EngineCache
from deepblur_live.runtime.engines import engine_sources
from deepblur_live.runtime.executor import TorchExecutor
from deepblur_live.runtime.graph_executor import EngineExecutor
from deepblur_live.runtime.order import executor_order
from deepblur_live.runtime.pack import load_pack
from deepblur_live.runtime.tensorrt import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from deepblur_live.profile import Profile
    from deepblur_live.runtime.engines import EngineSource
    from deepblur_live.runtime.pack import ModelPack

__all__ = ["build", "clear", "parse_size", "show"]


def parse_size(text: str) -> tuple[int, int]:
    """Return (rows, columns) of ``"512"`` or ``"512x640"``.

    Raises
    ------
    ValueError
        When it is neither, or out of range.
    """
    found = re.fullmatch(r"(\d+)(?:[x×](\d+))?", text.strip().lower())
    sides = [int(side or found[1]) for side in found.groups()] if found else []
    if not sides or not all(64 <= side <= 16384 for side in sides):
        raise ValueError(
            f"--size {text}: must be ROWSxCOLUMNS of a frame, as 512x640, each from "
            "64 to 16384 pixels"
        )
    return sides[0], sides[1]


def build(console: Console, profile: Profile, sizes: Sequence[tuple[int, int]]) -> None:
    """Build the engines for frames of these sizes, and compare them with torch.

    Raises
    ------
    EngineError
        When no TensorRT can be had here, or none gave engines that agree with torch.
    """
    usable = []
    for attempt in executor_order(profile.model.device):
        if attempt.backend is not None and attempt.card is not None:
            usable.append((attempt.backend, attempt.card))
        elif not attempt.name.startswith("torch"):
            say(console, f"{attempt.name}: left: {attempt.why}")
    if not usable:
        raise EngineError(
            "no TensorRT can be had here: torch runs the networks; `deepblur-live "
            "doctor` says what to do"
        )
    family = ZernikeFamily.from_optics(profile.optics)
    pack = load_pack(profile.model.name)
    pack.check(family)
    sources = [
        source
        for backend, card in usable
        for source in engine_sources(pack, backend, card, EngineCache())
    ]
    for source in sources:
        try:
            _build_by(source, console, pack, family, sizes)
        except RuntimeError as error:  # of a full card too: the next may need less
            say(console, f"{source.name}: left: {error}")
        else:
            return
    raise EngineError("no engine can be used: torch runs the networks")


def _build_by(
    source: EngineSource,
    console: Console,
    pack: ModelPack,
    family: ZernikeFamily,
    sizes: Sequence[tuple[int, int]],
) -> None:
    executor = EngineExecutor(pack, family, source)
    reference = TorchExecutor(pack, family, executor.device, half=False)
    with ProgressLine(console) as line:
        for size in sizes:
            begun = time.monotonic()

            def progress(text: str, begun: float = begun) -> None:
                elapsed = time.monotonic() - begun
                line.show(elapsed, f"{elapsed:.0f} s · {text}")

            executor.prepare(size, progress, lambda: False)
            took = time.monotonic() - begun
            for verdict in executor.check(size, reference):
                line.say(f"{executor.name}, {took:.0f} s: {verdict.text}")
                if not verdict.passed:
                    raise EngineError(verdict.text)


def show(console: Console) -> None:
    """List the engines there are."""
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
        state = f"not used: {engine.fault}" if engine.fault else "sound"
        cells = (*about, f"{engine.megabytes:.1f}", state)
        table.add_row(*(escape(cell) for cell in cells))
    console.print(table)


def clear(console: Console) -> None:
    """Delete all engines; they are built again when they are needed."""
    cache = EngineCache()
    count = cache.clear()
    say(console, f"{count} engines deleted from {cache.folder}.")
