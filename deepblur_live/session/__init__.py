"""A session: follows results, monitors drift, writes files and a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.lazy import lazy_names

if TYPE_CHECKING:
    from deepblur_live.session.history import History
    from deepblur_live.session.live import LiveSession
    from deepblur_live.session.notifier import SessionEvents
    from deepblur_live.session.summary import SessionSummary

__all__ = ["History", "LiveSession", "SessionEvents", "SessionSummary"]

__getattr__ = lazy_names(
    __name__,
    {
        "History": "history",
        "LiveSession": "live",
        "SessionEvents": "notifier",
        "SessionSummary": "summary",
    },
)
