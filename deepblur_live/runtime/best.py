"""The best executor available: engines that agree with torch, else torch."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from deepblur_live.runtime.device import (
    choose_device,
    has_lost_card,
    is_out_of_memory,
)
from deepblur_live.runtime.engines import engine_sources
from deepblur_live.runtime.executor import TorchExecutor
from deepblur_live.runtime.graph_executor import EngineExecutor, GraphExecutor
from deepblur_live.runtime.order import executor_order
from deepblur_live.runtime.tensorrt import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch

    from deepblur_live.blur import BlurFamily
    from deepblur_live.optics import NoiseModel
    from deepblur_live.runtime.graph_executor import PreparedExecutor
    from deepblur_live.runtime.pack import ModelPack

    _Shape = tuple[int, int]

__all__ = ["BestExecutor", "build_executor"]

_log = logging.getLogger(__name__)
_CLOSE_S = 15.0
_FULL = "the card's memory is full"


def build_executor(
    pack: ModelPack, family: BlurFamily, wanted: str = "auto"
) -> BestExecutor:
    """Return the best executor for a model here.

    Raises
    ------
    ValueError
        When ``"cuda"`` is requested and not available.
    """
    device = choose_device(wanted).device
    kind = GraphExecutor if device.type == "cuda" else TorchExecutor
    prepared: list[PreparedExecutor] = []
    for attempt in executor_order(wanted):
        if attempt.library is not None and attempt.card is not None:
            sources = engine_sources(pack, attempt.library, attempt.card, True)
            prepared += [EngineExecutor(pack, family, source) for source in sources]
        elif attempt.make is not None:
            prepared.append(attempt.make(pack, family, device))
    return BestExecutor(kind(pack, family, device), prepared)


class BestExecutor:
    """Uses the first executor that is ready and agrees with torch; else torch.

    Those for a new frame size are prepared and compared with torch in the background;
    until then torch is used. Executors that fail, differ from torch, or are distrusted
    later are dropped; those that work for one size and are not available for another
    are dropped for that size only. `take_notes` reports this, and builds.

    Parameters
    ----------
    reference
        Torch, which is always ready.
    prepared
        Engines and others that must be prepared, best first.
    """

    def __init__(
        self, reference: TorchExecutor, prepared: Iterable[PreparedExecutor] = ()
    ) -> None:
        self.reference = reference
        self._prepared = list(prepared)
        self._unavailable: set[tuple[PreparedExecutor, _Shape]] = set()
        # The thread that prepares an executor for a frame size, and why it failed.
        self._preparation: threading.Thread | None = None
        self._preparing: PreparedExecutor | None = None
        self._faults: dict[tuple[PreparedExecutor, _Shape], str] = {}
        self._closing = threading.Event()
        # Frame sizes whose build was reported.
        self._building: set[_Shape] = set()
        self._current: PreparedExecutor | None = None
        # The executor that was in use when the card was lost.
        self._last_used: PreparedExecutor | None = None
        self._notes: list[str] = []

    @property
    def device(self) -> torch.device:
        """The device of the tensors."""
        return self.reference.device

    @property
    def backend(self) -> TorchExecutor:
        """The executor that deblurred the last frame."""
        return self._current or self.reference

    def take_notes(self) -> list[str]:
        """Return the messages to the user since the last call."""
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
                if has_lost_card(error):
                    raise
                # It is not to blame for full memory.
                if not is_out_of_memory(error):
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
                    self._drop_size(current, _FULL, shape)
                else:
                    self.distrust(current, str(error))
        return self.reference.deblur(*frame)

    def distrust(self, backend: TorchExecutor, why: str) -> None:
        """Drop an executor whose result was wrong; the next best is used from then."""
        dropped = [executor for executor in self._prepared if executor is backend]
        for executor in dropped:
            self._prepared.remove(executor)
            self._stop_using(executor)
            executor.release()
            following = [executor.name for executor in self._prepared]
            following.append(self.reference.description)
            self._notes.append(
                f"{executor.name} is not used: {why}; instead {following[0]}"
            )

    def card_failed(self) -> None:
        """Count a failure of the card against the executor in use, if not torch.

        It also counts against one in preparation, which runs at the same time.
        """
        for executor in {self._last_used, self._preparing}:
            if executor is not None:
                executor.card_failed()

    def close(self) -> None:
        """End a preparation in progress."""
        self._closing.set()
        # Opening an engine may take longer than the program waits.
        for executor in self._prepared:
            executor.program_ends()
        if self._preparation is not None:
            self._preparation.join(_CLOSE_S)

    def _drop_size(self, executor: PreparedExecutor, why: str, shape: _Shape) -> None:
        """Stop using an executor for frames of (H, W)."""
        self._stop_using(executor)
        self._unavailable.add((executor, shape))
        executor.release_size(shape)
        self._notes.append(
            f"{executor.name} is not used for frames of {_sides(shape)}: {why}"
        )

    def _stop_using(self, executor: PreparedExecutor) -> None:
        if self._current is executor:
            self._current = None

    def _ready(self, shape: _Shape) -> PreparedExecutor | None:
        """Return the executor for frames of (H, W), or None if none is ready."""
        for executor in list(self._prepared):
            if (executor, shape) in self._unavailable:
                continue
            if executor.is_admitted(shape):
                if shape in self._building:
                    self._building.remove(shape)
                    name, sides = executor.name, _sides(shape)
                    self._notes.append(f"{name} is now used for frames of {sides}")
                return executor
            if self._preparation is not None and self._preparation.is_alive():
                # The build for another frame size continues: the camera may return to
                # that size.
                return None
            if (fault := self._faults.pop((executor, shape), None)) is None:
                # A daemon, as the build's process ends with this one.
                self._preparing = executor
                self._preparation = threading.Thread(
                    target=self._prepare,
                    args=(executor, shape),
                    name="engine preparation",
                    daemon=True,
                )
                self._preparation.start()
                return None
            # It is not to blame for full memory: a smaller size may fit.
            if executor.any_admitted or fault == _FULL:
                self._drop_size(executor, fault, shape)
            else:
                self.distrust(executor, fault)
        return None

    def _prepare(self, executor: PreparedExecutor, shape: _Shape) -> None:
        """Prepare an executor for frames of (H, W); keep what failed."""

        def progress(text: str) -> None:
            if self._closing.is_set():
                raise EngineError("stopped before the engine was ready")
            if shape not in self._building:
                self._building.add(shape)
                self._notes.append(
                    f"{executor.name}: engines for frames of {_sides(shape)} are being "
                    f"built ({text}), which may take minutes; until then frames are "
                    "processed by torch"
                )

        try:
            verdicts = executor.admit(shape, progress)
        except Exception as error:  # reported when the executor is asked for
            full = is_out_of_memory(error)
            self._faults[executor, shape] = _FULL if full else str(error) or repr(error)
        else:
            text = "; ".join(verdict.text for verdict in verdicts)
            _log.info("%s is ready: %s", executor.name, text)
        finally:
            self._preparing = None


def _sides(shape: _Shape) -> str:
    return f"{shape[0]} × {shape[1]}"
