"""The scenarios of simulated sessions: how the optics change, and what else happens."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.blur import ChangeShape
from deepblur_live.blur.zernike import SPHERICAL_MODES, ZernikeFamily

if TYPE_CHECKING:
    from collections.abc import Callable

    Begin = Callable[[np.random.Generator, float], "Trajectory"]

__all__ = ["SCENARIOS", "Moment", "Scenario", "Trajectory", "fwhm"]

# Changes begin after this many seconds, when the charts have had time to be armed.
_EARLIEST = 3000.0
_FINE_PIXEL_NM = 5.0


@dataclass(frozen=True)
class Moment:
    """The session at one instant.

    Parameters
    ----------
    change
        Of the optics, waves rms along the specimen's measured direction.
    bleached
        0 to 1: how far the noise has grown to twice its size.
    place
        0 or 1: which of the two places of the specimen is imaged.
    new_place
        True at the first instant of a place.
    blind
        True when there is no estimate: an empty, saturated or missing frame.
    """

    change: float = 0.0
    bleached: float = 0.0
    place: float = 0.0
    new_place: bool = False
    blind: bool = False

    @property
    def light(self) -> float:
        """Share of the light that is left; shot noise relative to it grows as 1/√."""
        return (1 + self.bleached) ** -2


@dataclass(frozen=True)
class Trajectory:
    """A session over time: its moments, and when the optics begin to change."""

    at: Callable[[float], Moment]
    onset: float = 0.0

    def __call__(self, now: float) -> Moment:
        """Return the moment at `now`, in seconds."""
        return self.at(now)


@dataclass(frozen=True)
class Scenario:
    """A kind of session.

    Parameters
    ----------
    name
        As in the table.
    begin
        Makes a session's trajectory from a random generator and its length in seconds.
    shape
        Of the optics' change, so that an alert is right; None where they do not change.
    random_signs
        Whether estimates come in a random one of the equivalents with the same PSF.
    reported
        Whether stage moves are reported to the monitor.
    """

    name: str
    begin: Begin
    shape: ChangeShape | None = None
    random_signs: bool = False
    reported: bool = True


def _still(rng: np.random.Generator, length: float) -> Trajectory:
    return Trajectory(lambda now: Moment())


def _bleaching(rng: np.random.Generator, length: float) -> Trajectory:
    return Trajectory(lambda now: Moment(bleached=now / length))


def _moves(rng: np.random.Generator, length: float) -> Trajectory:
    times = np.cumsum(rng.exponential(1800.0, 100)) + 600
    times = times[times < length]

    def at(now: float) -> Moment:
        passed = int(np.searchsorted(times, now, side="right"))
        new = passed > 0 and now - times[passed - 1] < 1.0
        return Moment(place=float(passed % 2), new_place=bool(new))

    return Trajectory(at)


def _blind(rng: np.random.Generator, length: float) -> Trajectory:
    begins = np.cumsum(rng.exponential(200.0, 1000))
    ends = begins + rng.exponential(60.0, 1000)

    def at(now: float) -> Moment:
        last = int(np.searchsorted(begins, now, side="right")) - 1
        return Moment(blind=bool(last >= 0 and now < ends[last]))

    return Trajectory(at)


def _onset(rng: np.random.Generator, length: float) -> float:
    return float(rng.uniform(_EARLIEST, _EARLIEST + 0.2 * length))


def _step(size: float) -> Begin:
    """Return a sudden change, in waves."""

    def begin(rng: np.random.Generator, length: float) -> Trajectory:
        onset = _onset(rng, length)
        return Trajectory(lambda now: Moment(size * (now >= onset)), onset)

    return begin


def _ramp(size: float, seconds: float, bleaches: bool = False) -> Begin:
    """Return a steady change, in waves and seconds, which then stays."""

    def begin(rng: np.random.Generator, length: float) -> Trajectory:
        onset = _onset(rng, length)

        def at(now: float) -> Moment:
            done = min(max(now - onset, 0) / seconds, 1.0)
            return Moment(size * done, bleaches * now / length)

        return Trajectory(at, onset)

    return begin


def _settling(size: float, time_constant: float, at_once: bool = False) -> Begin:
    """Return an exponential approach, from the session's beginning or later."""

    def begin(rng: np.random.Generator, length: float) -> Trajectory:
        onset = 0.0 if at_once else _onset(rng, length)

        def at(now: float) -> Moment:
            since = max(now - onset, 0.0)
            return Moment(-size * float(np.expm1(-since / time_constant)))

        return Trajectory(at, onset)

    return begin


_STEP, _RAMP = ChangeShape.STEP, ChangeShape.RAMP
_SETTLING = ChangeShape.SETTLING

SCENARIOS = (
    Scenario("still", _still),
    Scenario("bleaching to twice the noise", _bleaching),
    Scenario("sign ambiguity at random", _still, random_signs=True),
    Scenario("empty and saturated frames", _blind),
    Scenario("stage moves, reported", _moves),
    Scenario("stage moves, not detected", _moves, reported=False),
    Scenario("step of 0.05 waves", _step(0.05), _STEP),
    Scenario("step of 0.1 waves", _step(0.1), _STEP),
    Scenario("drift of 0.072 waves in 10 min", _ramp(0.072, 600.0), _RAMP),
    Scenario("drift of 0.072 waves in 1 h", _ramp(0.072, 3600.0), _RAMP),
    Scenario("drift of 0.072 waves in 4 h", _ramp(0.072, 14400.0), _RAMP),
    Scenario("the same, bleaching", _ramp(0.072, 14400.0, True), _RAMP),
    # Within one point of the charts.
    Scenario("ramp of 0.09 waves in 30 s", _ramp(0.09, 30.0), _STEP),
    Scenario("settling, 0.1 waves, 15 min", _settling(0.1, 900.0), _SETTLING),
    Scenario("the same from the start", _settling(0.1, 900.0, True), _SETTLING),
)


@lru_cache(maxsize=1)
def _fine() -> ZernikeFamily:
    return ZernikeFamily(pixel_size_nm=_FINE_PIXEL_NM, noll=SPHERICAL_MODES)


def fwhm(coefficients: np.ndarray) -> float:
    """Return the diameter in nm of a disc with the area of the PSF's upper half."""
    psf = _fine().psf(torch.as_tensor(coefficients, dtype=torch.float64))
    area = float((psf >= psf.max() / 2).sum()) * _FINE_PIXEL_NM**2
    return float(2 * np.sqrt(area / np.pi))
