"""Executors whose frames run on static buffers, and those that must be prepared."""

from __future__ import annotations

import contextlib
import threading
from abc import abstractmethod
from typing import TYPE_CHECKING

import torch

from deepblur_live.identification import INPUT_SHAPE
from deepblur_live.runtime.engines import EngineFista
from deepblur_live.runtime.executor import TorchExecutor, extended_shape
from deepblur_live.runtime.graph import (
    FrameGraph,
    no_recording,
    recording_if_free,
    return_memory,
    synchronize,
    wait,
)
from deepblur_live.runtime.parity import (
    compare,
    trial_frame,
    trial_noise,
    trial_spectra,
)
from deepblur_live.runtime.tensorrt import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deepblur_live.blur import BlurFamily
    from deepblur_live.deblurring import FoldedFista
    from deepblur_live.optics import NoiseModel
    from deepblur_live.runtime.engine import Engine
    from deepblur_live.runtime.engines import EngineSource
    from deepblur_live.runtime.pack import ModelPack
    from deepblur_live.runtime.parity import Parity

__all__ = ["EngineExecutor", "GraphExecutor", "PreparedExecutor"]

# A rig switches between few frame sizes; each holds about twenty frames of memory.
_MAX_SHAPES = 3
_TRIAL_SIGMA = 0.01


class GraphExecutor(TorchExecutor):
    """Torch, each frame size as one CUDA graph.

    Where recording fails, `notes` says so, and frames run without a graph.

    Parameters
    ----------
    pack, family, device, half
        As `TorchExecutor`.
    """

    def __init__(
        self,
        pack: ModelPack,
        family: BlurFamily,
        device: torch.device,
        *,
        half: bool | None = None,
    ) -> None:
        super().__init__(pack, family, device, half=half)
        self._graphs: dict[tuple[int, int], FrameGraph] = {}
        # Not used any more, but the card may still be processing frames with them.
        self._retired: list[object] = []

    @property
    def name(self) -> str:
        """Version, device, precision and weights."""
        return super().description

    @property
    def description(self) -> str:
        """The name, and whether frames run as a CUDA graph."""
        # Another thread may be adding a size.
        recorded = any(graph.parts.graphs for graph in list(self._graphs.values()))
        return self.name + (", one CUDA graph per frame" if recorded else "")

    def deblur(
        self,
        image: torch.Tensor,
        coefficients: torch.Tensor,
        covariance: torch.Tensor,
        noise: NoiseModel,
    ) -> torch.Tensor:
        """Return the sharp (H, W), as `TorchExecutor.deblur`."""
        rows, columns = image.shape
        graph = self._graph_for((rows, columns))
        unreported = not graph.parts.why_not
        kernels = self._kernels_of(coefficients, covariance)
        sharp = graph.run(image, kernels, noise).clone()
        if graph.parts.why_not and unreported:
            self.notes.append(
                f"frames of {rows} × {columns} could not be recorded as a CUDA graph "
                f"({graph.parts.why_not}); they run without one, more slowly"
            )
        return sharp

    def _graph_for(self, shape: tuple[int, int]) -> FrameGraph:
        graph = self._graphs.get(shape)
        if graph is None:
            while len(self._graphs) >= _MAX_SHAPES:
                self._forget(next(iter(self._graphs)))
            graph = FrameGraph(
                self._fista_for(shape),
                shape,
                self._family,
                self._deblurring.proximal.shrink,
                self.device,
            )
            self._graphs[shape] = graph
        return graph

    def _forget(self, shape: tuple[int, int]) -> None:
        self._retire(self._graphs.pop(shape, None))

    def _retire(self, *parts: object) -> None:
        """Free what is not used any more, once the card has finished its frames.

        While an engine is compiled or a graph is recorded, which may take a minute, the
        card cannot be waited for: they are freed the next time.
        """
        self._retired += parts
        with recording_if_free() as free:
            if free:
                # Another thread may retire more in the meantime.
                finished = len(self._retired)
                with contextlib.suppress(RuntimeError):  # a lost card
                    synchronize(self.device)
                del self._retired[:finished]
        return_memory(self.device)

    def _fista_for(self, shape: tuple[int, int]) -> FoldedFista:
        del shape
        return self._folded


