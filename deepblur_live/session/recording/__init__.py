"""Deblurred series on disk: OME-Zarr or OME-TIFF, written while the session runs."""

from __future__ import annotations

from deepblur_live.session.recording.names import check_recording
from deepblur_live.session.recording.recorder import Recorder
from deepblur_live.session.recording.recording import Recording, RecordingCounts

__all__ = ["Recorder", "Recording", "RecordingCounts", "check_recording"]
