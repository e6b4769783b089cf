"""How the simulated optics move: thermal approach, steps, a slow ramp."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["AberrationCourse", "ModesLike", "Step", "bump", "demonstration_course"]


class ModesLike(Protocol):
    """What a course needs of a Zernike family."""

    @property
    def noll(self) -> tuple[int, ...]:
        """Noll indices of the modes."""


@dataclass(frozen=True)
class Step:
    """A sudden change: a bump, a bubble under the objective.

    Parameters
    ----------
    time
        Seconds at which it happens.
    change
        (P,) added to γ from then on, waves rms.
    """

    time: float
    change: tuple[float, ...]


@dataclass(frozen=True)
class AberrationCourse:
    """True coefficients over time: still, then a thermal drift, steps, a ramp.

    γ(t) = still + thermal·(1 - exp(-(t - start)/τ)) [t > start] + Σ steps + ramp·t

    Parameters
    ----------
    still
        (P,) γ at the beginning, waves rms.
    thermal
        (P,) what the thermal drift adds in the end; empty for none.
    thermal_start_s, thermal_time_constant_s
        When the temperature changes, and τ of the exponential approach.
    steps
        Sudden changes.
    ramp_per_s
        (P,) slow ramp, waves rms a second (immersion oil drying); empty for none.

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
    ramp_per_s: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse parts that do not fit together."""
        parts = {"thermal": self.thermal, "ramp_per_s": self.ramp_per_s}
        parts |= {f"step at {step.time} s": step.change for step in self.steps}
        for name, part in parts.items():
            if part and len(part) != len(self.still):
                raise ValueError(
                    f"{name}: {len(part)} coefficients, but still has "
                    f"{len(self.still)}; give one a mode"
                )
        if self.thermal_time_constant_s <= 0:
            raise ValueError(
                f"thermal_time_constant_s {self.thermal_time_constant_s}: "
                "must be positive"
            )

    def coefficients(self, time: float) -> NDArray[np.float64]:
        """Return γ (P,) in waves rms at `time` in seconds."""
        gamma = np.array(self.still, dtype=np.float64)
        since = time - self.thermal_start_s
        if self.thermal and since > 0:
            approach = -math.expm1(-since / self.thermal_time_constant_s)
            gamma += approach * np.array(self.thermal)
        for step in self.steps:
            if step.change and time >= step.time:
                gamma += step.change
        if self.ramp_per_s:
            gamma += time * np.array(self.ramp_per_s)
        return gamma

    def with_step(self, step: Step) -> AberrationCourse:
        """Return the course with one more step."""
        return replace(self, steps=(*self.steps, step))


def _by_mode(family: ModesLike, modes: Mapping[int, float]) -> tuple[float, ...]:
    return tuple(modes.get(noll, 0.0) for noll in family.noll)


def bump(family: ModesLike) -> tuple[float, ...]:
    """Return the demonstration's step: astigmatism, coma and defocus, 0.067 waves."""
    return _by_mode(family, {4: 0.02, 5: 0.05, 8: -0.04})


def demonstration_course(family: ModesLike) -> AberrationCourse:
    """Return a minute and a half that shows it all.

    Still for 32 s (room for a baseline); a thermal drift of mostly defocus, τ = 8 s,
    0.059 waves rms in the end (above the warning at 0.036); a bump at 58 s that takes
    the change to 0.101 (above the alarm at 0.072).
    """
    still = {4: 0.06, 5: 0.03, 6: -0.04, 7: 0.03, 8: -0.02, 9: 0.02, 10: 0.015}
    return AberrationCourse(
        still=_by_mode(family, still),
        thermal=_by_mode(family, {4: 0.055, 6: 0.02}),
        thermal_start_s=32.0,
        thermal_time_constant_s=8.0,
        steps=(Step(58.0, bump(family)),),
    )
