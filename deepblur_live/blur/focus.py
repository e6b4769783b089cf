"""How a family's coefficients follow the focus: its optional member for sweeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur.family import BlurFamily

__all__ = ["focus_direction", "focus_weights"]


def focus_direction(family: BlurFamily) -> NDArray[np.float64]:
    """Return the change (P,) of γ per micrometre of defocus.

    From the family's optional member ``focus_direction``: a plane at the distance z
    above the focus has the coefficients γ + z·focus_direction.

    Raises
    ------
    ValueError
        The family cannot be swept: it has no such member, or it is None, or has no
        mode that follows the focus.
    """
    direction = getattr(family, "focus_direction", None)
    if direction is None:
        raise ValueError(
            f"{type(family).__name__} cannot be swept through focus: none of its "
            "coefficients is known to follow the focus (the member focus_direction)"
        )
    per_um = np.asarray(direction, dtype=np.float64)
    if per_um.shape != (family.n_coefficients,) or not np.any(per_um):
        raise ValueError(
            f"{type(family).__name__}.focus_direction: give "
            f"{family.n_coefficients} numbers, not all zero"
        )
    return per_um


def focus_weights(family: BlurFamily) -> NDArray[np.float64]:
    """Return weights (P,) with which weights·γ is the distance from focus, µm.

    The focus is where the blur is smallest along `focus_direction`, by the family's
    metric.

    Raises
    ------
    ValueError
        The family cannot be swept.
    """
    per_um = focus_direction(family)
    weights = family.metric.matrix @ per_um
    result: NDArray[np.float64] = weights / (per_um @ weights)
    return result
