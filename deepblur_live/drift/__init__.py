"""Coefficients over time: tracker, baseline, control charts and alerts."""

from __future__ import annotations

from deepblur_live.drift.alert import Alert, clock_text
from deepblur_live.drift.brightness import Brightness
from deepblur_live.drift.monitor import DriftMonitor
from deepblur_live.drift.status import DriftState, DriftStatus
from deepblur_live.drift.track import TrackState
from deepblur_live.drift.tracker import Tracker

__all__ = [
    "Alert",
    "Brightness",
    "DriftMonitor",
    "DriftState",
    "DriftStatus",
    "TrackState",
    "Tracker",
    "clock_text",
]
