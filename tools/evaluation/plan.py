"""Which pictures and noise levels an evaluation goes through."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """The pictures and noise levels that an evaluation goes through.

    Parameters
    ----------
    pictures
        Held-out pictures by kind.
    sigmas
        Noise levels, of frames in [0, 1].
    blurs
        Blurs a picture.
    model
        Name or folder of the model.
    """

    pictures: Mapping[str, Sequence[Path]]
    sigmas: tuple[float, ...]
    blurs: int
    model: str

    def limited(self, sigmas: tuple[float, ...]) -> Plan:
        """Return the plan with those of some noise levels that it has."""
        return replace(self, sigmas=tuple(s for s in self.sigmas if s in sigmas))
