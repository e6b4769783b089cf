"""The best executor there is: engines where they can be had and agree, else torch."""

from __future__ import annotations

import logging
import math
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from deepblur_live.runtime.device import choose_device
from deepblur_live.runtime.engine_cache import EngineCache
from deepblur_live.runtime.engines import engine_sources
from deepblur_live.runtime.executor import TorchExecutor
from deepblur_live.runtime.graph_executor import EngineExecutor, GraphExecutor
from deepblur_live.runtime.order import executor_order
from deepblur_live.runtime.tensorrt import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from deepblur_live.optics import ZernikeFamily
    from deepblur_live.runtime.executor import Server
    from deepblur_live.runtime.pack import ModelPack

__all__ = ["BestExecutor", "build_executor"]

_log = logging.getLogger(__name__)
_CLOSE_S = 15.0
# A build may take minutes: it is told when it begins, and then so often.
_TELL_EVERY_S = 15.0


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
                sources = engine_sources(
                    pack, attempt.backend, attempt.card, EngineCache()
                )
            except EngineError as error:
                best.tell(str(error))
                continue
            for source in sources:
                best.add(EngineExecutor(pack, family, source))
    return best


class BestExecutor:
    """Serves by the first engines that are ready and agree with torch; else by torch.

    A frame size that is new is prepared in the background, while torch serves. What
    fails, differs from torch, or is distrusted later is left for good; but engines that
    serve one size and cannot be had for another are left for that one only.
    `take_notes` tells of that, and how far a build is.

    Parameters
    ----------
    fallback
        Torch, which is always ready.
    pack, family
        As `TorchExecutor`.
    clock
        Seconds, monotonic: a build is told of now and then.
    """

    def __init__(
        self,
        fallback: TorchExecutor,
        pack: ModelPack,
        family: ZernikeFamily,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fallback, self._pack, self._family = fallback, pack, family
        self._clock = clock
        # Frame sizes whose build was told of, and when last.
        self._told_at: dict[tuple[int, int], float] = {}
        self._engines: list[EngineExecutor] = []
        self._added: list[EngineExecutor] = []
        self._admitted: set[tuple[int, int]] = set()
        self._lacking: set[tuple[EngineExecutor, tuple[int, int]]] = set()
        self._preparation: _Preparation | None = None
        self._notes: list[str] = []
        self._serving: EngineExecutor | None = None

    def add(self, engines: EngineExecutor) -> None:
        """Add engines, to be used where those added before cannot be."""
        self._engines.append(engines)
        self._added.append(engines)

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
        """What served the last frame, in words."""
        return self.server.description

    @property
    def server(self) -> Server:
        """What served the last frame."""
        return self._serving or self._fallback

    @property
    def reference(self) -> Server:
        """Torch."""
        return self._fallback

    def take_notes(self) -> list[str]:
        """Return what the user should know since the last call."""
        # A build adds to them meanwhile, from its own thread.
        notes = [self._notes.pop(0) for _ in range(len(self._notes))]
        for executor in (*self._engines, self._fallback):
            notes += executor.take_notes()
        return notes

    def identify(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return coefficients (P,) and deviations (P,), on the CPU."""
        # Looked at once: on another thread a frame's size could change it meanwhile.
        serving = self._serving
        if serving is not None:
            try:
                return serving.identify(inputs)
            except RuntimeError as error:
                self.distrust(serving, str(error))
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
                self.distrust(self._serving, str(error))
        return self._fallback.deblur(image, coefficients, sigma)

    def second_opinion(
        self,
        image: torch.Tensor,
        coefficients: torch.Tensor,
        sigma: float,
        server: Server,
    ) -> torch.Tensor | None:
        """Return what torch makes of a server's frame; None where torch made it."""
        if server is self._fallback:
            return None
        return self._fallback.deblur(image, coefficients, sigma)

    def distrust(self, server: Server, why: str) -> None:
        """Leave engines that have served; the next best are used from then on.

        Of those that were left meanwhile nothing more is told.
        """
        for engines in self._engines:
            if engines is server:
                self._leave(engines, why)
                return

    def card_failed(self) -> None:
        """Count a failure of the card against all engines that were opened here.

        Which of them it was cannot be told any more.
        """
        for engines in self._added:
            engines.card_failed()

    def close(self) -> None:
        """End a preparation that is under way."""
        if self._preparation is not None:
            self._preparation.stop()
            self._preparation.join(_CLOSE_S)
            self._preparation = None

    def _leave(self, engines: EngineExecutor, why: str) -> None:
        self._engines.remove(engines)
        self._admitted.clear()
        if self._serving is engines:
            self._serving = None
        after = self._engines[0].name if self._engines else self._fallback.description
        self.tell(f"{engines.name} is not used: {why}; instead {after}")

    def _ready(self, shape: tuple[int, int]) -> EngineExecutor | None:
        """Return the engines for frames of (H, W), or None while there are none."""
        while usable := [e for e in self._engines if (e, shape) not in self._lacking]:
            best = usable[0]
            if best.is_prepared(shape) and shape in self._admitted:
                return best
            if best.is_prepared(shape):
                self._admit(best, shape)
            elif fault := self._prepare(best, shape):
                self._lack(best, shape, fault)
            else:
                return None
        return None

    def _lack(self, engines: EngineExecutor, shape: tuple[int, int], why: str) -> None:
        if not engines.serves_some:
            self._leave(engines, why)
            return
        self._lacking.add((engines, shape))
        sides = f"{shape[0]} × {shape[1]}"
        self.tell(f"{engines.name} is not used for frames of {sides}: {why}")

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
        self._preparation = _Preparation(engines, shape, self._progress)
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
        if shape in self._told_at:
            # Who was told of a build wants to hear of its end; a cached one is silent.
            del self._told_at[shape]
            self.tell(f"{engines.name} serves frames of {shape[0]} × {shape[1]} now")
        told = "; ".join(verdict.text for verdict in verdicts)
        _log.info("%s serves: %s", engines.name, told)

    def _progress(
        self, engines: EngineExecutor, shape: tuple[int, int], text: str
    ) -> None:
        """Tell now and then how far a build is; called on its own thread."""
        _log.info("%s", text)
        now = self._clock()
        if now - self._told_at.get(shape, -math.inf) >= _TELL_EVERY_S:
            self._told_at[shape] = now
            self.tell(
                f"{engines.name}: engines for frames of {shape[0]} × {shape[1]} are "
                f"being built ({text}); frames go on meanwhile"
            )


class _Preparation:
    """Gets the engines for one frame size, on a thread of its own."""

    def __init__(
        self,
        engines: EngineExecutor,
        shape: tuple[int, int],
        progress: Callable[[EngineExecutor, tuple[int, int], str], None],
    ) -> None:
        self.engines, self.shape = engines, shape
        self.fault = ""
        self._progress = partial(progress, engines, shape)
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
            self.engines.prepare(self.shape, self._progress, self._stop.is_set)
        except Exception as error:  # told where the engine is asked for
            self.fault = str(error) or repr(error)
