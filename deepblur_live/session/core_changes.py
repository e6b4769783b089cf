"""Reports from a core that the specimen has changed: stage, turrets and presets."""

from __future__ import annotations

import contextlib
import math
import weakref
from time import monotonic
from typing import TYPE_CHECKING

from pymmcore_plus import DeviceType, Keyword

from deepblur_live.acquisition.core_signals import connect_direct

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymmcore_plus import CMMCorePlus

__all__ = ["follow_core"]

# Encoders report less than this while the stage stands still.
_MOVED_UM = 5.0
# After an MDA, a core may report the MDA's own settings for this long.
_LATE_S = 1.0


def follow_core(core: CMMCorePlus, report: Callable[[str], None]) -> Callable[[], None]:
    """Call `report` with the reason when the stage, a turret or a preset changes.

    The focus drive is ignored: an autofocus moves it all the time, and its errors are
    the drift to be found. A preset or position that is set again to the same value is
    no change: scripts set their channel before every frame, and a core still reports
    its startup preset after its configuration has been loaded. Nor are the positions
    and channels that an MDA goes to: each frame has them in its metadata.

    Returns
    -------
    unfollow
        Call it to disconnect.
    """
    mda = _MdaSettings()

    def report_stage(reason: str) -> None:
        if not mda.covers(mda.moves_stage):
            report(reason)

    def report_setting(reason: str) -> None:
        if not mda.covers(mda.sets_channel):
            report(reason)

    stage = _Stage(core, report_stage)
    presets = _Settings(_presets(core), report_setting)
    turrets = _Settings(_turrets(core), report_setting)
    # The core holds the slot, so the slot must not hold the core.
    held = weakref.ref(core)

    def on_property(device: str, name: str, value: str) -> None:
        core = held()
        if core is None or name != Keyword.Label.value:
            return
        if _is_turret(core, device):
            turrets.set_to(device, value)

    events = core.events
    ends = (
        connect_direct(events.XYStagePositionChanged, stage.moved),
        connect_direct(events.configSet, presets.set_to),
        connect_direct(events.propertyChanged, on_property),
        connect_direct(core.mda.events.eventStarted, mda.event_started),
        connect_direct(core.mda.events.sequenceFinished, mda.ended),
    )

    def unfollow() -> None:
        # The signals of Qt are freed with their core, and cannot be disconnected then.
        core = held()
        for end in ends if core is not None else ():
            end()

    return unfollow


class _MdaSettings:
    """What an MDA sets with its events; a core may report it after its end."""

    def __init__(self) -> None:
        self.moves_stage = self.sets_channel = False
        self._ended_at: float | None = None

    def covers(self, sets: bool) -> bool:
        """Return whether a report now concerns what the MDA itself has set."""
        ended = self._ended_at
        return sets and (ended is None or monotonic() - ended < _LATE_S)

    def event_started(self, event: object = None, *_: object) -> None:
        if self._ended_at is not None:
            self._ended_at = None
            self.moves_stage = self.sets_channel = False
        if getattr(event, "x_pos", None) is not None:
            self.moves_stage = True
        if getattr(event, "channel", None) is not None:
            self.sets_channel = True

    def ended(self, *_: object) -> None:
        self._ended_at = monotonic()


class _Stage:
    def __init__(self, core: CMMCorePlus, report: Callable[[str], None]) -> None:
        self._report = report
        self._at: dict[str, tuple[float, float]] = {}
        # A stage that cannot report its position may still report its moves.
        with contextlib.suppress(RuntimeError):
            if device := core.getXYStageDevice():
                self._at[device] = (core.getXPosition(), core.getYPosition())

    def moved(self, device: str, x: float, y: float) -> None:
        before = self._at.setdefault(device, (x, y))
        if math.dist(before, (x, y)) >= _MOVED_UM:
            self._at[device] = (x, y)
            self._report("the stage has moved")


class _Settings:
    def __init__(self, known: dict[str, str], report: Callable[[str], None]) -> None:
        self._known = known
        self._report = report

    def set_to(self, name: str, value: str) -> None:
        if self._known.get(name) != value:
            self._known[name] = value
            self._report(f"{name} was set to {value}")


def _presets(core: CMMCorePlus) -> dict[str, str]:
    groups = core.getAvailableConfigGroups()
    return {group: core.getCurrentConfigFromCache(group) for group in groups}


def _turrets(core: CMMCorePlus) -> dict[str, str]:
    known: dict[str, str] = {}
    for device in core.getLoadedDevicesOfType(DeviceType.State):
        # One that does not respond now may do so later.
        with contextlib.suppress(RuntimeError):
            known[device] = core.getStateLabel(device)
    return known


def _is_turret(core: CMMCorePlus, device: str) -> bool:
    try:
        return core.getDeviceType(device) is DeviceType.State
    except RuntimeError:
        # The device has been unloaded in the meantime.
        return False
