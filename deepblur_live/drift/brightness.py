"""Detect frames so much dimmer or brighter that their estimates are not comparable.

The systematic error of an estimate depends on the noise of the frame. While a specimen
bleaches the estimates change slowly, as they would with the optics. The total light
distinguishes the two: an aberration redistributes light and removes none.
"""

from __future__ import annotations

import math

__all__ = ["Brightness"]

# Changes the relative shot noise by a factor of 1.22.
_FACTOR = 1.5
# Longer than a flickering lamp or a blinking cell.
_AVERAGE_S = 30.0


class Brightness:
    """Compares the light in the frames with that at the baseline."""

    def __init__(self) -> None:
        self.reset()

    @property
    def change(self) -> float:
        """Logarithm of the present light over that at the baseline."""
        return 0.0 if self._now is None else self._now - self._reference

    def reset(self) -> None:
        """Start again: another specimen, another exposure."""
        self._time = 0.0
        self._now: float | None = None
        self._reference = 0.0

    def notice(self, time: float, light: float, armed: bool) -> str:
        """Return why estimates are not comparable with the baseline; empty if they are.

        Parameters
        ----------
        time
            Seconds since the session began.
        light
            Mean of the frame above the dark level, in any unit; ignored unless positive
            and finite.
        armed
            Whether there is a baseline; until then the reference follows the light.
        """
        if not light > 0 or not math.isfinite(light):
            return ""
        logarithm = math.log(light)
        if self._now is None:
            self._now = self._reference = logarithm
        elapsed = max(0.0, time - self._time)
        self._now += (logarithm - self._now) * -math.expm1(-elapsed / _AVERAGE_S)
        self._time = time
        change = self.change
        if armed and abs(change) < math.log(_FACTOR):
            return ""
        self._reference = self._now
        if not armed:
            return ""
        return f"the frames have become {'dimmer' if change < 0 else 'brighter'}"
