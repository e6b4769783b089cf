"""Executors whose frames run on static buffers: torch's kernels, or engines."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import torch

from deepblur_live.deblurring import CompiledFista, UnrolledFista
from deepblur_live.identification import INPUT_SHAPE
from deepblur_live.runtime.engines import EngineFista, whole_shape
from deepblur_live.runtime.executor import TorchExecutor
from deepblur_live.runtime.graph import FrameGraph, apart_from_recordings
from deepblur_live.runtime.parity import compare, trial_frame, trial_spectra
from deepblur_live.runtime.tensorrt import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from deepblur_live.deblurring import FoldedFista
    from deepblur_live.optics import ZernikeFamily
    from deepblur_live.runtime.engine import Engine
    from deepblur_live.runtime.engines import EngineSource
    from deepblur_live.runtime.pack import ModelPack
    from deepblur_live.runtime.parity import Parity

__all__ = ["EngineExecutor", "GraphExecutor"]

# A rig switches between few frame sizes; each holds about twenty frames of memory.
_MOST_SHAPES = 3
_TRIAL_SIGMA = 0.01


class GraphExecutor(TorchExecutor):
    """Torch, each frame size as one CUDA graph.

    Where recording fails, `take_notes` says so, and frames run as ever.

    Parameters
    ----------
    pack, family, device, half
        As `TorchExecutor`.
    compiled
        Whether the proximal network is compiled: at the first frame of each size, for
        up to a minute.
    """

    def __init__(
        self,
        pack: ModelPack,
        family: ZernikeFamily,
        device: torch.device,
        *,
        half: bool | None = None,
        compiled: bool = False,
    ) -> None:
        super().__init__(pack, family, device, half=half)
        if compiled and isinstance(self._deblurring, UnrolledFista):
            self._folded = CompiledFista(self._deblurring, self.dtype)
        self._graphs: dict[tuple[int, int], FrameGraph] = {}
        self._psf: tuple[torch.Tensor, torch.Tensor] | None = None
        self._notes: list[str] = []

    @property
    def description(self) -> str:
        """What runs where."""
        recorded = any(graph.recorded for graph in self._graphs.values())
        return super().description + (", one CUDA graph a frame" if recorded else "")

    def take_notes(self) -> list[str]:
        """Return what the user should know since the last call."""
        notes, self._notes = self._notes, []
        return notes

    @torch.no_grad()
    def deblur(
        self, image: torch.Tensor, coefficients: torch.Tensor, sigma: float
    ) -> torch.Tensor:
        """Return the sharp (H, W), on the executor's device."""
        if self._folded is None:
            return super().deblur(image, coefficients, sigma)
        rows, columns = image.shape
        graph = self._graph_for((rows, columns))
        untold = not graph.why_not
        sharp = graph.run(image, self._psf_of(coefficients), sigma).clone()
        if graph.why_not and untold:
            self._notes.append(
                f"frames of {rows} × {columns} could not be recorded as a CUDA graph "
                f"({graph.why_not}); they run without, more slowly"
            )
        return sharp

    def _graph_for(self, shape: tuple[int, int]) -> FrameGraph:
        graph = self._graphs.get(shape)
        if graph is None:
            while len(self._graphs) >= _MOST_SHAPES:
                self._forget(next(iter(self._graphs)))
            graph = FrameGraph(
                self._fista_for(shape),
                shape,
                self._family.window,
                self._deblurring.proximal.shrink,
                self.device,
            )
            self._graphs[shape] = graph
        return graph

    def _forget(self, shape: tuple[int, int]) -> None:
        del self._graphs[shape]

    def _fista_for(self, shape: tuple[int, int]) -> FoldedFista:
        del shape
        assert self._folded is not None
        return self._folded

    def _psf_of(self, coefficients: torch.Tensor) -> torch.Tensor:
        # The tracked coefficients change only with an identification.
        if self._psf is None or not torch.equal(self._psf[0], coefficients):
            still = coefficients.float()
            if self.device.type == "cuda":
                # From page-locked memory it does not wait for the last frame.
                still = still.pin_memory()
            psf = self._family.psf(still.to(self.device, non_blocking=True))
            self._psf = coefficients.clone(), psf
        return self._psf[1]


