"""Frames in: listener, live tap, replay, the simulated microscope; ring and worker."""

from deepblur_live.acquisition.listener import DeblurListener
from deepblur_live.acquisition.statistics import Statistics
from deepblur_live.acquisition.worker import WorkerState

__all__ = ["DeblurListener", "Statistics", "WorkerState"]
