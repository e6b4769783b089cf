"""Which coefficients are charted and drawn one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deepblur_live.blur.family import BlurFamily

__all__ = ["charted", "curve_kinds"]


def charted(family: BlurFamily) -> int:
    """Return how many of the first coefficients have a chart and a curve of their own.

    All, except for a field: there, only the terms of nodal aberration theory, which
    have known causes. The others count in the size of a change.
    """
    terms = getattr(family, "terms", None)
    if terms is None:
        return family.n_coefficients
    return sum(term.nodal for term in terms)


def curve_kinds(family: BlurFamily) -> tuple[str, ...]:
    """Return the kind of each charted coefficient: the aberration of a field's term.

    In other families each coefficient is its own kind.
    """
    terms = getattr(family, "terms", None)
    kinds = family.names if terms is None else [term.kind for term in terms]
    return tuple(kinds[: charted(family)])
