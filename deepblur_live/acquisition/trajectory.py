"""The aberrations of the simulated microscope over time."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily

__all__ = ["AberrationTrajectory", "Step", "bump", "demonstration_trajectory"]


@dataclass(frozen=True)
class Step:
    """A sudden change: a bump, a bubble under the objective.

    Parameters
    ----------
    time
        Seconds at which it happens.
    change
        (P,) added to γ from then on, in the family's unit.
    """

    time: float
    change: tuple[float, ...]


@dataclass(frozen=True)
class AberrationTrajectory:
    """True coefficients over time: constant, then a thermal drift and steps.

    γ(t) = still + thermal·(1 - exp(-(t - start)/τ)) [t > start] + Σ steps

    Parameters
    ----------
    still
        (P,) γ at the beginning, in the family's unit.
    thermal
        (P,) total change by the thermal drift; empty for none.
    thermal_start_s, thermal_time_constant_s
        When the temperature changes, and τ of the exponential approach.
    steps
        Sudden changes.

    Raises
    ------
    ValueError
        When the lengths differ or the time constant is not positive.
    """

    still: tuple[float, ...]
    thermal: tuple[float, ...] = ()
    thermal_start_s: float = 0.0
    thermal_time_constant_s: float = 60.0
    steps: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        """Check that all parts have the same length."""
        parts = {"thermal": self.thermal}
        parts |= {f"step at {step.time} s": step.change for step in self.steps}
        for name, part in parts.items():
            if part and len(part) != len(self.still):
                raise ValueError(
                    f"{name}: {len(part)} coefficients, but still has {len(self.still)}"
                )
        if self.thermal_time_constant_s <= 0:
            raise ValueError(
                f"thermal_time_constant_s {self.thermal_time_constant_s}: "
                "must be positive"
            )

    def coefficients(self, time: float) -> NDArray[np.float64]:
        """Return γ (P,) at `time` in seconds."""
        gamma = np.array(self.still, dtype=np.float64)
        since = time - self.thermal_start_s
        if self.thermal and since > 0:
            approach = -math.expm1(-since / self.thermal_time_constant_s)
            gamma += approach * np.array(self.thermal)
        for step in self.steps:
            if step.change and time >= step.time:
                gamma += step.change
        return gamma

    def with_step(self, step: Step) -> AberrationTrajectory:
        """Return the trajectory with one more step."""
        return replace(self, steps=(*self.steps, step))


# The demonstration's aberrations by name, for a prior scale of 0.15 waves rms.
_SCALE = 0.15
_STILL = {
    "defocus": 0.06,
    "oblique astigmatism": 0.03,
    "vertical astigmatism": -0.04,
    "vertical coma": 0.03,
    "horizontal coma": -0.02,
    "vertical trefoil": 0.02,
    "oblique trefoil": 0.015,
}
# Terms that vary over the field: a tilted specimen, a curved field, a decentred lens.
# The scale of their prior is half that of the others.
_FIELD = {
    "defocus, linear, along x": 0.08,
    "field curvature": 0.16,
    "astigmatism, linear, along y": 0.10,
    "astigmatism, quadratic": 0.08,
    "coma, linear": 0.12,
}
_THERMAL = {"defocus": 0.055, "vertical astigmatism": 0.02}
_BUMP = {"defocus": 0.02, "oblique astigmatism": 0.05, "horizontal coma": -0.04}
# In a field the specimen tilts.
_TILT = {"defocus, linear, along x": 0.36}


def _vector(
    family: BlurFamily, by_name: Mapping[str, float], share: float
) -> NDArray[np.float64]:
    """Return coefficients (P,) given by name.

    In a family without these aberrations all coefficients differ from zero, with
    alternating signs, by a share of the size of its prior.
    """
    vector = np.array([by_name.get(name, 0.0) for name in family.names])
    if vector.any():
        # Where the prior has the scale above, exactly the amounts above.
        return vector * (family.prior.scale / _SCALE)
    signs = (-1.0) ** np.arange(len(vector))
    return share * signs * family.prior.scale / math.sqrt(len(vector))


def bump(family: BlurFamily) -> tuple[float, ...]:
    """Return the demonstration's step.

    For Zernike modes astigmatism, coma and defocus, 0.067 waves rms; for a field of
    them a tilt, 0.10 waves rms over a square frame.
    """
    if set(_TILT) <= set(family.names):
        return tuple(_vector(family, _TILT, 0.5).tolist())
    return tuple(_vector(family, _BUMP, 0.5).tolist())


def demonstration_trajectory(family: BlurFamily) -> AberrationTrajectory:
    """Return the aberrations of the demonstration, which takes a minute and a half.

    Constant for 32 s (time for a baseline); a thermal drift with τ = 8 s, for Zernike
    modes mostly of defocus and 0.059 waves rms in the end (above the warning at 0.036);
    a bump at 58 s, by which the change becomes 0.101 (above the alarm at 0.072).
    For a field, terms that vary over it are added, and the bump is a tilt.
    """
    still = family.prior.mean + _vector(family, _STILL | _FIELD, -0.4)
    return AberrationTrajectory(
        still=tuple(still.tolist()),
        thermal=tuple(_vector(family, _THERMAL, 0.4).tolist()),
        thermal_start_s=32.0,
        thermal_time_constant_s=8.0,
        steps=(Step(58.0, bump(family)),),
    )
