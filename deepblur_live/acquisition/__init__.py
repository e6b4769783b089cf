"""Frames in: listener, live mode, recordings, simulated microscope; ring and worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.lazy import lazy_names

if TYPE_CHECKING:
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

__getattr__ = lazy_names(
    __name__,
    {
        "DeblurListener": "listener",
        "Series": "series",
        "SeriesError": "series",
        "Statistics": "statistics",
        "WorkerState": "worker",
        "open_series": "recordings",
    },
)
