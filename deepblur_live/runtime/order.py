"""Which ways there are to run the networks here, best first, and why or why not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deepblur_live.runtime.device import choose_device, choose_precision
from deepblur_live.runtime.export import require_onnx
from deepblur_live.runtime.tensorrt import (
    BACKENDS,
    EngineError,
    find_backend,
    find_card,
)

if TYPE_CHECKING:
    from deepblur_live.runtime.tensorrt import Backend, Card

__all__ = ["Attempt", "executor_order"]


@dataclass(frozen=True)
class Attempt:
    """One way to run the networks, in the order of preference.

    Parameters
    ----------
    name
        For a person.
    usable
        Whether it can be had here.
    why
        It can, or cannot.
    backend, card
        Of a TensorRT that can be had.
    """

    name: str
    usable: bool
    why: str
    backend: Backend | None = None
    card: Card | None = None


def executor_order(wanted: str = "auto") -> list[Attempt]:
    """Return the ways to run the networks, best first, and why each can be had or not.

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
    order = [_tensorrt(name, cuda=cuda, why_not=why_not) for name in BACKENDS]
    for name in ("torch in a CUDA graph", "torch on the card"):
        why = f"{choice.why}; {precision}" if cuda else why_not
        order.append(Attempt(name, cuda, why))
    last = "there is a card" if cuda else f"{why_not}; {precision}"
    return [*order, Attempt("torch on the CPU", not cuda, last)]


def _tensorrt(name: str, *, cuda: bool, why_not: str) -> Attempt:
    if not cuda:
        return Attempt(name, False, why_not)
    try:
        card, backend = find_card(), find_backend(name)
        require_onnx()
    except EngineError as error:
        return Attempt(name, False, str(error))
    why = f"{backend.version} on {card.name}; engines are built for each frame size"
    return Attempt(name, True, why, backend, card)
