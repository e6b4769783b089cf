"""The command line."""

from __future__ import annotations

import os
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
    # A user's own family of blurs or function is usually in the current folder.
    sys.path.append(os.getcwd())
    try:
        # Imported here: it takes a second or two, which Ctrl-C may interrupt.
        from deepblur_live.cli import commands
    except KeyboardInterrupt:
        sys.exit(130)
    commands.main()
