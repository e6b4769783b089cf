"""What a core says of its stage, its turrets and its presets: another specimen."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING

from pymmcore_plus import DeviceType, Keyword

from deepblur_live.acquisition.core_signals import connect_direct

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymmcore_plus import CMMCorePlus

__all__ = ["follow_core"]

# Encoders report less than this while the stage stands still.
_MOVED_UM = 5.0


def follow_core(core: CMMCorePlus, tell: Callable[[str], None]) -> Callable[[], None]:
    """Have `tell` called when the stage moves, or a turret or preset changes.

    The focus drive is left out: a focus lock moves it all the time, and what it does
    wrong is what drift is about.

    Returns
    -------
    unfollow
        Ends it.
    """
    stage = _Stage(core, tell)

    def on_preset(group: str, preset: str) -> None:
        tell(f"{group} was set to {preset}")

    def on_property(device: str, name: str, value: str) -> None:
        if name == Keyword.Label.value and _is_turret(core, device):
            tell(f"{device} was set to {value}")

    events = core.events
    ends = (
        connect_direct(events.XYStagePositionChanged, stage.moved),
        connect_direct(events.configSet, on_preset),
        connect_direct(events.propertyChanged, on_property),
    )

    def unfollow() -> None:
        for end in ends:
            end()

    return unfollow


class _Stage:
    def __init__(self, core: CMMCorePlus, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._at: dict[str, tuple[float, float]] = {}
        # A stage that cannot say where it is may still say where it goes.
        with contextlib.suppress(RuntimeError):
            if device := core.getXYStageDevice():
                self._at[device] = (core.getXPosition(), core.getYPosition())

    def moved(self, device: str, x: float, y: float) -> None:
        before = self._at.setdefault(device, (x, y))
        if math.dist(before, (x, y)) >= _MOVED_UM:
            self._at[device] = (x, y)
            self._tell("the stage has moved")


def _is_turret(core: CMMCorePlus, device: str) -> bool:
    try:
        return core.getDeviceType(device) is DeviceType.State
    except RuntimeError:
        # A device that has gone meanwhile.
        return False
