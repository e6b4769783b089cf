"""Acquire a focus sweep: move the focus drive, snap, and always move it back."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deepblur_live.identification import SweepError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from pymmcore_plus import CMMCorePlus

__all__ = ["AcquiredSweep", "acquire_sweep", "move_focus"]

_TIMEOUT_S = 5.0
_POLL_S = 0.01
# How far from its target the stage may stop, as a share of a step.
_ACCURACY = 0.3


@dataclass(frozen=True)
class AcquiredSweep:
    """Frames through focus.

    Parameters
    ----------
    stage
        Label of the focus drive.
    start_um
        Its position before and after.
    z_um
        (K,) positions of the frames relative to it, as the stage reports them.
    frames
        K frames (H, W).
    """

    stage: str
    start_um: float
    z_um: NDArray[np.float64]
    frames: Sequence[NDArray[Any]]


def acquire_sweep(
    core: CMMCorePlus,
    offsets_um: NDArray[np.float64],
    range_um: float,
    *,
    timeout_s: float = _TIMEOUT_S,
    clock: Callable[[], float] = time.monotonic,
    progress: Callable[[int], None] = lambda count: None,
) -> AcquiredSweep:
    """Snap a frame at each offset from the present focus.

    The stage returns to where it was, also after an error. Live mode must not run; an
    MDA may be paused.

    Parameters
    ----------
    core
        The microscope.
    offsets_um
        (K,) offsets from the present position.
    range_um
        Largest offset that the caller allows.
    timeout_s
        Longest time for one move.
    clock
        Seconds, monotonic.
    progress
        Called before each move with the number of frames so far; what it raises ends
        the sweep.

    Raises
    ------
    SweepError
        There is no focus drive, something else is running, an offset exceeds the range,
        or the stage does not arrive, does not move, or moves the wrong way.
    """
    stage = core.getFocusDevice()
    if not stage:
        raise SweepError(
            "the configuration has no focus drive: add a line "
            "Property,Core,Focus,LABEL with the label of a loaded stage"
        )
    acquiring = core.mda.is_running() and not core.mda.is_paused()
    if acquiring or core.isSequenceRunning():
        raise SweepError(
            "stop live mode, and pause or end the MDA, before the focus is moved"
        )
    furthest = float(np.abs(offsets_um).max())
    if furthest > range_um:
        raise SweepError(
            f"an offset of {1000 * furthest:.0f} nm exceeds the allowed range of "
            f"{1000 * range_um:.0f} nm"
        )
    start = float(core.getPosition(stage))
    frames: list[NDArray[Any]] = []
    reached: list[float] = []
    try:
        for offset in offsets_um:
            progress(len(frames))
            move_focus(core, stage, start + float(offset), timeout_s, clock)
            reached.append(float(core.getPosition(stage)) - start)
            core.snapImage()
            frames.append(np.array(core.getImage()))
    finally:
        _move_back(core, stage, start, timeout_s, clock)
    z_um = np.array(reached)
    _check_moves(stage, np.asarray(offsets_um, dtype=np.float64), z_um)
    return AcquiredSweep(stage, start, z_um, frames)


def move_focus(
    core: CMMCorePlus,
    stage: str,
    target_um: float,
    timeout_s: float = _TIMEOUT_S,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Move a stage and wait until it stands still.

    Raises
    ------
    SweepError
        It still moves after `timeout_s`; it is then stopped.
    """
    core.setPosition(stage, target_um)
    end = clock() + timeout_s
    pause = threading.Event()  # never set: a wait without a busy loop
    while core.deviceBusy(stage):
        if clock() > end:
            core.stop(stage)
            raise SweepError(
                f"{stage} is still moving after {timeout_s:g} s; it was stopped"
            )
        pause.wait(_POLL_S)


def _move_back(
    core: CMMCorePlus,
    stage: str,
    start_um: float,
    timeout_s: float,
    clock: Callable[[], float],
) -> None:
    """Move a stage to where it was; say so if that fails, whatever failed before."""
    try:
        move_focus(core, stage, start_um, timeout_s, clock)
    except Exception as error:  # whatever a driver raises
        raise SweepError(
            f"{stage} has not returned to {start_um:.3f} µm: {error}"
        ) from error


def _check_moves(
    stage: str, wanted: NDArray[np.float64], reached: NDArray[np.float64]
) -> None:
    steps, moved = np.diff(wanted), np.diff(reached)
    if np.all(np.abs(moved) < _ACCURACY * np.abs(steps)):
        raise SweepError(f"{stage} does not move: is it switched on, and not locked?")
    if np.any(moved * steps < 0):
        raise SweepError(f"{stage} moves the wrong way: check its direction")
    if np.any(np.abs(moved - steps) > _ACCURACY * np.abs(steps)):
        raise SweepError(
            f"{stage} moved by {', '.join(f'{1000 * m:.0f}' for m in moved)} nm "
            f"instead of {', '.join(f'{1000 * s:.0f}' for s in steps)} nm"
        )
