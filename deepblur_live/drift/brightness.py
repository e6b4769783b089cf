"""Frames so much dimmer or brighter that their estimates cannot be compared.

What an estimate gets wrong depends on the frame's noise. While a specimen bleaches the
estimates creep, as they would with the optics; but light tells the two apart: an
aberration moves it about and takes none away.
"""

from __future__ import annotations

import math

__all__ = ["Brightness"]

# Half as much again is 1.22 times the shot noise over the signal.
_FACTOR = 1.5
# A lamp that flickers, a cell that blinks: what counts lasts longer.
_AVERAGE_S = 30.0


class Brightness:
    """Compares the light in the frames with that at the baseline.

    Parameters
    ----------
    factor
        Between the two, either way, beyond which it is another.
    """

    def __init__(self, factor: float = _FACTOR) -> None:
        self._limit = math.log(factor)
        self.reset()

    @property
    def change(self) -> float:
        """Logarithm of the light now over that at the baseline."""
        return 0.0 if self._now is None else self._now - self._reference

    def reset(self) -> None:
        """Forget it: another specimen, another exposure."""
        self._time = 0.0
        self._now: float | None = None
        self._reference = 0.0

    def notice(self, time: float, light: float, armed: bool) -> str:
        """Return why estimates cannot be compared with the baseline's, or nothing.

        Parameters
        ----------
        time
            Seconds since the session began.
        light
            Mean of the frame above its dark, in any unit; without any, nothing is
            noticed.
        armed
            Whether there is a baseline; until then its light is what it is now.
        """
        if not light > 0 or not math.isfinite(light):
            return ""
        logarithm = math.log(light)
        if self._now is None:
            self._now = self._reference = logarithm
        gone = max(0.0, time - self._time)
        self._now += (logarithm - self._now) * -math.expm1(-gone / _AVERAGE_S)
        self._time = time
        change = self.change
        if armed and abs(change) < self._limit:
            return ""
        self._reference = self._now
        if not armed:
            return ""
        return f"the frames have become {'dimmer' if change < 0 else 'brighter'}"
