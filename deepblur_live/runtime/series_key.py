"""Series: frames that show the same specimen through the same optics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["MOST_SERIES", "SeriesKey", "series_key", "series_text"]

MOST_SERIES = 32
"""Maximum number of series that are followed at a time."""


@dataclass(frozen=True)
class SeriesKey:
    """A channel, position and plane of an acquisition: frames that can be compared.

    Frames of a camera in live mode, of a recording, or of an MDA over time alone have
    the default key.

    Parameters
    ----------
    channel
        Name of the channel.
    position, tile, z
        Indices of the MDA, from 0; None without such an axis.
    name
        Name of the position, if it has one.
    """

    channel: str = ""
    position: int | None = None
    tile: int | None = None
    z: int | None = None
    name: str = field(default="", compare=False)

    @property
    def place(self) -> str:
        """The position and its tile, as text; empty without such an axis."""
        position = self.name or ("" if self.position is None else str(self.position))
        tile = "" if self.tile is None else f"tile {self.tile}"
        return ", ".join(filter(None, (position, tile)))

    @property
    def text(self) -> str:
        """The key for the user; empty for the default key.

        >>> SeriesKey("GFP", 1, z=4).text
        'GFP, position 1, plane 4'
        """
        return series_text(
            self.channel, self.place, "" if self.z is None else str(self.z)
        )


def series_text(channel: str, place: str, plane: str) -> str:
    """Return the text of a key from its channel, `SeriesKey.place` and plane."""
    if place.partition(",")[0].isdigit():
        place = f"position {place}"
    plane = f"plane {plane}" if plane else ""
    return ", ".join(filter(None, (channel, place, plane)))


def series_key(metadata: Mapping[str, Any]) -> SeriesKey:
    """Return the series of a frame, from its metadata.

    ``"index"`` holds the indices of an MDA event by axis (``"c"``, ``"p"``, ``"g"``,
    ``"z"``), ``"channel"`` and ``"position"`` the names of channel and position.
    """
    index = metadata.get("index")
    if not isinstance(index, Mapping):
        return SeriesKey()
    channel = metadata.get("channel", index.get("c", ""))
    return SeriesKey(
        str(channel),
        index.get("p"),
        index.get("g"),
        index.get("z"),
        str(metadata.get("position", "")),
    )
