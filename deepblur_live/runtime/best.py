"""The best executor available: engines that agree with torch, else torch."""

from __future__ import annotations

import logging
import math
import threading
import time
from typing import TYPE_CHECKING

from deepblur_live.runtime.device import choose_device
from deepblur_live.runtime.engine_cache import EngineCache
from deepblur_live.runtime.engines import engine_sources
from deepblur_live.runtime.executor import TorchExecutor
from deepblur_live.runtime.graph_executor import EngineExecutor, GraphExecutor
from deepblur_live.runtime.order import executor_order
from deepblur_live.runtime.tensorrt import EngineError
from deepblur_live.runtime.triton_source import triton_sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import torch

    from deepblur_live.blur import BlurFamily
    from deepblur_live.optics import NoiseModel
    from deepblur_live.runtime.engines import EngineSource
    from deepblur_live.runtime.pack import ModelPack
    from deepblur_live.runtime.triton_source import TritonSource

__all__ = ["BestExecutor", "build_executor"]

_log = logging.getLogger(__name__)
_CLOSE_S = 15.0
# A build may take minutes: it is reported when it begins, and then this often.
_REPORT_EVERY_S = 15.0


def build_executor(
    pack: ModelPack, family: BlurFamily, wanted: str = "auto"
) -> BestExecutor:
    """Return the best executor for a model here.

    Raises
    ------
    ValueError
        When ``"cuda"`` is wanted and is not there.
    """
    device = choose_device(wanted).device
    kind = GraphExecutor if device.type == "cuda" else TorchExecutor
    sources: list[EngineSource | TritonSource] = []
    for attempt in executor_order(wanted):
        library, card = attempt.library, attempt.card
        if card is None:
            continue
        if library is None:
            sources += triton_sources(pack, card)
        else:
            sources += engine_sources(pack, library, card, EngineCache())
    engines = [EngineExecutor(pack, family, source) for source in sources]
    return BestExecutor(kind(pack, family, device), engines)


