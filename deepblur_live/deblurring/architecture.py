"""The deblurring network as a model's manifest describes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deepblur_live.deblurring.fista import UnrolledFista

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["build_deblurring"]


def build_deblurring(architecture: Mapping[str, int | str]) -> UnrolledFista:
    """Return an untrained network.

    Parameters
    ----------
    architecture
        The arguments of `UnrolledFista`, and ``"kind": "fista"``, which may be missing.

    Raises
    ------
    ValueError
        When the kind is another, or the network takes no such argument.
    """
    sizes: dict[str, Any] = dict(architecture)
    kind = sizes.pop("kind", "fista")
    if kind != "fista":
        raise ValueError(f"kind {kind!r}: this version supports 'fista' only")
    try:
        return UnrolledFista(**sizes)
    except (TypeError, ValueError) as error:
        raise ValueError(f"kind {kind!r}: {error}") from error
