"""Which deblurring networks there are, and one built as a manifest describes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.deblurring.douglas_rachford import UnrolledDouglasRachford
from deepblur_live.deblurring.fista import UnrolledFista

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DEBLURRING_KINDS", "DeblurringNet", "build_deblurring"]

DeblurringNet = UnrolledFista | UnrolledDouglasRachford
# The first is the live network, the second the quality preset for graphics cards.
DEBLURRING_KINDS = {"fista": UnrolledFista, "douglas-rachford": UnrolledDouglasRachford}


def build_deblurring(architecture: Mapping[str, int | str]) -> DeblurringNet:
    """Return an untrained network.

    Parameters
    ----------
    architecture
        ``"kind"``, one of `DEBLURRING_KINDS` (``"fista"`` when it is missing), and the
        arguments of that kind.

    Raises
    ------
    ValueError
        When there is no such kind, or it takes no such argument.
    """
    sizes = dict(architecture)
    kind = sizes.pop("kind", "fista")
    if kind not in DEBLURRING_KINDS:
        known = ", ".join(repr(name) for name in DEBLURRING_KINDS)
        raise ValueError(f"kind {kind!r}: this version knows {known}")
    try:
        network: DeblurringNet = DEBLURRING_KINDS[str(kind)](**sizes)
    except (TypeError, ValueError) as error:
        raise ValueError(f"kind {kind!r}: {error}") from error
    return network
