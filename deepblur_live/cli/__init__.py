"""The command line: demo, run, replay, doctor, profile."""

from __future__ import annotations

from deepblur_live.cli.commands import main

__all__ = ["main"]
