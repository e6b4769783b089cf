"""Executors whose frames run on static buffers: torch's kernels, or engines."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import torch

from deepblur_live.deblurring import CompiledFista
from deepblur_live.identification import INPUT_SHAPE
from deepblur_live.runtime.executor import TorchExecutor, extended_shape
from deepblur_live.runtime.graph import FrameGraph, no_recording
from deepblur_live.runtime.parity import (
    compare,
    trial_frame,
    trial_noise,
    trial_spectra,
)
from deepblur_live.runtime.tensorrt import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from deepblur_live.blur import BlurFamily
    from deepblur_live.deblurring import FoldedFista
    from deepblur_live.optics import NoiseModel
    from deepblur_live.runtime.engine import Engine
    from deepblur_live.runtime.engines import EngineSource
    from deepblur_live.runtime.pack import ModelPack
    from deepblur_live.runtime.parity import Parity
    from deepblur_live.runtime.triton_source import TritonSource

__all__ = ["EngineExecutor", "GraphExecutor"]

# A rig switches between few frame sizes; each holds about twenty frames of memory.
_MAX_SHAPES = 3


class GraphExecutor(TorchExecutor):
    """Torch, each frame size as one CUDA graph.

    Where recording fails, `notes` says so, and frames run without a graph.

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
        family: BlurFamily,
        device: torch.device,
        *,
        half: bool | None = None,
        compiled: bool = False,
    ) -> None:
        super().__init__(pack, family, device, half=half)
        if compiled:
            self._folded = CompiledFista(self._deblurring, self.dtype)
        self._graphs: dict[tuple[int, int], FrameGraph] = {}

    @property
    def name(self) -> str:
        """What runs where."""
        return super().description

    @property
    def description(self) -> str:
        """What runs where, and whether as a CUDA graph."""
        recorded = any(graph.recorded for graph in self._graphs.values())
        return self.name + (", one CUDA graph a frame" if recorded else "")

    @torch.no_grad()
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
        unreported = not graph.why_not
        kernels = self._kernels_of(coefficients, covariance)
        sharp = graph.run(image, kernels, noise).clone()
        if graph.why_not and unreported:
            self.notes.append(
                f"frames of {rows} × {columns} could not be recorded as a CUDA graph "
                f"({graph.why_not}); they run without, more slowly"
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
        del self._graphs[shape]

    def _fista_for(self, shape: tuple[int, int]) -> FoldedFista:
        del shape
        return self._folded


class EngineExecutor(GraphExecutor):
    """TensorRT engines for both networks, or Triton's kernels, in the frame's graph.

    A frame size must be prepared, which may take minutes and can be done on another
    thread, and pass `check`, before frames of it come.

    Parameters
    ----------
    pack, family
        As `TorchExecutor`.
    source
        Of the engines, or of the kernels for the proximal network alone.
    """

    def __init__(
        self, pack: ModelPack, family: BlurFamily, source: EngineSource | TritonSource
    ) -> None:
        super().__init__(pack, family, source.card.device)
        self._pack, self._source = pack, source
        self._fistas: dict[tuple[int, int], FoldedFista] = {}
        self._checked: set[tuple[int, int]] = set()
        self._identifier: Engine | None = None
        # An engine is not thread-safe, and callers may use several threads.
        self._identifying = threading.Lock()

    @property
    def name(self) -> str:
        """Library, precision and card."""
        return self._source.name

    @property
    def description(self) -> str:
        """What runs where, whether as a CUDA graph, and which weights."""
        return f"{super().description}, {self._weights} weights"

    @property
    def any_prepared(self) -> bool:
        """Whether frames of any size are prepared."""
        return bool(self._fistas)

    def is_prepared(self, shape: tuple[int, int]) -> bool:
        """Whether `prepare` has been done for frames of (H, W)."""
        return shape in self._fistas

    def is_checked(self, shape: tuple[int, int]) -> bool:
        """Whether frames of (H, W) have passed `check`."""
        return shape in self._checked

    @torch.no_grad()
    def prepare(self, shape: tuple[int, int], progress: Callable[[str], None]) -> None:
        """Obtain the engines for frames of (H, W), and run them once.

        Parameters
        ----------
        shape
            (H, W).
        progress
            As `EngineSource.proximal`.

        Raises
        ------
        EngineError
            When they are not available; the text says why.
        """
        if self._identifier is None:
            self._identifier = self._source.identification(progress)
        if shape in self._fistas:
            return
        network = self._source.network
        extended = extended_shape(shape, self._family.window, network.proximal.shrink)
        fista = self._source.fista(extended, progress)
        if self.device.type == "cuda":
            # Frames run in other streams than this.
            with no_recording():
                torch.cuda.synchronize(self.device)
        self._fistas[shape] = fista

    def check(self, shape: tuple[int, int]) -> list[Parity]:
        """Compare both networks with torch in float32, on a trial frame of (H, W).

        Raises
        ------
        EngineError
            When an engine does not run, or differs from torch.
        """
        reference = TorchExecutor(self._pack, self._family, self.device, half=False)
        spectra = trial_spectra((1, 2, *INPUT_SHAPE))
        count = self._family.n_coefficients
        frame = (
            trial_frame(shape),
            torch.zeros(count),
            torch.zeros(count, count),
            trial_noise(),
        )
        # By default torch computes float32 convolutions in TF32 on a card.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            output = reference.identification_output(spectra)
            sharp = reference.deblur(*frame)
        verdicts = [
            compare("identification", self.identification_output(spectra), output),
            compare(
                f"deblurring of {shape[0]} × {shape[1]}",
                self.deblur(*frame),
                sharp,
            ),
        ]
        if failed := [verdict.text for verdict in verdicts if not verdict.passed]:
            raise EngineError("; ".join(failed))
        self._checked.add(shape)
        return verdicts

    def card_failed(self) -> None:
        """Count a failure of the card against these engines."""
        self._source.card_failed()

    @torch.no_grad()
    def identification_output(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the identification engine's output, or torch's, on the CPU."""
        if self._identifier is None:
            return super().identification_output(inputs)
        with self._identifying:
            self._identifier.bound["spectra"].copy_(inputs)
            self._identifier.enqueue()
            output = self._identifier.bound["output"].cpu()
        if not bool(torch.isfinite(output).all()):
            raise EngineError("the identification engine's output is not finite")
        return output

    def _forget(self, shape: tuple[int, int]) -> None:
        super()._forget(shape)
        self._fistas.pop(shape, None)
        self._checked.discard(shape)

    def _fista_for(self, shape: tuple[int, int]) -> FoldedFista:
        if shape not in self._fistas:
            rows, columns = shape
            raise EngineError(f"frames of {rows} × {columns} are not prepared")
        return self._fistas[shape]
