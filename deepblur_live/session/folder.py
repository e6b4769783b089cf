"""The session's folder, named by date and time, and JSON files in it."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import tempfile
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

__all__ = ["new_session_folder", "plain", "require_folder", "write_json"]

_MAX_IN_A_SECOND = 1000
_REPLACE_TRIES, _REPLACE_EVERY_S = 10, 0.1


def require_folder(folder: Path, purpose: str) -> None:
    """Check that a folder can be created and written, without creating it.

    So that a mistake in its name is found before anything slow starts.

    Raises
    ------
    OSError
        It cannot; the text names the folder and its `purpose`.
    """
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        reason = error.strerror if existing.is_dir() else "it is a file, or inside one"
        raise OSError(
            f"{folder}: cannot be used for {purpose} ({reason}); give a folder that "
            "can be written"
        ) from error


def new_session_folder(parent: Path, now: datetime) -> Path:
    """Create a folder named by date and time in `parent`; never an existing one.

    Raises
    ------
    OSError
        The folder cannot be created; the text names it.
    """
    stem = f"{now:%Y-%m-%d_%H-%M-%S}"
    for count in range(1, _MAX_IN_A_SECOND):
        folder = parent / (stem if count == 1 else f"{stem}_{count}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if not parent.is_dir():
                raise
        except OSError as error:
            raise OSError(
                error.errno,
                f"cannot create a session folder ({error.strerror}); give a folder "
                "that can be written",
                str(folder),
            ) from error
        else:
            return folder
    raise FileExistsError(f"{parent}: no free name left for {stem}")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON atomically: a reader finds the old file or the new one.

    On Windows a file cannot be replaced while another program has it open, such as a
    virus scanner or an editor: this is retried for a second.

    Raises
    ------
    OSError
        It cannot be written.
    """
    text = json.dumps(plain(content), indent=2, ensure_ascii=False, allow_nan=False)
    partial = path.with_name(f"{path.name}.part")
    partial.write_text(text + "\n", encoding="utf-8", newline="\n")
    for _ in range(_REPLACE_TRIES):
        try:
            os.replace(partial, path)
            return
        except PermissionError:
            time.sleep(_REPLACE_EVERY_S)
    os.replace(partial, path)


def plain(value: Any) -> Any:
    """Return `value` as JSON types; numbers that are not finite become null."""
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(vars(value))
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)
