"""The ways to run the networks here, best first, each usable or not, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deepblur_live.runtime.device import choose_device, choose_precision
from deepblur_live.runtime.export import require_onnx
from deepblur_live.runtime.tensorrt import (
    LIBRARIES,
    EngineError,
    find_card,
    find_library,
)
from deepblur_live.runtime.triton_source import TRITON, require_triton

if TYPE_CHECKING:
    from deepblur_live.runtime.tensorrt import Card, Library

__all__ = ["Attempt", "executor_order"]


@dataclass(frozen=True)
class Attempt:
    """One way to run the networks, in the order of preference.

    Parameters
    ----------
    name
        For a person.
    usable
        Whether it is available here.
    why
        It is, or is not.
    library, card
        Of a TensorRT library that is available; the card alone, of Triton.
    """

    name: str
    usable: bool
    why: str
    library: Library | None = None
    card: Card | None = None


def executor_order(wanted: str = "auto") -> list[Attempt]:
    """Return the ways to run the networks, best first, and why or why not.

    Whether an engine can be built and agrees with torch is only known at the first
    frame of its size.

    Parameters
    ----------
    wanted
        ``"auto"``, ``"cuda"`` or ``"cpu"``, as in the profile.

    Raises
    ------
    ValueError
        When ``"cuda"`` is wanted and is not there.
    """
    choice = choose_device(wanted)
    cuda = choice.device.type == "cuda"
    why_not = "the CPU was asked for" if wanted == "cpu" else choice.why
    dtype, reason = choose_precision(choice.device)
    precision = f"{str(dtype).removeprefix('torch.')}, as {reason}"
    order = [
        _tensorrt(name) if cuda else Attempt(name, False, why_not) for name in LIBRARIES
    ]
    order.append(_triton() if cuda else Attempt(TRITON, False, why_not))
    for name in ("torch in a CUDA graph", "torch on the card"):
        order.append(
            Attempt(name, cuda, f"{choice.why}; {precision}" if cuda else why_not)
        )
    last = "there is a card" if cuda else f"{why_not}; {precision}"
    return [*order, Attempt("torch on the CPU", not cuda, last)]


def _tensorrt(name: str) -> Attempt:
    try:
        card, library = find_card(), find_library(name)
        require_onnx()
    except EngineError as error:
        return Attempt(name, False, str(error))
    why = f"{library.version} on {card.name}; engines are built for each frame size"
    return Attempt(name, True, why, library, card)


def _triton() -> Attempt:
    try:
        card = find_card()
        version = require_triton(card)
    except EngineError as error:
        return Attempt(TRITON, False, str(error))
    why = f"{version} on {card.name}, for the proximal network; torch for the other"
    return Attempt(TRITON, True, why, card=card)
