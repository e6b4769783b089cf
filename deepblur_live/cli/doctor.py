"""Findings of the doctor: what is installed here, and what to do about the rest."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from deepblur_live.profile import Profile

__all__ = ["Finding", "Level", "Probe", "can_run", "examine", "findings_table"]


class Level(StrEnum):
    """How serious a finding is."""

    OK = "ok"
    NOTE = "note"
    FAULT = "fault"


@dataclass(frozen=True)
class Finding:
    """One thing examined.

    Parameters
    ----------
    subject, text
        What was examined, and what was found.
    level
        A ``FAULT`` prevents a run; a ``NOTE`` does not.
    remedy
        What to do; empty when all is well.
    """

    subject: str
    text: str
    level: Level = Level.OK
    remedy: str = ""


if TYPE_CHECKING:
    Probe = Callable[[Profile], Iterable[Finding]]

_STYLES = {Level.OK: "green", Level.NOTE: "yellow", Level.FAULT: "bold red"}


def examine(profile: Profile, probes: Sequence[Probe]) -> list[Finding]:
    """Return the findings of all probes; a probe that fails is itself a finding."""
    findings: list[Finding] = []
    for probe in probes:
        try:
            findings.extend(probe(profile))
        except Exception as error:  # a broken installation breaks in any way it likes
            subject = probe.__name__.strip("_").replace("_", " ")
            text = f"{type(error).__name__}: {error}"
            findings.append(Finding(subject, text, Level.FAULT, "see the message"))
    return findings


def can_run(findings: Iterable[Finding]) -> bool:
    """Return whether none of the findings prevents a run."""
    return all(finding.level is not Level.FAULT for finding in findings)


def findings_table(findings: Iterable[Finding]) -> Table:
    """Return the findings as a table for the terminal."""
    table = Table(title="deepblur-live doctor", title_justify="left")
    for heading in ("", "what", "found", "what to do"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        style = _STYLES[finding.level]
        mark = f"[{style}]{finding.level}[/]"
        cells = (finding.subject, finding.text, finding.remedy)
        # Paths and messages may contain brackets, which rich would take for styles.
        table.add_row(mark, *(escape(cell) for cell in cells))
    return table
