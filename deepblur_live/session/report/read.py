"""A session's folder read back: finished, cut off, or still running."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deepblur_live.profile import Profile, check_profile
from deepblur_live.session.columns import log_columns, mode_columns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["ReportError", "SessionData", "StateSpan", "read_session"]


class ReportError(ValueError):
    """A folder that no report can be made of; the text names it and says why."""


@dataclass(frozen=True)
class StateSpan:
    """The session was in one state from `begin` to `end`, seconds."""

    state: str
    begin: float
    end: float
    reason: str = ""


@dataclass(frozen=True)
class SessionData:
    """What a session's folder holds.

    Parameters
    ----------
    folder
        Where.
    about
        ``session.json``.
    profile
        The rig, from it.
    events
        ``events.jsonl``, oldest first.
    numbers
        The drift log's columns of numbers by name, (N,) each; NaN for empty cells.
    states, reasons
        Its columns of words, N each.
    spans
        The states in order, without gaps.
    """

    folder: Path
    about: Mapping[str, Any]
    profile: Profile
    events: Sequence[Mapping[str, Any]]
    numbers: Mapping[str, NDArray[np.float64]]
    states: Sequence[str]
    reasons: Sequence[str]
    spans: Sequence[StateSpan]

    @property
    def times(self) -> NDArray[np.float64]:
        """(N,) seconds since the session began."""
        return self.numbers["time_s"]

    @property
    def modes(self) -> tuple[str, ...]:
        """Names of the P modes."""
        return tuple(self.about["modes"])

    def coefficients(self, prefix: str = "") -> NDArray[np.float64]:
        """Return (N, P): tracked, or ``"sigma_"`` or ``"truth_"``; waves rms."""
        columns = mode_columns(self.modes, prefix)
        return np.column_stack([self.numbers[name] for name in columns])

    def told(self, *kinds: str) -> list[Mapping[str, Any]]:
        """Return the events of some kinds, oldest first."""
        return [event for event in self.events if event.get("event") in kinds]


def read_session(folder: Path) -> SessionData:
    """Read a session's folder.

    Rows and events that are not whole (the session was cut off in the middle of one,
    or lost its power) are left out.

    Raises
    ------
    ReportError
        It is no session's folder, a file of it cannot be read, or it holds no point.
    """
    folder = folder.resolve()
    about = _about(folder)
    try:
        origin = str(folder / "session.json")
        profile = check_profile(about["profile"], origin)
        modes = [str(name) for name in about["modes"]]
    except (KeyError, TypeError) as error:
        raise ReportError(f"{origin}: no profile or modes in it") from error
    except ValueError as error:
        raise ReportError(str(error)) from error
    numbers, states, reasons = _columns(folder / "drift.csv", modes)
    events = _events(folder / "events.jsonl")
    end = float(numbers["time_s"][-1])
    return SessionData(
        folder,
        about,
        profile,
        events,
        numbers,
        states,
        reasons,
        _spans(events, states, numbers["time_s"], end),
    )


def _about(folder: Path) -> dict[str, Any]:
    path = folder / "session.json"
    try:
        about = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ReportError(
            f"{folder}: not a session's folder: it has no session.json"
        ) from error
    except (OSError, ValueError) as error:
        raise ReportError(f"{path}: cannot be read: {error}") from error
    if not isinstance(about, dict):
        raise ReportError(f"{path}: not what a session writes")
    return about


def _columns(
    path: Path, modes: Sequence[str]
) -> tuple[dict[str, NDArray[np.float64]], list[str], list[str]]:
    known = list(log_columns(modes))
    try:
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            # A power cut may leave zeros where a file had been made longer.
            rows = list(csv.reader(line.replace("\0", "") for line in file))
    except OSError as error:
        raise ReportError(f"{path}: cannot be read: {error.strerror}") from error
    except csv.Error as error:
        raise ReportError(f"{path}: cannot be read: {error}") from error
    head = rows[0] if rows else []
    rows = [row for row in rows[1:] if len(row) == len(head)]
    if "time_s" in head:
        when = head.index("time_s")
        rows = [row for row in rows if math.isfinite(_number(row[when]))]
    if "time_s" not in head or not rows:
        raise ReportError(f"{path}: no point in it: nothing was identified")
    columns = dict(zip(head, zip(*rows, strict=True), strict=True))
    nothing = ("",) * len(rows)
    words = ("state", "reason")
    numbers = {
        name: np.array([_number(cell) for cell in columns.get(name, nothing)])
        for name in known
        if name not in words
    }
    states, reasons = (list(columns.get(name, nothing)) for name in words)
    return numbers, states, reasons


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _events(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        # A session of an earlier version has none.
        return []
    events = []
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and _is_whole(event):
            events.append(event)
    return events


def _is_whole(event: Mapping[str, Any]) -> bool:
    """Return whether an event, and the alert in it if any, has its numbers."""
    try:
        times = [float(event["time_s"])]
        if str(event.get("event")).startswith("alert"):
            times.append(float(event["alert"]["time"]))
        if event.get("event") == "alertRaised":
            alert = event["alert"]
            times.append(float(alert["change_waves"]))
            times += [float(moved) for moved in alert["mode_changes"]]
            if not isinstance(alert["level"], str):
                return False
            if len(alert["modes"]) != len(alert["mode_changes"]):
                return False
    except (KeyError, TypeError, ValueError):
        return False
    return all(map(math.isfinite, times))


def _spans(
    events: Sequence[Mapping[str, Any]],
    states: Sequence[str],
    times: NDArray[np.float64],
    end: float,
) -> list[StateSpan]:
    changes = [
        (float(event["time_s"]), str(event["state"]), str(event.get("reason", "")))
        for event in events
        if event.get("event") == "stateChanged" and "state" in event
    ]
    if not changes:
        changes = [
            (float(times[k]), states[k], "")
            for k in range(1, len(states))
            if states[k] != states[k - 1]
        ]
    first = (0.0, states[0] or "baselining", "")
    changes = [first, *changes]
    ends = [begin for begin, *_ in changes[1:]] + [end]
    return [
        StateSpan(state, begin, max(begin, until), reason)
        for (begin, state, reason), until in zip(changes, ends, strict=True)
    ]
