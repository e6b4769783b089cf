"""A session's folder read back: finished, cut off, or still running."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from deepblur_live.profile import Profile, check_profile
from deepblur_live.runtime.series_key import series_text
from deepblur_live.session.columns import change_columns, coefficient_columns
from deepblur_live.session.kept_blur import with_kept_blur
from deepblur_live.session.report.log_columns import LogColumns
from deepblur_live.session.report.stored import read_stored

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily
    from deepblur_live.session.blur_facts import BlurFacts
    from deepblur_live.session.report.moment import Moment

__all__ = ["ReportError", "SeriesRows", "SessionData", "StateSpan", "read_session"]

_NEW_BASELINE = ("baselineSet", "rebaselined", "specimenChanged", "brightnessChanged")


class ReportError(ValueError):
    """A folder that cannot be reported on; the message names it and says why."""


@dataclass(frozen=True)
class StateSpan:
    """The session was in one state from `begin` to `end`, seconds."""

    state: str
    begin: float
    end: float
    reason: str = ""


@dataclass(frozen=True)
class SeriesRows:
    """One channel, position and plane of the log.

    Parameters
    ----------
    name
        Empty for frames outside an MDA, or of an MDA over time alone.
    profile, family
        The rig and the facts about its blurs, at the channel's wavelength.
    points
        Number of rows in the log.
    state
        State in the last row.
    change
        Sizes of the change from the baseline, where there was one.
    alerts
        Levels of its alerts.
    """

    name: str
    profile: Profile
    family: BlurFacts
    points: int
    state: str
    change: NDArray[np.float64]
    alerts: Sequence[str]

    @property
    def weight(self) -> tuple[float, ...]:
        """Order of importance to a reader; larger comes first."""
        levels = [("warn", "alarm").index(level) + 1 for level in self.alerts]
        largest = float(self.change.max()) if self.change.size else -1.0
        return max(levels, default=0), largest, self.points


@dataclass(frozen=True)
class SessionData:
    """What a session's folder contains.

    Parameters
    ----------
    folder
        Path of the folder.
    about
        ``session.json``.
    profile, family
        The rig, and the facts about its blurs, at the wavelength of the first series.
    coverage_factor
        Number of standard deviations that contain 95 % of the errors.
    events
        ``events.jsonl``, oldest first.
    numbers
        The drift log's numeric columns by name, (N,) each; NaN for empty cells, and
        for a column that it lacks. Of several series, those of the first.
    spans
        The states in order, without gaps.
    series
        Channels, positions and planes; the one with an alert, or the largest change,
        comes first.
    stored
        Moments that the session has computed at its end; empty if it was cut off.
    """

    folder: Path
    about: Mapping[str, Any]
    profile: Profile
    family: BlurFacts
    coverage_factor: float
    events: Sequence[Mapping[str, Any]]
    numbers: Mapping[str, NDArray[np.float64]]
    spans: Sequence[StateSpan]
    series: Sequence[SeriesRows] = ()
    stored: Sequence[Moment] = ()

    @cached_property
    def blurs(self) -> BlurFamily:
        """The family of blurs; importing its code takes seconds."""
        return _family(self.profile)

    @property
    def times(self) -> NDArray[np.float64]:
        """(N,) seconds since the session began."""
        return self.numbers["time_s"]

    @property
    def change(self) -> NDArray[np.float64]:
        """(N,) size of the change from the baseline, in the metric's unit."""
        return self.numbers[change_columns(self.family)[0]]

    @property
    def change_sigma(self) -> NDArray[np.float64]:
        """(N,) its standard deviation."""
        return self.numbers[change_columns(self.family)[1]]

    def coefficients(self, prefix: str = "") -> NDArray[np.float64]:
        """Return (N, P): tracked, or ``"sigma_"`` or ``"truth_"``; family's unit."""
        columns = coefficient_columns(self.family, prefix)
        return np.column_stack([self.numbers[name] for name in columns])

    def family_of(self, series: str) -> BlurFacts:
        """Return the facts about the blurs of a series, by its name."""
        found = (rows.family for rows in self.series if rows.name == series)
        return next(found, self.family)

    def events_of(self, *kinds: str) -> list[Mapping[str, Any]]:
        """Return the events of some kinds, oldest first."""
        if len(kinds) == 1:
            return self._by_kind.get(kinds[0], [])
        return [event for event in self.events if event.get("event") in kinds]

    @property
    def contradiction(self) -> str:
        """What contradicts the pixel size at the end; empty if nothing does."""
        kinds = ("opticsContradicted", "opticsConfirmed", "opticsAgree")
        *_, last = ({}, *self.events_of(*kinds))
        return str(last["reason"]) if last.get("event") == kinds[0] else ""

    @cached_property
    def _by_kind(self) -> dict[str, list[Mapping[str, Any]]]:
        found: dict[str, list[Mapping[str, Any]]] = {}
        for event in self.events:
            found.setdefault(str(event.get("event")), []).append(event)
        return found

    @property
    def baselines(self) -> list[tuple[float, float, NDArray[np.float64]]]:
        """Begin and end, seconds, and (P,) coefficients of each baseline."""
        events = self.events_of(*_NEW_BASELINE)
        if self.series:
            name = self.series[0].name
            # An event without a series concerns all of them.
            events = [event for event in events if event.get("series", name) == name]
        ends = [float(event["time_s"]) for event in events[1:]]
        return [
            (float(event["time_s"]), end, np.asarray(event["coefficients"], float))
            for event, end in zip(events, [*ends, float(self.times[-1])], strict=False)
            if len(event.get("coefficients") or ()) == self.family.n_coefficients
        ]