class PreparedExecutor(GraphExecutor):
    """An executor that must be prepared for each frame size, and agree with torch.

    `admit` does both, may take minutes, and can be called on another thread; frames of
    that size may come afterwards. A subclass gives the iterations for one size
    (`_make_fista`), which are recorded in the frame's graph.

    Parameters
    ----------
    pack, family, device
        As `TorchExecutor`.
    """

    def __init__(
        self, pack: ModelPack, family: BlurFamily, device: torch.device
    ) -> None:
        super().__init__(pack, family, device)
        self._pack = pack
        self._fistas: dict[tuple[int, int], FoldedFista] = {}
        self._admitted: set[tuple[int, int]] = set()
        self._released = False

    @property
    def any_admitted(self) -> bool:
        """Whether frames of any size have been admitted."""
        return bool(self._admitted)

    def is_admitted(self, shape: tuple[int, int]) -> bool:
        """Whether frames of (H, W) have been admitted."""
        return shape in self._admitted

    def admit(
        self, shape: tuple[int, int], progress: Callable[[str], None]
    ) -> list[Parity]:
        """Prepare for frames of (H, W), and compare a trial frame with torch's.

        Parameters
        ----------
        shape
            (H, W).
        progress
            Called several times a second while something is built; an exception raised
            there ends it.

        Raises
        ------
        EngineError
            When that is not possible, or the result differs from torch's; the text says
            why.
        """
        self.prepare(shape, progress)
        verdicts = self._compare(shape)
        if failed := [verdict.text for verdict in verdicts if not verdict.passed]:
            raise EngineError("; ".join(failed))
        # Frames run in other streams than this.
        wait(self.device)
        if self._released:
            self.release()
            raise EngineError("it has been rejected in the meantime")
        self._admitted.add(shape)
        return verdicts

    @torch.no_grad()
    def prepare(self, shape: tuple[int, int], progress: Callable[[str], None]) -> None:
        """Prepare for frames of (H, W); the first half of `admit`."""
        if shape in self._fistas:
            return
        fold = self._deblurring.proximal.shrink
        extended = extended_shape(shape, self._family.window, fold)
        try:
            self._fistas[shape] = self._make_fista(extended, progress)
        except EngineError:
            raise
        except Exception as error:  # a compiler that is missing fails in many ways
            first = next(iter(str(error).strip().splitlines()), repr(error))
            raise EngineError(f"it could not be compiled: {first}") from error

    @abstractmethod
    def _make_fista(
        self, shape: tuple[int, int], progress: Callable[[str], None]
    ) -> FoldedFista:
        """Return the iterations for frames of `extended_shape` (H, W).

        Code in it that synchronizes with the card must do so within `no_recording`.
        """

    @torch.no_grad()
    def _run_once(self, fista: FoldedFista, shape: tuple[int, int]) -> None:
        """Run the proximal network once, which compiles its kernels."""
        flat = torch.zeros(1, *shape, device=self.device)
        # Compilers time their kernels, and a frame's recording would fail.
        with no_recording():
            fista.prepare(flat, flat.new_full((1,), _TRIAL_SIGMA))
            fista.proximal(flat, 0)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)

    def _compare(self, shape: tuple[int, int]) -> list[Parity]:
        """Compare with torch in float32, which also records the trial frame's graph."""
        reference = TorchExecutor(self._pack, self._family, self.device, half=False)
        count = self._family.n_coefficients
        frame = (
            trial_frame(shape),
            torch.zeros(count),
            torch.zeros(count, count),
            trial_noise(),
        )
        with exactly():
            sharp = reference.deblur(*frame)
        what = f"deblurring of {shape[0]} × {shape[1]}"
        return [compare(what, self.deblur(*frame), sharp)]

    def card_failed(self) -> None:
        """Count a failure of the card, if failures are stored."""

    def program_ends(self) -> None:
        """Do not count the end of the program as a failure, if failures are stored."""

    def release(self) -> None:
        """Free the card's memory: the executor is no longer used."""
        self._released = True
        parts = (*self._graphs.values(), *self._fistas.values())
        self._graphs.clear()
        self._fistas.clear()
        self._admitted.clear()
        self._retire(*parts)

    def release_size(self, shape: tuple[int, int]) -> None:
        """Free the memory for frames of (H, W)."""
        if shape in self._graphs or shape in self._fistas:
            self._forget(shape)

    def _forget(self, shape: tuple[int, int]) -> None:
        self._admitted.discard(shape)
        self._retire(self._graphs.pop(shape, None), self._fistas.pop(shape, None))

    def _fista_for(self, shape: tuple[int, int]) -> FoldedFista:
        if shape not in self._fistas:
            rows, columns = shape
            raise EngineError(f"frames of {rows} × {columns} are not prepared")
        return self._fistas[shape]


@contextlib.contextmanager
def exactly() -> Iterator[None]:
    """Enclose steps without TF32, torch's default for convolutions on a card.

    The setting applies to all threads, so recording is prevented in the meantime.
    """
    with no_recording(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


class EngineExecutor(PreparedExecutor):
    """TensorRT engines for both networks, the proximal one inside the frame's graph.

    Parameters
    ----------
    pack, family
        As `TorchExecutor`.
    source
        Source of the engines.
    """

    def __init__(
        self, pack: ModelPack, family: BlurFamily, source: EngineSource
    ) -> None:
        super().__init__(pack, family, source.card.device)
        self._source = source
        self._identifier: Engine | None = None
        # An engine is not thread-safe, and callers may use several threads.
        self._identifying = threading.Lock()

    @property
    def name(self) -> str:
        """Library, precision and card."""
        return self._source.name

    @property
    def description(self) -> str:
        """The name, whether frames run as a CUDA graph, and the weights."""
        return f"{super().description}, {self._weights} weights"

    def _make_fista(
        self, shape: tuple[int, int], progress: Callable[[str], None]
    ) -> FoldedFista:
        if self._identifier is None:
            self._identifier = self._source.identification(progress)
        engine = self._source.proximal(shape, progress)
        return EngineFista(self._deblurring, engine)

    def _compare(self, shape: tuple[int, int]) -> list[Parity]:
        reference = TorchExecutor(self._pack, self._family, self.device, half=False)
        spectra = trial_spectra((1, 2, *INPUT_SHAPE))
        with exactly():
            output = reference.identification_output(spectra)
        found = compare("identification", self.identification_output(spectra), output)
        return [found, *super()._compare(shape)]

    def card_failed(self) -> None:
        """Count a failure of the card against these engines."""
        self._source.card_failed()

    def program_ends(self) -> None:
        """Do not count engines that are being opened as failed."""
        self._source.cache.program_ends()

    @torch.no_grad()
    def identification_output(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the identification engine's output, on the CPU."""
        with self._identifying:
            if self._identifier is None:
                raise EngineError("the identification engine is not prepared")
            self._identifier.bound["spectra"].copy_(inputs)
            self._identifier.enqueue()
            output = self._identifier.bound["output"].cpu()
        if not bool(torch.isfinite(output).all()):
            raise EngineError("the identification engine's output is not finite")
        return output

    def release(self) -> None:
        """Free the card's memory: the executor is no longer used."""
        with self._identifying:
            self._identifier = None
        super().release()
