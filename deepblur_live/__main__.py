"""``python -m deepblur_live``: the same as the command ``deepblur-live``."""

from __future__ import annotations

from deepblur_live.cli import main

# The worker process imports this module again: only the first may run.
if __name__ == "__main__":
    main()
