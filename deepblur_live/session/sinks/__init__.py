"""Where alerts go: log, file, web address, program, function; acquisition in `mda`."""

from __future__ import annotations

from deepblur_live.session.sinks.command import CommandSink
from deepblur_live.session.sinks.dispatch import AlertDispatcher, SinkStatistics
from deepblur_live.session.sinks.files import ALERT_LOGGER, JsonlSink, LogSink
from deepblur_live.session.sinks.notice import AlertNotice, AlertSink, NoticeKind
from deepblur_live.session.sinks.python import CallableSink, find_function
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
