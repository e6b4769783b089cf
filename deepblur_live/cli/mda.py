"""Run an MDA on a thread, which ends with the run."""

from __future__ import annotations

import difflib
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Self, get_args

import yaml
from pydantic import BaseModel
from useq import MDASequence

from deepblur_live.cli.cores import MicroscopeError
from deepblur_live.session.folder import require_folder

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus
    from useq import MDAEvent

__all__ = ["MdaRun", "check_save", "load_sequence"]

_log = logging.getLogger(__name__)

_JOIN_S = 30.0
_AGAIN_S = 0.1


def load_sequence(file: Path) -> MDASequence:
    """Read a `useq.MDASequence` from YAML or JSON.

    Raises
    ------
    MicroscopeError
        The file cannot be read, is not a sequence, or has no events; the text names
        the file and the first mistake.
    """
    try:
        _check_keys(file)
        sequence = MDASequence.from_file(file)
        empty = next(iter(sequence), None) is None
    except OSError as error:
        raise MicroscopeError(f"{file}: cannot be read: {error.strerror}") from error
    except MicroscopeError:
        raise
    except Exception as error:  # pydantic's, yaml's, or useq's own
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise MicroscopeError(
            f"{file}: not a useq sequence (YAML or JSON): {' '.join(lines[:3])}"
        ) from error
    if empty:
        raise MicroscopeError(
            f"{file}: a useq sequence without any event: add a time_plan, "
            "stage_positions, channels or a z_plan"
        )
    return sequence


def _check_keys(file: Path) -> None:
    """Raise for a key that useq does not know, and would ignore.

    Raises
    ------
    MicroscopeError
        There is one; the text names it and the most likely right one.
    """
    content = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    if isinstance(content, dict):
        _check_level(file, "", content, {MDASequence})


def _check_level(
    file: Path, place: str, content: Any, models: set[type[BaseModel]]
) -> None:
    """Check the keys at one place, which may hold any of these models, and below."""
    if isinstance(content, list):
        for item in content:
            _check_level(file, place, item, models)
    fields: dict[str, set[type[BaseModel]]] = {}
    for model in models:
        if model.model_config.get("extra") == "allow":
            return
        for name, field in model.model_fields.items():
            below = _models_in(field.annotation)
            for key in (name, field.alias, field.validation_alias):
                if isinstance(key, str):
                    fields.setdefault(key, set()).update(below)
    if not isinstance(content, dict) or not fields:
        return
    for key, value in content.items():
        inner = f"{place}.{key}" if place else str(key)
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, 1, 0.5)
            right = (
                f"did you mean {near[0]}?" if near else f"known: {', '.join(fields)}"
            )
            raise MicroscopeError(f"{file}: unknown key {inner}: {right}")
        _check_level(file, inner, value, fields[key])


def _models_in(annotation: Any) -> set[type[BaseModel]]:
    """Return the pydantic models that a type allows, with the kinds of each."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}.union(*map(_models_in, annotation.__subclasses__()))
    return set().union(*map(_models_in, get_args(annotation)))


def check_save(save: Path) -> None:
    """Check that the raw frames of an MDA can be saved to a file.

    Raises
    ------
    OSError
        It exists already, or its folder cannot be written; the text names it.
    """
    if save.exists():
        raise FileExistsError(f"{save} exists already: give another name")
    require_folder(save.absolute().parent, "--save")


class MdaRun:
    """Runs a sequence on its own thread; a context manager that cancels it.

    Parameters
    ----------
    core
        The microscope.
    events
        The sequence, or an iterator over its events.
    save
        File for the raw frames, written by pymmcore-plus (``.ome.zarr`` or
        ``.ome.tiff``), which `check_save` has checked; None keeps none.
    """

    def __init__(
        self, core: CMMCorePlus, events: Iterable[MDAEvent], save: Path | None = None
    ) -> None:
        self._core = core
        self._events = events
        self._save = save
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="MDA", daemon=True)

    def start(self) -> None:
        """Start the sequence."""
        if self._save is not None:
            self._save.absolute().parent.mkdir(parents=True, exist_ok=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """True once the sequence has ended.

        Raises
        ------
        MicroscopeError
            It ended with an error.
        """
        if self._failure is not None:
            raise MicroscopeError(f"the MDA ended: {self._failure}") from self._failure
        return self._thread.ident is not None and not self._thread.is_alive()

    def __enter__(self) -> Self:
        """Return itself; `start` starts the sequence."""
        return self

    def __exit__(self, *_: object) -> None:
        """Cancel the sequence and wait for the current frame."""
        deadline = time.monotonic() + _JOIN_S
        while self._thread.is_alive():
            if time.monotonic() > deadline:
                _log.error("the MDA did not end within %.0f s", _JOIN_S)
                break
            # Repeatedly: pymmcore-plus (0.18) ignores a request that comes just before
            # an event begins.
            self._core.mda.cancel()
            self._thread.join(_AGAIN_S)

    def _run(self) -> None:
        try:
            self._core.mda.run(self._events, output=self._save)
        except Exception as error:  # raised by `ended`
            self._failure = error
