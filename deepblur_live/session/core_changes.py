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
    wrong is what drift is about. A preset or position that is set again as it was is
    no change: scripts set their channel before every frame, and a core still tells of
    its startup preset when its configuration has been loaded.

    Returns
    -------
    unfollow
        Ends it.
    """
    stage = _Stage(core, tell)
    presets = _Settings(_presets(core), tell)
    turrets = _Settings(_turrets(core), tell)

    def on_property(device: str, name: str, value: str) -> None:
        if name == Keyword.Label.value and _is_turret(core, device):
            turrets.set_to(device, value)

    events = core.events
    ends = (
        connect_direct(events.XYStagePositionChanged, stage.moved),
        connect_direct(events.configSet, presets.set_to),
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


class _Settings:
    def __init__(self, known: dict[str, str], tell: Callable[[str], None]) -> None:
        self._known = known
        self._tell = tell

    def set_to(self, name: str, value: str) -> None:
        if self._known.get(name) != value:
            self._known[name] = value
            self._tell(f"{name} was set to {value}")


def _presets(core: CMMCorePlus) -> dict[str, str]:
    groups = core.getAvailableConfigGroups()
    return {group: core.getCurrentConfigFromCache(group) for group in groups}


def _turrets(core: CMMCorePlus) -> dict[str, str]:
    known: dict[str, str] = {}
    for device in core.getLoadedDevicesOfType(DeviceType.State):
        # One that does not answer now may do so later.
        with contextlib.suppress(RuntimeError):
            known[device] = core.getStateLabel(device)
    return known


def _is_turret(core: CMMCorePlus, device: str) -> bool:
    try:
        return core.getDeviceType(device) is DeviceType.State
    except RuntimeError:
        # A device that has gone meanwhile.
        return False
