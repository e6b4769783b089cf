"""What a stage is given, and what it yields: figures, one by one."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["Context", "Figure", "NotHere", "Stage"]


class NotHere(Exception):
    """A stage, or a part of it, cannot run on this machine; the text says why."""


@dataclass(frozen=True)
class Figure:
    """One thing that a stage found.

    Parameters
    ----------
    what
        What was found, in words.
    value
        A number, or a few words.
    unit
        The unit of a number.
    floor
        What nothing on this card could be below, in the same unit (`floor`).
    passed
        False for a check that failed.
    """

    what: str
    value: float | int | str
    unit: str = ""
    floor: float | None = None
    passed: bool = True

    def as_json(self) -> dict[str, Any]:
        """Return the figure without what is not known."""
        found: dict[str, Any] = {"what": self.what, "value": self.value}
        if self.unit:
            found["unit"] = self.unit
        if self.floor is not None:
            found["floor"] = self.floor
        if not self.passed:
            found["passed"] = False
        return found


@dataclass(frozen=True)
class Context:
    """What every stage receives.

    Parameters
    ----------
    device
        ``"cuda"``, or ``"cpu"`` in a dry run.
    model
        Its name, or a folder.
    sides
        Of the frames, pixels, the most valuable first.
    replays
        How often a frame's graph is replayed when its results are compared.
    seconds
        How long frames are streamed for each figure.
    out
        Where stages may write files of their own.
    bandwidth, rate
        Bytes and half-precision operations per second that the first stage measured;
        0 while they are not known.
    """

    device: str
    model: str
    sides: tuple[int, ...]
    replays: int
    seconds: float
    out: Path
    bandwidth: float = 0.0
    rate: float = 0.0

    @property
    def dry(self) -> bool:
        """Whether there is no card: sizes are tiny, and times mean nothing."""
        return self.device != "cuda"


@dataclass(frozen=True)
class Stage:
    """A part of the proof, run in a process of its own.

    Parameters
    ----------
    name
        As in the report and in `--only`.
    run
        Yields figures. It is imported in the stage's own process: given by module and
        function name, ``"proving.machine:environment"``.
    needs
        Seconds without which it is not begun.
    limit
        Seconds after which it is ended.
    """

    name: str
    run: str
    needs: float
    limit: float

    def function(self) -> Callable[[Context], Iterator[Figure]]:
        """Import the stage's function."""
        module, _, name = self.run.partition(":")
        found: Callable[[Context], Iterator[Figure]] = getattr(
            import_module(module), name
        )
        return found
