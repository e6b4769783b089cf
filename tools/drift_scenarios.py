"""The courses that sessions are simulated with: what moves, when, and what is blind."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.drift.shape import Shape
from deepblur_live.optics import ZernikeFamily

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SCENARIOS", "Course", "Moment", "Scenario", "fwhm"]

# Changes begin after so long, in seconds, when the charts have had time to be armed.
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
        0 or 1: which of the two places of the specimen is looked at.
    new_place
        True at the first instant of a place.
    blind
        True when no estimate comes: an empty, saturated or missing frame.
    """

    change: float = 0.0
    bleached: float = 0.0
    place: float = 0.0
    new_place: bool = False
    blind: bool = False

    @property
    def light(self) -> float:
        """What is left of the light; the noise of light over it goes as its root."""
        return (1 + self.bleached) ** -2


@dataclass(frozen=True)
class Course:
    """A session's course: moments by time, and when the change of the optics begins."""

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
        Makes a session's course from a random generator and its length in seconds.
    shape
        Of the optics' change, so that an alert is right; None where they keep still.
    twins
        Whether estimates come in a random twin.
    told
        Whether the program is told of stage moves, or sees them in the frames.
    """

    name: str
    begin: Callable[[np.random.Generator, float], Course]
    shape: Shape | None = None
    twins: bool = False
    told: bool = True


def _still(rng: np.random.Generator, length: float) -> Course:
    return Course(lambda now: Moment())


def _bleaching(rng: np.random.Generator, length: float) -> Course:
    return Course(lambda now: Moment(bleached=now / length))


def _moves(rng: np.random.Generator, length: float) -> Course:
    times = np.cumsum(rng.exponential(1800.0, 100)) + 600
    times = times[times < length]

    def at(now: float) -> Moment:
        passed = int(np.searchsorted(times, now, side="right"))
        new = passed > 0 and now - times[passed - 1] < 1.0
        return Moment(place=float(passed % 2), new_place=bool(new))

    return Course(at)


def _blind(rng: np.random.Generator, length: float) -> Course:
    begins = np.cumsum(rng.exponential(200.0, 1000))
    ends = begins + rng.exponential(60.0, 1000)

    def at(now: float) -> Moment:
        last = int(np.searchsorted(begins, now, side="right")) - 1
        return Moment(blind=bool(last >= 0 and now < ends[last]))

    return Course(at)


def _onset(rng: np.random.Generator, length: float) -> float:
    return float(rng.uniform(_EARLIEST, _EARLIEST + 0.2 * length))


@dataclass(frozen=True)
class Step:
    """A sudden change, in waves."""

    size: float

    def __call__(self, rng: np.random.Generator, length: float) -> Course:
        """Begin a session."""
        onset = _onset(rng, length)
        return Course(lambda now: Moment(self.size * (now >= onset)), onset)


@dataclass(frozen=True)
class Ramp:
    """A steady change of so many waves within so many seconds, which then stands."""

    size: float
    seconds: float
    bleaches: bool = False

    def __call__(self, rng: np.random.Generator, length: float) -> Course:
        """Begin a session."""
        onset = _onset(rng, length)

        def at(now: float) -> Moment:
            done = min(max(now - onset, 0) / self.seconds, 1.0)
            return Moment(self.size * done, self.bleaches * now / length)

        return Course(at, onset)


@dataclass(frozen=True)
class Settling:
    """An exponential approach, from the session's beginning or later."""

    size: float
    time_constant: float
    at_once: bool

    def __call__(self, rng: np.random.Generator, length: float) -> Course:
        """Begin a session."""
        onset = 0.0 if self.at_once else _onset(rng, length)

        def at(now: float) -> Moment:
            since = max(now - onset, 0.0)
            return Moment(-self.size * float(np.expm1(-since / self.time_constant)))

        return Course(at, onset)


SCENARIOS = (
    Scenario("still", _still),
    Scenario("bleaching to twice the noise", _bleaching),
    Scenario("the twin at random", _still, twins=True),
    Scenario("empty and saturated frames", _blind),
    Scenario("stage moves, told", _moves),
    Scenario("stage moves, never noticed", _moves, told=False),
    Scenario("step of 0.05 waves", Step(0.05), Shape.STEP),
    Scenario("step of 0.1 waves", Step(0.1), Shape.STEP),
    Scenario("drift of 0.072 waves in 10 min", Ramp(0.072, 600.0), Shape.RAMP),
    Scenario("drift of 0.072 waves in 1 h", Ramp(0.072, 3600.0), Shape.RAMP),
    Scenario("drift of 0.072 waves in 4 h", Ramp(0.072, 14400.0), Shape.RAMP),
    Scenario("the same, bleaching", Ramp(0.072, 14400.0, True), Shape.RAMP),
    # Within one point of the charts.
    Scenario("ramp of 0.09 waves in 30 s", Ramp(0.09, 30.0), Shape.STEP),
    Scenario(
        "settling, 0.1 waves, 15 min", Settling(0.1, 900.0, False), Shape.SETTLING
    ),
    Scenario("the same from the start", Settling(0.1, 900.0, True), Shape.SETTLING),
)


@lru_cache(maxsize=2)
def _fine(family: ZernikeFamily) -> ZernikeFamily:
    return ZernikeFamily(
        family.numerical_aperture,
        family.wavelength_nm,
        family.refractive_index,
        _FINE_PIXEL_NM,
        family.noll,
    )


def fwhm(family: ZernikeFamily, coefficients: np.ndarray) -> float:
    """Return the diameter in nm of the disc as large as the PSF's upper half."""
    psf = _fine(family).psf(torch.as_tensor(coefficients, dtype=torch.float64))
    area = float((psf >= psf.max() / 2).sum()) * _FINE_PIXEL_NM**2
    return float(2 * np.sqrt(area / np.pi))
