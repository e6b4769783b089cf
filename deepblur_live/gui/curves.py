"""Times in the session, as the plot's axis writes them."""

from __future__ import annotations

__all__ = ["session_time"]


def session_time(seconds: float) -> str:
    """Write a time in the session: ``"45"`` s, ``"1:05"`` min, ``"2:03:20"`` h.

    >>> session_time(65)
    '1:05'
    """
    sign = "−" if seconds < 0 else ""
    whole = round(abs(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, rest = divmod(rest, 60)
    if hours:
        return f"{sign}{hours}:{minutes:02d}:{rest:02d}"
    return f"{sign}{minutes}:{rest:02d}"
