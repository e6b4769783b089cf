"""Alerts to a Python function of the user's."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from deepblur_live.session.sinks.notice import AlertNotice, OnAlarm

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from deepblur_live.session.sinks.notice import NoticeKind

__all__ = ["CallableSink", "find_function"]


class CallableSink(OnAlarm):
    """Calls a function with each notice, on a thread of the sink's own.

    Parameters
    ----------
    function
        Called with an `AlertNotice`.
    name
        What it is called where its failures are told.
    kinds
        What it is told of alarms; by default that one was raised.
    """

    def __init__(
        self,
        function: Callable[[AlertNotice], object],
        name: str = "",
        kinds: Collection[NoticeKind] = OnAlarm.kinds,
    ) -> None:
        self._function = function
        self.name = name or f"python:{getattr(function, '__qualname__', function)}"
        self.kinds = frozenset(kinds)

    def deliver(self, notice: AlertNotice) -> None:
        """Call the function; what it raises is its failure."""
        self._function(notice)


def find_function(place: str) -> Callable[..., Any]:
    """Return the function that ``module:function`` names.

    Raises
    ------
    ValueError
        There is no such module or function, or it cannot be imported.
    """
    module_name, colon, attribute = place.partition(":")
    if not colon or not module_name or not attribute:
        raise ValueError(f"{place!r}: must be module:function")
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:  # a user's module may raise anything
        raise ValueError(
            f"{module_name}: cannot be imported: {type(error).__name__}: {error}"
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ValueError(f"{module_name}: has no {attribute}")
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(f"{place}: is a {type(found).__name__}, not a function")
    function: Callable[..., Any] = found
    return function
