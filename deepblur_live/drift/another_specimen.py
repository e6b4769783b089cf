"""Distinguish another specimen from another blur by coherence and smoothness."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from deepblur_live.drift.size import change_size

if TYPE_CHECKING:
    from deepblur_live.drift.spectral_change import Change, SpectralComparison

__all__ = ["AT_REST", "shows_another_specimen"]

AT_REST = 0.8
"""Least coherence of the frames of a specimen at rest with the reference frame."""

# Relative to the coherence at the baseline, it is the same specimen above the first
# number, whatever its spectrum, and another below the second (docs/decisions/0046).
_SAME, _OTHER = 0.97, 0.5
# A change of the blur leaves a smooth ratio. What is not smooth shows another specimen
# where U is at least the first number, and the part that is not smooth is larger than
# this share of the strength: at rest, and for a specimen that moves.
_LEAST_RESIDUAL, _ROUGH_AT_REST, _ROUGH_MOVING = 3.0, 1.0, 0.5


def shows_another_specimen(
    change: Change, coherence: float, comparison: SpectralComparison, *, at_rest: bool
) -> bool:
    """Return whether a change is one of the specimen, and not one of the blur.

    Parameters
    ----------
    change
        The change from the reference.
    coherence
        Coherence of the frames with the reference frame, relative to that at the
        reference.
    comparison
        The comparison that measured the change.
    at_rest
        Whether the specimen was at rest.
    """
    if at_rest and not _OTHER <= coherence <= _SAME:
        return coherence < _OTHER
    strength, _ = change_size(change.shapes, change.covariance, comparison.metric)
    # Half of it: from the power's logarithm to the contrast's.
    rough = math.sqrt(max(0.0, change.excess)) / 2
    share = _ROUGH_AT_REST if at_rest else _ROUGH_MOVING
    return change.residual >= _LEAST_RESIDUAL and rough > share * strength
