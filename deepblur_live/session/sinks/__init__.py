"""Destinations of alarms: log, file, URL, program, function; an MDA in `mda`."""

from __future__ import annotations

from deepblur_live.session.sinks.base import AlertNotice, AlertSink, NoticeKind
from deepblur_live.session.sinks.command import CommandSink
from deepblur_live.session.sinks.dispatch import AlertDispatcher, SinkStatistics
from deepblur_live.session.sinks.local import (
    ALERT_LOGGER,
    CallableSink,
    JsonlSink,
    LogSink,
    find_function,
)
from deepblur_live.session.sinks.specs import MdaHandles, make_sinks, without_secret
from deepblur_live.session.sinks.webhook import WebhookSink

__all__ = [
    "ALERT_LOGGER",
    "AlertDispatcher",
    "AlertNotice",
    "AlertSink",
    "CallableSink",
    "CommandSink",
    "JsonlSink",
    "LogSink",
    "MdaHandles",
    "NoticeKind",
    "SinkStatistics",
    "WebhookSink",
    "find_function",
    "make_sinks",
    "without_secret",
]