class BestExecutor:
    """Uses the first engines that are ready and agree with torch; else torch.

    Engines for a new frame size are prepared in the background, meanwhile torch is
    used. Engines that fail, differ from torch, or are distrusted later are dropped;
    those that work for one size and are not available for another are dropped for that
    size only. `take_notes` reports this, and the progress of builds.

    Parameters
    ----------
    reference
        Torch, which is always ready.
    engines
        Best first.
    clock
        Seconds, monotonic.
    """

    def __init__(
        self,
        reference: TorchExecutor,
        engines: Iterable[EngineExecutor] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.reference, self._clock = reference, clock
        self._all = tuple(engines)
        self._engines = list(self._all)
        self._unavailable: set[tuple[EngineExecutor, tuple[int, int]]] = set()
        self._preparation: _Preparation | None = None
        # Frame sizes whose build was reported, and when last.
        self._reported: dict[tuple[int, int], float] = {}
        self._current: EngineExecutor | None = None
        self._notes: list[str] = []

    @property
    def device(self) -> torch.device:
        """Where tensors go."""
        return self.reference.device

    @property
    def backend(self) -> TorchExecutor:
        """What deblurred the last frame."""
        return self._current or self.reference

    def take_notes(self) -> list[str]:
        """Return what the user should know since the last call."""
        for executor in (*self._engines, self.reference):
            self._notes += executor.notes
            executor.notes.clear()
        # The preparation adds notes from its own thread.
        return [self._notes.pop(0) for _ in range(len(self._notes))]

    def identify(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return coefficients (P,) and deviations (P,), on the CPU."""
        # Read once: a frame of another size may change it on another thread.
        current = self._current
        if current is not None:
            try:
                return current.identify(inputs)
            except RuntimeError as error:
                self.distrust(current, str(error))
        return self.reference.identify(inputs)

    def deblur(
        self,
        image: torch.Tensor,
        coefficients: torch.Tensor,
        covariance: torch.Tensor,
        noise: NoiseModel,
    ) -> torch.Tensor:
        """Return the sharp (H, W), as `TorchExecutor.deblur`."""
        frame = image, coefficients, covariance, noise
        current = self._current = self._ready((image.shape[-2], image.shape[-1]))
        if current is not None:
            try:
                return current.deblur(*frame)
            except RuntimeError as error:
                self.distrust(current, str(error))
        return self.reference.deblur(*frame)

    def distrust(self, backend: TorchExecutor, why: str) -> None:
        """Drop engines whose result was wrong; the next best are used from then on."""
        for engines in self._engines:
            if engines is backend:
                self._drop(engines, why)
                return

    def card_failed(self) -> None:
        """Count a failure of the card against all engines that were opened here.

        Which of them caused it is not known.
        """
        for engines in self._all:
            engines.card_failed()

    def close(self) -> None:
        """End a preparation in progress."""
        if self._preparation is not None:
            self._preparation.stop.set()
            self._preparation.join(_CLOSE_S)
            self._preparation = None

    def _drop(
        self, engines: EngineExecutor, why: str, shape: tuple[int, int] | None = None
    ) -> None:
        """Do not use engines any more, or only not for frames of (H, W)."""
        if shape is not None:
            self._unavailable.add((engines, shape))
            size = f"{shape[0]} × {shape[1]}"
            self._notes.append(
                f"{engines.name} is not used for frames of {size}: {why}"
            )
            return
        self._engines.remove(engines)
        if self._current is engines:
            self._current = None
        backend = self._engines[0].name if self._engines else self.reference.description
        self._notes.append(f"{engines.name} is not used: {why}; instead {backend}")

    def _ready(self, shape: tuple[int, int]) -> EngineExecutor | None:
        """Return the engines for frames of (H, W), or None while there are none."""
        for engines in list(self._engines):
            if (engines, shape) in self._unavailable:
                continue
            if engines.is_checked(shape):
                return engines
            if engines.is_prepared(shape):
                if self._passes(engines, shape):
                    return engines
            elif fault := self._prepare(engines, shape):
                self._drop(engines, fault, shape if engines.any_prepared else None)
            else:
                return None
        return None

    def _prepare(self, engines: EngineExecutor, shape: tuple[int, int]) -> str:
        """Make sure that a preparation is running; return why it failed, or nothing."""
        current = self._preparation
        if current is not None and current.is_alive():
            # Another size's is not ended: the camera may come back to it.
            return ""
        self._preparation = None
        if current is not None and (current.engines, current.shape) == (engines, shape):
            return current.fault
        self._preparation = _Preparation(engines, shape, self._report)
        self._preparation.start()
        return ""

    def _passes(self, engines: EngineExecutor, shape: tuple[int, int]) -> bool:
        try:
            verdicts = engines.check(shape)
        except RuntimeError as error:
            self._drop(engines, str(error))
            return False
        if self._reported.pop(shape, None) is not None:
            size = f"{shape[0]} × {shape[1]}"
            self._notes.append(f"{engines.name} is now used for frames of {size}")
        text = "; ".join(verdict.text for verdict in verdicts)
        _log.info("%s is used: %s", engines.name, text)
        return True

    def _report(
        self, engines: EngineExecutor, shape: tuple[int, int], text: str
    ) -> None:
        """Report the progress of a build now and then; called on its own thread."""
        now = self._clock()
        if now - self._reported.get(shape, -math.inf) < _REPORT_EVERY_S:
            return
        self._reported[shape] = now
        self._notes.append(
            f"{engines.name}: engines for frames of {shape[0]} × {shape[1]} are being "
            f"built ({text}); frames are processed by torch meanwhile"
        )


class _Preparation(threading.Thread):
    """Obtains the engines for one frame size."""

    def __init__(
        self,
        engines: EngineExecutor,
        shape: tuple[int, int],
        report: Callable[[EngineExecutor, tuple[int, int], str], None],
    ) -> None:
        # Not joined when the program ends: a build ends with its parent process.
        super().__init__(name="engine preparation", daemon=True)
        self.engines, self.shape, self._report = engines, shape, report
        self.stop = threading.Event()
        self.fault = ""

    def run(self) -> None:
        """Prepare the engines; keep what failed."""
        try:
            self.engines.prepare(self.shape, self._progress)
        except Exception as error:  # reported when the engines are asked for
            self.fault = str(error) or repr(error)

    def _progress(self, text: str) -> None:
        if self.stop.is_set():
            raise EngineError("stopped before the engine was ready")
        self._report(self.engines, self.shape, text)
