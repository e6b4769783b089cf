"""The true blur that a simulated camera writes into its frames' metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TRUTH_KEY", "TRUTH_TIME_KEY", "Truth", "read_truth"]

TRUTH_KEY = "truth"
TRUTH_TIME_KEY = "truth_time"


@dataclass(frozen=True)
class Truth:
    """The truth of a simulated frame.

    Parameters
    ----------
    coefficients
        (P,) true coefficients γ, in the family's unit.
    time
        Seconds on the sample's clock; ``sample.truth_image(time)`` is the sharp frame.
    """

    coefficients: NDArray[np.float64]
    time: float


def read_truth(metadata: Mapping[str, Any]) -> Truth | None:
    """Find the truth in the metadata of a live, snapped or MDA frame.

    A core turns metadata into text, and an MDA puts the camera's under
    ``"camera_metadata"``.

    Returns
    -------
    The truth, or None when the metadata holds none that can be read (a real camera,
    a plain snap).
    """
    if TRUTH_KEY not in metadata:
        inner = metadata.get("camera_metadata")
        return read_truth(inner) if isinstance(inner, Mapping) else None
    coefficients, time = metadata[TRUTH_KEY], metadata.get(TRUTH_TIME_KEY)
    try:
        if isinstance(coefficients, str):
            coefficients = json.loads(coefficients)
        gamma = np.asarray(coefficients, dtype=np.float64)
        seconds = float(time)  # type: ignore[arg-type]  # None is refused below
    except (TypeError, ValueError):
        return None
    if gamma.ndim != 1 or not np.isfinite(gamma).all() or not np.isfinite(seconds):
        return None
    return Truth(gamma, seconds)