class EngineExecutor(GraphExecutor):
    """TensorRT engines for both networks, inside the frame's graph.

    A frame size must be prepared, which may take minutes and can be done on another
    thread, and pass `check`, before frames of it come.

    Parameters
    ----------
    pack, family
        As `TorchExecutor`.
    source
        Of the engines.
    """

    def __init__(
        self, pack: ModelPack, family: ZernikeFamily, source: EngineSource
    ) -> None:
        super().__init__(pack, family, source.card.device)
        self._source = source
        self._fistas: dict[tuple[int, int], EngineFista] = {}
        self._answering: Engine | None = None
        # An engine is not for several threads. The pipeline asks from one, but nothing
        # holds whoever else uses this to it.
        self._one_answer = threading.Lock()

    @property
    def name(self) -> str:
        """Which TensorRT, in what precision, on what."""
        return self._source.name

    @property
    def description(self) -> str:
        """What runs where."""
        recorded = any(graph.recorded for graph in self._graphs.values())
        return self.name + (", one CUDA graph a frame" if recorded else "")

    @torch.no_grad()
    def prepare(
        self,
        shape: tuple[int, int],
        progress: Callable[[str], None],
        stopped: Callable[[], bool],
    ) -> None:
        """Get the engines for frames of (H, W), which have then run once.

        Raises
        ------
        EngineError
            When they cannot be had; the text says why.
        """
        if self._answering is None:
            self._answering = self._source.identification(progress, stopped)
        if shape not in self._fistas:
            network = self._source.network
            whole = whole_shape(shape, self._family.window, network.proximal.shrink)
            fista = EngineFista(
                network, self._source.proximal(whole, progress, stopped)
            )
            fista.fold(_TRIAL_SIGMA)
            if self.device.type == "cuda":
                # Frames run in other streams than this.
                with apart_from_recordings():
                    torch.cuda.synchronize(self.device)
            self._fistas[shape] = fista

    def card_failed(self) -> None:
        """Count a failure of the card against these engines."""
        self._source.card_failed()

    @property
    def serves_some(self) -> bool:
        """Whether it is prepared for frames of any size."""
        return bool(self._fistas)

    def check(self, shape: tuple[int, int], reference: TorchExecutor) -> list[Parity]:
        """Compare both networks with torch in float32, on a trial frame of (H, W).

        Parameters
        ----------
        shape
            Prepared before.
        reference
            Torch on the same device, in float32.

        Raises
        ------
        EngineError
            When an engine does not run.
        """
        spectra = trial_spectra((1, 2, *INPUT_SHAPE))
        image, still = trial_frame(shape), torch.zeros(self._family.n_coefficients)
        # Torch on a card convolves float32 in TF32, unless it is told not to.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            wanted = reference.answer(spectra)
            sharp = reference.deblur(image, still, _TRIAL_SIGMA)
        what = f"deblurring of {shape[0]} × {shape[1]}"
        return [
            compare("identification", self.answer(spectra), wanted),
            compare(what, self.deblur(image, still, _TRIAL_SIGMA), sharp),
        ]

    def is_prepared(self, shape: tuple[int, int]) -> bool:
        """Whether `prepare` has been done for frames of (H, W)."""
        return shape in self._fistas

    @torch.no_grad()
    def answer(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the identification engine's answer, on the CPU."""
        assert self._answering is not None, "prepare comes first"
        with self._one_answer:
            self._answering.bound("spectra").copy_(inputs)
            self._answering.enqueue()
            answer = self._answering.bound("answer").cpu()
        if not bool(torch.isfinite(answer).all()):
            raise EngineError("the identification engine's answer is not finite")
        return answer

    def _forget(self, shape: tuple[int, int]) -> None:
        super()._forget(shape)
        self._fistas.pop(shape, None)

    def _fista_for(self, shape: tuple[int, int]) -> FoldedFista:
        if shape not in self._fistas:
            rows, columns = shape
            raise EngineError(f"frames of {rows} × {columns} are not prepared")
        return self._fistas[shape]
