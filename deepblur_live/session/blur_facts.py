"""Facts about a family of blurs for reports, which need not be computed again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deepblur_live.blur.family import ChangeMetric, Quality

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["BlurFacts"]


@dataclass(frozen=True, eq=False)
class BlurFacts:
    """Names, units and constants of a family of blurs.

    Parameters
    ----------
    names, unit, metric, cutoff
        As in `deepblur_live.blur.BlurFamily`.
    kinds
        Kinds of the first coefficients, those that have their own curves
        (`deepblur_live.blur.charted.curve_kinds`).
    notes
        What the family's symmetries mean for the user.
    mean
        (P,) mean of the prior.
    mean_name
        Name of that state for a reader.
    mean_quality
        The measures of its quality, with name, unit and reference.
    sensor
        Rows and columns of the sensor, for a field; None for other families.
    left_out
        Coefficients that a calibration doesn't determine; None without a calibration.
    expected
        Root mean square distance of a state from the mean of the calibration, in the
        metric's unit; 0 without a calibration.
    """

    names: tuple[str, ...]
    unit: str
    metric: ChangeMetric
    cutoff: float
    kinds: tuple[str, ...]
    notes: tuple[str, ...]
    mean: NDArray[np.float64]
    mean_name: str
    mean_quality: tuple[Quality, ...]
    sensor: tuple[int, int] | None
    left_out: tuple[str, ...] | None
    expected: float

    @property
    def n_coefficients(self) -> int:
        """Number of coefficients P."""
        return len(self.names)

    @property
    def charted(self) -> int:
        """Number of the first coefficients that have their own curves."""
        return len(self.kinds)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> BlurFacts:
        """Return the facts whose ``dataclasses.asdict`` was written as JSON.

        Raises
        ------
        TypeError, ValueError, KeyError
            `content` has another form.
        """
        metric = content["metric"]
        metric = ChangeMetric(**metric | {"matrix": np.array(metric["matrix"], float)})
        lists = ("names", "kinds", "notes", "sensor", "left_out")
        tuples = {
            name: None if content[name] is None else tuple(content[name])
            for name in lists
        }
        more = {
            "metric": metric,
            "mean": np.array(content["mean"], float),
            "mean_quality": tuple(Quality(**one) for one in content["mean_quality"]),
        }
        return cls(**{**content, **tuples, **more})
