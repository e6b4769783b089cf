"""The best executor there is: engines where they can be had and agree, else torch."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deepblur_live.runtime.engine_cache import EngineCache
from deepblur_live.runtime.engines import EngineSource
from deepblur_live.runtime.executor import TorchExecutor, choose_device
from deepblur_live.runtime.graph_executor import EngineExecutor, GraphExecutor
from deepblur_live.runtime.tensorrt import (
    BACKENDS,
    EngineError,
    find_backend,
    find_card,
)

if TYPE_CHECKING:
    import torch

    from deepblur_live.optics import ZernikeFamily
    from deepblur_live.runtime.pack import ModelPack
    from deepblur_live.runtime.tensorrt import Backend, Card

__all__ = ["Attempt", "BestExecutor", "build_executor", "executor_order"]

_log = logging.getLogger(__name__)
_CLOSE_S = 15.0


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
    order = [_tensorrt(name, cuda=cuda, why_not=why_not) for name in BACKENDS]
    for name in ("torch in a CUDA graph", "torch on the card"):
        order.append(Attempt(name, cuda, choice.why if cuda else why_not))
    last = "there is a card" if cuda else why_not
    return [*order, Attempt("torch on the CPU", not cuda, last)]


def _tensorrt(name: str, *, cuda: bool, why_not: str) -> Attempt:
    if not cuda:
        return Attempt(name, False, why_not)
    try:
        card, backend = find_card(), find_backend(name)
    except EngineError as error:
        return Attempt(name, False, str(error))
    why = f"{backend.version} on {card.name}; engines are built for each frame size"
    return Attempt(name, True, why, backend, card)


def build_executor(
    pack: ModelPack, family: ZernikeFamily, wanted: str = "auto"
) -> BestExecutor:
    """Return the best executor for a model here.

    Raises
    ------
    ValueError
        When ``"cuda"`` is wanted and is not there.
    """
    order = executor_order(wanted)
    device = choose_device(wanted).device
    kind = GraphExecutor if device.type == "cuda" else TorchExecutor
    best = BestExecutor(kind(pack, family, device), pack, family)
    for attempt in order:
        if attempt.backend is not None and attempt.card is not None:
            try:
                source = EngineSource(
                    pack, attempt.backend, attempt.card, EngineCache()
                )
            except EngineError as error:
                best.tell(str(error))
            else:
                best.add(EngineExecutor(pack, family, source))
    return best


class BestExecutor:
    """Serves by the first engines that are ready and agree with torch; else by torch.

    A frame size that is new is prepared in the background, while torch serves. What
    fails, differs from torch, or is distrusted later is left for good, which
    `take_notes` tells.

    Parameters
    ----------
    fallback
        Torch, which is always ready.
    pack, family
        As `TorchExecutor`.
    """

    def __init__(
        self, fallback: TorchExecutor, pack: ModelPack, family: ZernikeFamily
    ) -> None:
        self._fallback, self._pack, self._family = fallback, pack, family
        self._engines: list[EngineExecutor] = []
        self._admitted: set[tuple[int, int]] = set()
        self._preparation: _Preparation | None = None
        self._notes: list[str] = []
        self._serving: EngineExecutor | None = None

    def add(self, engines: EngineExecutor) -> None:
        """Add engines, to be used where those added before cannot be."""
        self._engines.append(engines)

    def tell(self, note: str) -> None:
        """Add a note for the user."""
        # Two TensorRTs may have the same to say.
        if note not in self._notes:
            self._notes.append(note)

    @property
    def device(self) -> torch.device:
        """Where tensors go."""
        return self._fallback.device

    @property
    def description(self) -> str:
        """What served the last frame."""
        return (self._serving or self._fallback).description

    def take_notes(self) -> list[str]:
        """Return what went wrong since the last call, for the user to read."""
        notes, self._notes = self._notes, []
        for executor in (*self._engines, self._fallback):
            notes += executor.take_notes()
        return notes

    def identify(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return coefficients (P,) and deviations (P,), on the CPU."""
        if self._serving is not None:
            try:
                return self._serving.identify(inputs)
            except RuntimeError as error:
                self.distrust(str(error))
        return self._fallback.identify(inputs)

    def deblur(
        self, image: torch.Tensor, coefficients: torch.Tensor, sigma: float
    ) -> torch.Tensor:
        """Return the sharp (H, W), on the executor's device."""
        self._serving = self._ready((image.shape[-2], image.shape[-1]))
        if self._serving is not None:
            try:
                return self._serving.deblur(image, coefficients, sigma)
            except RuntimeError as error:
                self.distrust(str(error))
        return self._fallback.deblur(image, coefficients, sigma)

    def second_opinion(
        self, image: torch.Tensor, coefficients: torch.Tensor, sigma: float
    ) -> torch.Tensor | None:
        """Return what torch makes of the frame; None where torch made it already."""
        if self._serving is None:
            return None
        return self._fallback.deblur(image, coefficients, sigma)

    def distrust(self, why: str) -> None:
        """Leave the engines that serve now; the next best are used from then on."""
        if self._serving is not None:
            self._leave(self._serving, why)

    def close(self) -> None:
        """End a preparation that is under way."""
        if self._preparation is not None:
            self._preparation.stop()
            self._preparation.join(_CLOSE_S)
            self._preparation = None

    def _leave(self, engines: EngineExecutor, why: str) -> None:
        self._engines.remove(engines)
        self._admitted.clear()
        self._serving = None
        after = self._engines[0].name if self._engines else self._fallback.description
        self.tell(f"{engines.name} is not used: {why}; instead {after}")

    def _ready(self, shape: tuple[int, int]) -> EngineExecutor | None:
        """Return the engines for frames of (H, W), or None while there are none."""
        while self._engines:
            best = self._engines[0]
            if best.is_prepared(shape) and shape in self._admitted:
                return best
            if best.is_prepared(shape):
                self._admit(best, shape)
            elif fault := self._prepare(best, shape):
                self._leave(best, fault)
            else:
                return None
        return None

    def _prepare(self, engines: EngineExecutor, shape: tuple[int, int]) -> str:
        """See that a preparation is under way; return why it failed, or nothing."""
        current = self._preparation
        if current is not None and current.running:
            # Another size's goes on to its end too: the camera may come back to it.
            return ""
        if current is not None and current.fault:
            self._preparation = None
            if (current.engines, current.shape) == (engines, shape):
                return current.fault
        # What is loaded again is compared again.
        self._admitted.discard(shape)
        self._preparation = _Preparation(engines, shape)
        return ""

    def _admit(self, engines: EngineExecutor, shape: tuple[int, int]) -> None:
        reference = TorchExecutor(self._pack, self._family, self.device, half=False)
        try:
            verdicts = engines.check(shape, reference)
        except RuntimeError as error:
            self._leave(engines, str(error))
            return
        failed = [verdict.text for verdict in verdicts if not verdict.passed]
        if failed:
            self._leave(engines, "; ".join(failed))
            return
        self._admitted.add(shape)
        told = "; ".join(verdict.text for verdict in verdicts)
        _log.info("%s serves: %s", engines.name, told)


class _Preparation:
    """Gets the engines for one frame size, on a thread of its own."""

    def __init__(self, engines: EngineExecutor, shape: tuple[int, int]) -> None:
        self.engines, self.shape = engines, shape
        self.fault = ""
        self._stop = threading.Event()
        # Not to be waited for when the program ends: a build ends with its parent.
        self._thread = threading.Thread(
            target=self._run, name="engine preparation", daemon=True
        )
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        self._stop.set()

    def join(self, timeout: float) -> None:
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            self.engines.prepare(self.shape, self._tell, self._stop.is_set)
        except Exception as error:  # told where the engine is asked for
            self.fault = str(error) or repr(error)

    def _tell(self, text: str) -> None:
        _log.info("%s", text)
