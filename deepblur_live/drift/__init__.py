"""Coefficients over time: tracker, baseline, control charts and alerts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.lazy import lazy_names

if TYPE_CHECKING:
    from deepblur_live.drift.alert import CONTRAST_UNIT, Alert, clock_text
    from deepblur_live.drift.brightness import Brightness
    from deepblur_live.drift.contradiction import EstimateCheck
    from deepblur_live.drift.monitor import DriftMonitor
    from deepblur_live.drift.reference import ReferenceMonitor, distance
    from deepblur_live.drift.spectral_monitor import SpectralMonitor
    from deepblur_live.drift.status import (
        NO_LIMITS,
        DriftState,
        DriftStatus,
        Limits,
        SpectralChange,
    )
    from deepblur_live.drift.track import Gaussian, TrackState
    from deepblur_live.drift.tracker import Tracker, random_walk
    from deepblur_live.drift.unfollowed import UnfollowedBlur
    from deepblur_live.drift.watch import DriftWatch

__all__ = [
    "CONTRAST_UNIT",
    "NO_LIMITS",
    "Alert",
    "Brightness",
    "DriftMonitor",
    "DriftState",
    "DriftStatus",
    "DriftWatch",
    "EstimateCheck",
    "Gaussian",
    "Limits",
    "ReferenceMonitor",
    "SpectralChange",
    "SpectralMonitor",
    "TrackState",
    "Tracker",
    "UnfollowedBlur",
    "clock_text",
    "distance",
    "random_walk",
]

__getattr__ = lazy_names(
    __name__,
    {
        "Alert": "alert",
        "Brightness": "brightness",
        "CONTRAST_UNIT": "alert",
        "DriftMonitor": "monitor",
        "DriftState": "status",
        "DriftStatus": "status",
        "DriftWatch": "watch",
        "EstimateCheck": "contradiction",
        "Gaussian": "track",
        "Limits": "status",
        "NO_LIMITS": "status",
        "ReferenceMonitor": "reference",
        "SpectralChange": "status",
        "SpectralMonitor": "spectral_monitor",
        "TrackState": "track",
        "Tracker": "tracker",
        "UnfollowedBlur": "unfollowed",
        "clock_text": "alert",
        "distance": "reference",
        "random_walk": "tracker",
    },
)
