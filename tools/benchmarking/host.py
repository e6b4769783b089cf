"""What the host does for a frame on a card, measured without one.

The card is played: what it would compute is replayed by nothing, its buffers are small,
so that what is left of its arithmetic on this processor takes no time. What the host
does with the camera's own pixels it does with all of them.

python tools/benchmarking/host.py
"""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch

from deepblur_live.blur import family_from_profile
from deepblur_live.profile import Camera, Profile
from deepblur_live.runtime.best import BestExecutor
from deepblur_live.runtime.check_graph import CheckGraph
from deepblur_live.runtime.device import tune_process
from deepblur_live.runtime.frame import Frame, FrameState
from deepblur_live.runtime.graph_executor import GraphExecutor
from deepblur_live.runtime.pack import load_pack
from deepblur_live.runtime.pipeline import DeblurPipeline
from deepblur_live.runtime.scaling_graph import ScalingGraph

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.runtime.pack import ModelPack

__all__ = ["HostTime", "host_time", "played_pipeline"]

_CPU = torch.device("cpu")
_SIDES, _RUNS, _SMALL = (96, 512, 2048), 300, 64
_NOTHING = SimpleNamespace(replay=lambda: None)


class HostTime(NamedTuple):
    """CPU time of the host for a frame, least of many, in ms.

    Parameters
    ----------
    begin, finish
        Until the frame is queued, and from its download on.
    """

    begin: float
    finish: float


class _Played(DeblurPipeline):
    """A pipeline whose frames overlap, as on a card."""

    _overlaps = True


class _SmallUpload(ScalingGraph):
    """Copies a whole frame, as into page-locked memory, and uploads a part of it."""

    copied = torch.empty(0)

    def run(
        self, pixels: NDArray[np.unsignedinteger], low: float, high: float
    ) -> torch.Tensor:
        # As `page_locked`, whose memory is not allocated for each frame either.
        if pixels.shape != self.copied.shape:
            self.copied = torch.empty(pixels.shape, dtype=torch.int16)
        self.copied.copy_(torch.from_numpy(pixels.view(np.int16)))
        return super().run(pixels[:_SMALL, :_SMALL], low, high)


def played_pipeline(pack: ModelPack, side: int) -> DeblurPipeline:
    """Return a pipeline as on a card, whose graphs for frames of a side do nothing.

    The blur is known, and identified never; the deblurred image is the frame itself.
    """
    family = family_from_profile(Profile())
    identifier = SimpleNamespace(
        spectrum=SimpleNamespace(average_s=5.0, frames=1),
        observed=[],
        noise_sigma=0.01,
        take_notes=list,
        reset=lambda: None,
        solve=None,
    )
    identifier.observe = lambda image, time: identifier.observed.append(time)
    executor = GraphExecutor(pack, family, _CPU, half=False)
    parts = cast("Any", identifier), cast("Any", None), BestExecutor(executor)
    made = _Played(family, *parts, Camera(), 1e9)
    count = family.n_coefficients
    made._identification.track = cast(
        "Any",
        SimpleNamespace(
            coefficients=np.full(count, 0.03), covariance=1e-4 * np.eye(count)
        ),
    )
    made._streams.downloaded = lambda: SimpleNamespace(  # type: ignore[method-assign]
        query=lambda: True, synchronize=lambda: None
    )
    inspector = made._inspector
    inspector._every_s = 0.05
    inspector._graph._raw = torch.empty(side, side, dtype=torch.uint16)
    inspector._graph._image = torch.zeros(side, side)
    inspector._graph.parts.graphs = cast("Any", [_NOTHING])
    graph = executor._graph_for((side, side))
    copy = SimpleNamespace(replay=lambda: graph._sharp.copy_(graph._image))
    graph.parts.graphs = cast("Any", [_NOTHING, copy])
    check = made._guard._check = CheckGraph(family, (side, side), _CPU)
    made._guard._checked = side, side, _CPU
    check.parts.graphs = cast("Any", [_NOTHING, _NOTHING])
    # No residual but the noise, and light that is kept.
    check._numbers.fill_(1.0)
    return made


def host_time(pack: ModelPack, side: int, runs: int = _RUNS) -> HostTime:
    """Measure the host's time for frames between two inspections.

    Parameters
    ----------
    pack
        The model.
    side
        Of the camera's frames, in pixels.
    runs
        Number of frames, of which the fastest counts.
    """
    pipeline = played_pipeline(pack, _SMALL)
    inspector = pipeline._inspector
    upload = inspector._graph = _SmallUpload(_CPU, pipeline.family.cutoff)
    upload._raw = torch.empty(_SMALL, _SMALL, dtype=torch.uint16)
    upload._image = torch.zeros(_SMALL, _SMALL)
    upload.parts.graphs = cast("Any", [_NOTHING])
    noise = np.random.default_rng(0).normal(800, 100, (side, side))
    pixels = noise.astype(np.uint16)
    pipeline._geometry = inspector._geometry = pixels.shape, pixels.dtype.str
    inspector._inner, inspector._at = (0.0, 1.0), 0.0
    inspector._noise._line = 0.5, 10.0, 0.1
    pipeline._identification.identified = 0.0
    begin, finish = [], []
    for number in range(runs):
        frame = Frame(pixels, number, 0.01, "live")
        began = time.process_time()
        future = pipeline.submit(frame)
        queued = time.process_time()
        result = future.result()
        finish.append(time.process_time() - queued)
        begin.append(queued - began)
        assert result.state is FrameState.DEBLURRED, result.reason
    pipeline.close()
    return HostTime(1e3 * min(begin), 1e3 * min(finish))


def main() -> None:
    """Print the host's time for frames of several sizes."""
    tune_process(1)
    pack = load_pack("zernike7")
    print("| side | before a frame is queued, ms | after its download, ms |")
    print("| --- | --- | --- |")
    for side in _SIDES:
        found = host_time(pack, side)
        print(f"| {side}² | {found.begin:.2f} | {found.finish:.2f} |")


if __name__ == "__main__":
    main()
