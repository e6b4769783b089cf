"""Running the networks fast: model packs, executors, one frame's way through."""

from deepblur_live.runtime.build import build_pipeline
from deepblur_live.runtime.frame import Frame, FramePipeline, FrameResult, FrameState
from deepblur_live.runtime.pack import ModelPack, PackError, find_packs, load_pack
from deepblur_live.runtime.pipeline import DeblurPipeline

__all__ = [
    "DeblurPipeline",
    "Frame",
    "FramePipeline",
    "FrameResult",
    "FrameState",
    "ModelPack",
    "PackError",
    "build_pipeline",
    "find_packs",
    "load_pack",
]