def read_session(folder: Path) -> SessionData:
    """Read a session's folder.

    Incomplete rows and events are left out: the session was cut off while writing one,
    or lost power.

    Raises
    ------
    ReportError
        It is not a session's folder, a file cannot be read, or the log has no row.
    """
    folder = folder.resolve()
    about = _about(folder)
    origin = str(folder / "session.json")
    try:
        profile = check_profile(about["profile"], origin)
        profile = with_kept_blur(profile, folder)
        stored = read_stored(folder, about["profile"])
        facts = dict(stored.facts) if stored else {}
        names = [str(name) for name in about["coefficients"]]
        family = _facts(profile, facts) if names else None
        coverage_factor = float(about["coverage_factor"]["95 %"])
    except (KeyError, TypeError) as error:
        raise ReportError(
            f"{origin}: contains no profile, coefficients or coverage_factor"
        ) from error
    except ValueError as error:
        text = str(error)
        raise ReportError(text if origin in text else f"{origin}: {text}") from error
    if family is None:
        raise ReportError(
            f"{folder}: the session used a fixed PSF: nothing was identified, so there "
            "is nothing to report"
        )
    if names != list(family.names):
        raise ReportError(
            f"{origin}: states the coefficients {', '.join(names)}, but the family of "
            f"its profile has {', '.join(family.names)}"
        )
    log = _log(folder / "drift.csv")
    events = _events(folder / "events.jsonl")
    spans = _spans(events, log.texts("state"), log["time_s"])
    series, rows = _series(profile, facts, log, events)
    return SessionData(
        folder,
        about,
        series[0].profile,
        series[0].family,
        coverage_factor,
        events,
        log.only(rows),
        spans,
        series,
        stored.moments if stored else (),
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
        raise ReportError(f"{path}: was not written by a session")
    return about


def _log(path: Path) -> LogColumns:
    try:
        log = LogColumns.read(path)
    except OSError as error:
        raise ReportError(f"{path}: cannot be read: {error.strerror}") from error
    except csv.Error as error:
        raise ReportError(f"{path}: cannot be read: {error}") from error
    if not len(log["time_s"]):
        raise ReportError(f"{path}: contains no results: no blur was identified")
    return log


def _family(profile: Profile) -> BlurFamily:
    from deepblur_live.calibration.rig import rig_family

    return rig_family(profile)


def _facts(profile: Profile, known: dict[float, BlurFacts]) -> BlurFacts:
    """Return the facts about a rig's blurs, cached in `known` by wavelength."""
    wavelength = profile.optics.wavelength_nm
    if wavelength not in known:
        from deepblur_live.session.report import computed

        known[wavelength] = computed.blur_facts(_family(profile))
    return known[wavelength]


def _series(
    profile: Profile,
    facts: dict[float, BlurFacts],
    log: LogColumns,
    events: Sequence[Mapping[str, Any]],
) -> tuple[list[SeriesRows], list[int]]:
    """Return the series, the most important one first; and that one's rows."""
    raised = [e["alert"] for e in events if e.get("event") == "alertRaised"]
    channels, states = log.texts("channel"), log.texts("state")
    change = log[change_columns(_facts(profile, facts))[0]]
    places = list(zip(channels, log.texts("position"), log.texts("z"), strict=True))
    name_of = {place: series_text(*place) for place in dict.fromkeys(places)}
    rows_of: dict[str, list[int]] = {name: [] for name in name_of.values()}
    for k, place in enumerate(places):
        rows_of[name_of[place]].append(k)
    found = []
    for name, rows in rows_of.items():
        sizes = change[rows]
        wavelength = profile.wavelength_of(channels[rows[0]])
        rig = profile
        if wavelength != profile.optics.wavelength_nm:
            rig = profile.at_wavelength(wavelength)
        levels = [
            alert["level"]
            for alert in raised
            if alert.get("series", "") == name and alert["level"] in ("warn", "alarm")
        ]
        series = SeriesRows(
            name,
            rig,
            _facts(rig, facts),
            len(rows),
            states[rows[-1]],
            sizes[np.isfinite(sizes)],
            levels,
        )
        found.append((series, rows))
    found.sort(key=lambda one: one[0].weight, reverse=True)
    return [series for series, _ in found], found[0][1]


def _events(path: Path) -> list[dict[str, Any]]:
    try:
        # Not `splitlines`: it also splits at separators that a text may contain.
        lines = path.read_text("utf-8", errors="replace").split("\n")
    except OSError:
        return []
    events = []
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and _is_complete(event):
            events.append(event)
    return events


def _is_complete(event: Mapping[str, Any]) -> bool:
    """Return whether an event, and the alert in it if any, has finite numbers."""
    try:
        numbers = [float(event["time_s"])]
        if str(event.get("event")).startswith("alert"):
            numbers.append(float(event["alert"]["time"]))
        if event.get("event") == "alertRaised":
            alert = event["alert"]
            numbers.append(float(alert["change"]))
            numbers += [float(change) for change in alert["changes"]]
            if not isinstance(alert["level"], str):
                return False
            if len(alert["coefficients"]) != len(alert["changes"]):
                return False
    except (KeyError, TypeError, ValueError):
        return False
    return all(map(math.isfinite, numbers))


def _spans(
    events: Sequence[Mapping[str, Any]],
    states: Sequence[str],
    times: NDArray[np.float64],
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
    changes = [(0.0, states[0] or "baselining", ""), *changes]
    ends = [*(begin for begin, *_ in changes[1:]), float(times[-1])]
    return [
        StateSpan(state, begin, max(begin, end), reason)
        for (begin, state, reason), end in zip(changes, ends, strict=True)
    ]
