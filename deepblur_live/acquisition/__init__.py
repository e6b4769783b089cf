"""Frames in: listener, live mode, recordings, simulated microscope; ring and worker."""

from deepblur_live.acquisition.listener import DeblurListener
from deepblur_live.acquisition.recordings import open_series
from deepblur_live.acquisition.series import Series, SeriesError
from deepblur_live.acquisition.statistics import Statistics
from deepblur_live.acquisition.worker import WorkerState

__all__ = [
    "DeblurListener",
    "Series",
    "SeriesError",
    "Statistics",
    "WorkerState",
    "open_series",
]
