"""The best executor available: engines that agree with torch, else torch."""

from __future__ import annotations

import logging
import math
import threading
import time
from typing import TYPE_CHECKING

from deepblur_live.runtime.device import (
    choose_device,
    has_lost_card,
    is_out_of_memory,
)
from deepblur_live.runtime.engine_cache import EngineCache
from deepblur_live.runtime.engines import engine_sources
from deepblur_live.runtime.executor import TorchExecutor
from deepblur_live.runtime.graph_executor import EngineExecutor, GraphExecutor
from deepblur_live.runtime.order import executor_order
from deepblur_live.runtime.tensorrt import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import torch

    from deepblur_live.blur import BlurFamily
    from deepblur_live.optics import NoiseModel
    from deepblur_live.runtime.graph_executor import PreparedExecutor
    from deepblur_live.runtime.pack import ModelPack

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
    prepared: list[PreparedExecutor] = []
    for attempt in executor_order(wanted):
        if attempt.library is not None and attempt.card is not None:
            sources = engine_sources(
                pack,
                attempt.library,
                attempt.card,
                EngineCache(),
                beside_frames=True,
            )
            prepared += [EngineExecutor(pack, family, source) for source in sources]
        elif attempt.make is not None:
            prepared.append(attempt.make(pack, family, device))
    return BestExecutor(kind(pack, family, device), prepared)


class BestExecutor:
    """Uses the first executor that is ready and agrees with torch; else torch.

    Those for a new frame size are prepared and compared with torch in the background,
    meanwhile torch is used. Executors that fail, differ from torch, or are distrusted
    later are dropped; those that work for one size and are not available for another
    are dropped for that size only. `take_notes` reports this, and the progress of
    builds.

    Parameters
    ----------
    reference
        Torch, which is always ready.
    prepared
        Engines and others that must be prepared, best first.
    clock
        Seconds, monotonic.
    """

    def __init__(
        self,
        reference: TorchExecutor,
        prepared: Iterable[PreparedExecutor] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.reference, self._clock = reference, clock
        self._prepared = list(prepared)
        self._unavailable: set[tuple[PreparedExecutor, tuple[int, int]]] = set()
        self._preparation: _Preparation | None = None
        # Frame sizes whose build was reported, and when last.
        self._reported: dict[tuple[int, int], float] = {}
        self._current: PreparedExecutor | None = None
        # The executor that was in use when the card was lost.
        self._last_used: PreparedExecutor | None = None
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
        for executor in (*self._prepared, self.reference):
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
        shape = image.shape[-2], image.shape[-1]
        current = self._current = self._ready(shape)
        if current is not None:
            self._last_used = current
            try:
                return current.deblur(*frame)
            except RuntimeError as error:
                if has_lost_card(error):
                    raise
                if is_out_of_memory(error):
                    self._drop(current, "the card's memory is full", shape)
                else:
                    self.distrust(current, str(error))
        return self.reference.deblur(*frame)

    def distrust(self, backend: TorchExecutor, why: str) -> None:
        """Drop an executor whose result was wrong; the next best is used from then."""
        for executor in self._prepared:
            if executor is backend:
                self._drop(executor, why)
                return

    def card_failed(self) -> None:
        """Count a failure of the card against the executor in use, if not torch.

        And against one in preparation, which runs at the same time.
        """
        current = self._preparation
        preparing = None if current is None else current.executor
        for executor in {self._last_used, preparing} - {None}:
            assert executor is not None
            executor.card_failed()

    def close(self) -> None:
        """End a preparation in progress."""
        if self._preparation is not None:
            self._preparation.stop.set()
            self._preparation.join(_CLOSE_S)
            self._preparation = None

    def _drop(
        self,
        executor: PreparedExecutor,
        why: str,
        shape: tuple[int, int] | None = None,
    ) -> None:
        """Stop using an executor, altogether or for frames of (H, W) only."""
        if self._current is executor:
            self._current = None
        if shape is not None:
            self._unavailable.add((executor, shape))
            executor.release_size(shape)
            size = f"{shape[0]} × {shape[1]}"
            self._notes.append(
                f"{executor.name} is not used for frames of {size}: {why}"
            )
            return
        self._prepared.remove(executor)
        executor.release()
        backend = (
            self._prepared[0].name if self._prepared else self.reference.description
        )
        self._notes.append(f"{executor.name} is not used: {why}; instead {backend}")

    def _ready(self, shape: tuple[int, int]) -> PreparedExecutor | None:
        """Return the executor for frames of (H, W), or None while there is none."""
        for executor in list(self._prepared):
            if (executor, shape) in self._unavailable:
                continue
            if executor.is_admitted(shape):
                self._report_end(executor, shape)
                return executor
            if fault := self._prepare(executor, shape):
                self._drop(executor, fault, shape if executor.any_admitted else None)
            else:
                return None
        return None

    def _prepare(self, executor: PreparedExecutor, shape: tuple[int, int]) -> str:
        """Make sure that a preparation is running; return why it failed, or nothing."""
        current = self._preparation
        if current is not None and current.is_alive():
            # Another size's is not ended: the camera may come back to it.
            return ""
        self._preparation = None
        if current is not None and current.of == (executor, shape):
            return current.fault
        self._preparation = _Preparation(executor, shape, self._report)
        self._preparation.start()
        return ""

    def _report(
        self, executor: PreparedExecutor, shape: tuple[int, int], text: str
    ) -> None:
        """Report the progress of a build now and then; called on its own thread."""
        now = self._clock()
        if now - self._reported.get(shape, -math.inf) < _REPORT_EVERY_S:
            return
        self._reported[shape] = now
        self._notes.append(
            f"{executor.name}: engines for frames of {shape[0]} × {shape[1]} are being "
            f"built ({text}); frames are processed by torch meanwhile"
        )

    def _report_end(self, executor: PreparedExecutor, shape: tuple[int, int]) -> None:
        if self._reported.pop(shape, None) is not None:
            size = f"{shape[0]} × {shape[1]}"
            self._notes.append(f"{executor.name} is now used for frames of {size}")


class _Preparation(threading.Thread):
    """Prepares an executor for one frame size."""

    def __init__(
        self,
        executor: PreparedExecutor,
        shape: tuple[int, int],
        report: Callable[[PreparedExecutor, tuple[int, int], str], None],
    ) -> None:
        # Not joined when the program ends: a build ends with its parent process.
        super().__init__(name="engine preparation", daemon=True)
        self.executor, self.of, self._report = executor, (executor, shape), report
        self.stop = threading.Event()
        self.fault = ""

    def run(self) -> None:
        """Prepare it; keep what failed."""
        executor, shape = self.of
        try:
            verdicts = executor.admit(shape, self._progress)
        except Exception as error:  # reported when the executor is asked for
            self.fault = str(error) or repr(error)
        else:
            text = "; ".join(verdict.text for verdict in verdicts)
            _log.info("%s is ready: %s", executor.name, text)

    def _progress(self, text: str) -> None:
        if self.stop.is_set():
            raise EngineError("stopped before the engine was ready")
        self._report(*self.of, text)
