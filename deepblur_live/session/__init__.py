"""What is kept of a session: history, drift log, pictures, summary."""

from __future__ import annotations

from deepblur_live.session.drift_log import DriftLog
from deepblur_live.session.fidelity import ImageFidelity, PsfFidelity
from deepblur_live.session.folder import plain
from deepblur_live.session.history import History
from deepblur_live.session.live import LiveSession
from deepblur_live.session.summary import SessionSummary
from deepblur_live.session.telling import SessionEvents

__all__ = [
    "DriftLog",
    "History",
    "ImageFidelity",
    "LiveSession",
    "PsfFidelity",
    "SessionEvents",
    "SessionSummary",
    "plain",
]
