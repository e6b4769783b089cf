"""The ways to run the networks here, best first, each usable or not, and why."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from deepblur_live.runtime.compiled_executor import CompiledExecutor, why_no_compiler
from deepblur_live.runtime.device import choose_device, choose_precision
from deepblur_live.runtime.export import require_onnx
from deepblur_live.runtime.tensorrt import (
    LIBRARIES,
    EngineError,
    find_card,
    find_library,
)
from deepblur_live.runtime.triton_executor import TritonExecutor, why_no_triton

if TYPE_CHECKING:
    from collections.abc import Callable

    from deepblur_live.blur import BlurFamily
    from deepblur_live.runtime.graph_executor import PreparedExecutor
    from deepblur_live.runtime.pack import ModelPack
    from deepblur_live.runtime.tensorrt import Card, Library

    Make = Callable[[ModelPack, BlurFamily, torch.device], PreparedExecutor]

__all__ = ["Attempt", "executor_order"]

# Proximal networks for a card other than TensorRT's, best first: name, why it is not
# available ("" if it is), and its constructor.
_KERNELS: tuple[tuple[str, Callable[[], str], Make], ...] = (
    ("Triton kernels in a CUDA graph", why_no_triton, TritonExecutor),
    (
        "Triton kernels in a CUDA graph, bfloat16",
        why_no_triton,
        partial(TritonExecutor, dtype=torch.bfloat16),
    ),
    ("compiled torch in a CUDA graph", why_no_compiler, CompiledExecutor),
)


@dataclass(frozen=True)
class Attempt:
    """One way to run the networks, in the order of preference.

    Parameters
    ----------
    name
        Name, for the user.
    usable
        Whether it is available here.
    why
        Why it is usable, or is not.
    library, card
        A TensorRT library that is available, and its card.
    make
        Constructor of another executor that is available and must be prepared.
    """

    name: str
    usable: bool
    why: str
    library: Library | None = None
    card: Card | None = None
    make: Make | None = None

    @property
    def must_be_prepared(self) -> bool:
        """Whether it is only known at the first frame of a size if it is used."""
        return self.library is not None or self.make is not None


def executor_order(wanted: str = "auto") -> list[Attempt]:
    """Return the ways to run the networks, best first, and why or why not.

    Whether an engine or a compiled network can be built and agrees with torch is only
    known at the first frame of its size.

    Parameters
    ----------
    wanted
        ``"auto"``, ``"cuda"`` or ``"cpu"``, as in the profile.

    Raises
    ------
    ValueError
        When ``"cuda"`` is requested and not available.
    """
    choice = choose_device(wanted)
    cuda = choice.device.type == "cuda"
    why_not = "the CPU was requested" if wanted == "cpu" else choice.why
    dtype, reason = choose_precision(choice.device)
    precision = f"{str(dtype).removeprefix('torch.')}, as {reason}"
    order = [
        _tensorrt(name) if cuda else Attempt(name, False, why_not) for name in LIBRARIES
    ]
    for name, why_not_here, make in _KERNELS:
        missing = why_not_here() if cuda else why_not
        why = missing or f"{choice.why}; compiled for each frame size"
        order.append(Attempt(name, not missing, why, make=None if missing else make))
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
