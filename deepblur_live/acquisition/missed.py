"""Live frames that did not reach the listener, counted by reason.

The core numbers each image that a camera inserts into its buffer, and keeps it there
until a reader takes it or the buffer is full. A gap in these numbers is therefore not
the camera's fault: how many of the images are still in the buffer, and how full it may
have been, shows what became of them. Images lost before that get no number from the
core; only the camera's own frame number shows it, which few adapters pass on.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CAMERA_NUMBERS", "CameraNumbers", "Missed", "classify"]

CAMERA_NUMBERS = ("PVCAM-FMD-FrameNr", "FrameCounter")
"""Tags in which adapters pass on the camera's own frame number."""

_STEPS = 3
"""A camera's own number is used once it has agreed with the core's this many times."""


@dataclass(frozen=True)
class Missed:
    """Numbers of missed frames, by reason.

    Parameters
    ----------
    not_sent
        Numbered by the camera, but never inserted into the core's buffer. Known only
        of cameras that pass on their own numbers.
    taken
        Removed from the core's buffer by another reader.
    overwritten
        Lost when the core's buffer was full and the core emptied it.
    unread
        Still in the buffer when a newer one was read: this program was too slow.
    unknown
        Gone from the buffer, for a reason that cannot be determined: another reader
        takes frames and the buffer may have been full as well, or several cameras
        share it.
    """

    not_sent: int = 0
    taken: int = 0
    overwritten: int = 0
    unread: int = 0
    unknown: int = 0

    def __add__(self, other: Missed) -> Missed:
        counts = asdict(other)
        return Missed(**{name: n + counts[name] for name, n in asdict(self).items()})

    @property
    def total(self) -> int:
        """Total number of missed frames."""
        return sum(asdict(self).values())

    @property
    def named(self) -> tuple[tuple[str, int], ...]:
        """Each reason that occurred, as text, with its count."""
        named = (
            ("not sent by the camera", self.not_sent),
            ("taken by another reader", self.taken),
            ("overwritten in the core's buffer", self.overwritten),
            ("not read in time", self.unread),
            ("missing from the core's buffer", self.unknown),
        )
        return tuple((name, n) for name, n in named if n)

    @property
    def text(self) -> str:
        """Reasons and counts as text; empty if no frame was missed."""
        return ", ".join(f"{n} {name}" for name, n in self.named)


def classify(
    missing: int, before: int, now: int, capacity: int, *, shared: bool, read: bool
) -> Missed:
    """Return what became of the images between the last one read and a newer one.

    Parameters
    ----------
    missing
        Number of images in between.
    before, now
        Images in the buffer when the one and the other was read, including itself.
    capacity
        Images that the buffer holds; 0 if it is not known.
    shared
        Whether several cameras fill the buffer.
    read
        Whether another reader has taken images before.
    """
    if shared:
        return Missed(unknown=missing)
    unread = min(missing, max(0, now - 1))
    gone = missing - unread
    # The buffer can have been full only if these frames would have filled it.
    if before + missing + 1 < capacity:
        return Missed(taken=gone, unread=unread)
    if read or not capacity:
        return Missed(unknown=gone, unread=unread)
    return Missed(overwritten=gone, unread=unread)


class CameraNumbers:
    """Compares a camera's own numbers with the core's, to find frames never sent."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], tuple[int, int]] = {}
        self._agreed: dict[tuple[str, str], int] = {}

    def clear(self) -> None:
        """Begin another sequence; the camera's numbers stay trusted if they were."""
        self._last.clear()

    def not_sent(self, camera: str, number: int, tags: Mapping[str, object]) -> int:
        """Return how many frames the camera did not send before this one.

        Parameters
        ----------
        camera
            Label of the camera.
        number
            Number that the core gave the frame.
        tags
            The frame's metadata.
        """
        for name in CAMERA_NUMBERS:
            try:
                own = int(str(tags[name]))
            except (KeyError, ValueError):
                continue
            key = camera, name
            last = self._last.get(key)
            self._last[key] = number, own
            if last is None:
                continue
            by_core, by_camera = number - last[0], own - last[1]
            if by_core > 0 and by_core == by_camera:
                self._agreed[key] = self._agreed.get(key, 0) + 1
            elif by_camera > by_core > 0 and self._agreed.get(key, 0) >= _STEPS:
                return by_camera - by_core
        return 0
