"""The phases of a frame's cells: part of a field's fit, and its 180° orientation."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from deepblur_live.identification.otf import coarse
from deepblur_live.identification.phase import WEIGHT, LocalPhase, Phase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deepblur_live.blur import BlurFamily, ErrorModel
    from deepblur_live.identification.field.cells import Cells

__all__ = [
    "CellPhases",
    "EachPhase",
    "FieldOrientation",
    "KeptPhases",
    "advantage",
    "over_one_psf",
    "trust",
]

# Factor of a cell's term in votes: with 1 the terms of 36 cells together count six
# times as much as that of a frame of their size
# (docs/decisions/0170-identifying-a-field.md).
_SHARE = 0.3
# Share of the evidence that is kept from one vote to the next, as for one PSF.
_MEMORY = 0.9


class CellPhases:
    """The phase terms of one frame's cells.

    Parameters
    ----------
    family
        The blurs at one place.
    image
        (H, W), the frame, scaled, on the CPU.
    cells
        Its cells.
    sigma
        Standard deviation of the noise.
    """

    def __init__(
        self, family: BlurFamily, image: torch.Tensor, cells: Cells, sigma: float
    ) -> None:
        self.family, self.sigma = family, sigma
        self._parts = [image[part] for part in cells.parts]

    def __len__(self) -> int:
        return len(self._parts)

    def of(self, cell: int, gamma: torch.Tensor) -> Phase:
        """Return the term of a cell; its filter takes the |ĥ| of γ (M,)."""
        image = self._parts[cell].contiguous()
        return Phase(self.family, image, self.sigma, gamma, _SHARE)

    def all(self, gamma: torch.Tensor) -> list[Phase]:
        """Return the terms of all cells, at γ (C, M)."""
        return [self.of(cell, row) for cell, row in enumerate(gamma)]

    def local(
        self,
        cells: Sequence[int],
        gamma: torch.Tensor,
        edges: Sequence[torch.Tensor | None],
    ) -> list[LocalPhase]:
        """Return the quadratic models of some cells' terms: `Phase.local`.

        Near γ (C, M); `edges` are of the cells that are asked for.
        """
        models = []
        psfs = coarse(self.family).psf_and_jacobian(gamma[list(cells)])
        for cell, share, *psf in zip(cells, edges, *psfs, strict=True):
            image = self._parts[cell].contiguous()
            at = gamma[cell]
            phase = Phase(self.family, image, self.sigma, at, _SHARE, (psf[0], psf[1]))
            models.append(phase.local(at[None], share))
        return models


class EachPhase:
    """The exact phase terms of C cells, as a fit's `CellTerms`.

    Parameters
    ----------
    phases
        The terms.
    gamma
        (C, M): each counts as `trust` says of it there.
    """

    def __init__(self, phases: Sequence[Phase], gamma: torch.Tensor) -> None:
        self._phases = phases
        self._factor = torch.ones(len(phases))
        self._factor = trust(*self.slope(gamma))

    def cost(self, gamma: torch.Tensor) -> torch.Tensor:
        """See `CellTerms`."""
        pairs = zip(self._phases, gamma, strict=True)
        costs = torch.cat([phase.cost(row[None]) for phase, row in pairs])
        return self._factor * costs

    def slope(self, gamma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `CellTerms`."""
        pairs = zip(self._phases, gamma, strict=True)
        slopes, bends = zip(*(p.slope(row[None]) for p, row in pairs), strict=True)
        factor = self._factor[:, None]
        return factor * torch.cat(slopes), factor[..., None] * torch.cat(bends)


@dataclass(frozen=True)
class KeptPhases:
    """The last quadratic model of each cell's phase term.

    Parameters
    ----------
    model
        Of all C cells; zero for a cell without one.
    time, edges_time
        (C,) when its frame was taken and its share of edges measured, seconds; -inf for
        a cell without a model.
    """

    model: LocalPhase
    time: torch.Tensor
    edges_time: torch.Tensor

    @classmethod
    def none(cls, cells: int, scale: torch.Tensor) -> KeptPhases:
        """Return those of cells without a model; `scale` (M,) is the prior's."""
        modes, never = len(scale), torch.full((cells,), -math.inf).double()
        zero = torch.zeros(cells, modes)
        bend, edges = zero[..., None].expand(-1, -1, modes), torch.zeros(cells, 1, 1)
        return cls(LocalPhase(zero, zero, bend, scale.to(zero), edges), never, never)

    def edges(self, cell: int, now: float, age_s: float) -> torch.Tensor | None:
        """Return a cell's share of edges, unless it was measured too long ago."""
        known = 0 <= now - float(self.edges_time[cell]) <= age_s
        return self.model.edges[cell, None] if known else None

    def renewed(
        self,
        cells: Sequence[int],
        models: Sequence[LocalPhase],
        now: float,
        measured: Sequence[int],
    ) -> KeptPhases:
        """Return these with `models` of a new frame for some cells.

        The share of edges of those that are `measured` is of that frame too.
        """
        where = torch.tensor(cells)
        parts = {}
        for name in ("at", "at_slope", "curvature", "edges"):
            new = torch.cat([getattr(model, name) for model in models])
            parts[name] = getattr(self.model, name).index_copy(0, where, new)
        time = self.time.index_fill(0, where, now)
        edges_time = self.edges_time.index_fill(0, torch.tensor(measured).long(), now)
        return KeptPhases(replace(self.model, **parts), time, edges_time)

    def usable(self, now: float, age_s: float, gamma: torch.Tensor) -> LocalPhase:
        """Return the models near γ (C, M) that are not too old; zero for the others.

        Each counts as `trust` says of it there.
        """
        age = now - self.time
        good = (age >= 0) & (age <= age_s) & self.model.near(gamma)
        good = good * trust(*self.model.slope(gamma))
        slope = self.model.at_slope * good[:, None]
        bend = self.model.curvature * good[:, None, None]
        return replace(self.model, at_slope=slope, curvature=bend)


def trust(slope: torch.Tensor, curvature: torch.Tensor) -> torch.Tensor:
    """Return by what factor (C,) each cell's term counts more in a fit than in votes.

    At the right field a term's slope should be as large as its curvature lets expect: a
    misfit of 1, with which the cell counts once. Where it is larger, edges are not as
    sparse as the term takes them to be, whatever the noise: the cell counts for less,
    as with errors of Student's distribution, and for up to twice as much where it is
    smaller (docs/decisions/0252-trust-in-a-cells-phases.md).

    Parameters
    ----------
    slope, curvature
        (C, M) and (C, M, M), of the terms near the field.
    """
    inverse = torch.linalg.pinv(curvature.double(), rtol=1e-3, hermitian=True)
    misfit = torch.einsum("cm,cmn,cn->c", slope.double(), inverse, slope.double())
    misfit /= _SHARE * slope.shape[1]
    return (2 / _SHARE / (1 + misfit)).to(slope)


def advantage(phases: Sequence[Phase], gamma: torch.Tensor) -> float:
    """Return the misfit by which γ (C, M) are better than all rotated by 180°."""
    costs = torch.stack(
        [phase.costs(row[None])[:, 0] for phase, row in zip(phases, gamma, strict=True)]
    )
    return float((costs[:, 1] - costs[:, 0]).double().sum())


def over_one_psf(
    phases: Sequence[Phase], gamma: torch.Tensor, one: torch.Tensor
) -> float:
    """Return the misfit by which γ (C, M) are better than one PSF (M,) in all cells.

    In the better of its two orientations.
    """
    field = torch.cat(
        [phase.cost(row[None]) for phase, row in zip(phases, gamma, strict=True)]
    )
    single = torch.stack([phase.costs(one[None])[:, 0] for phase in phases])
    return float(single.double().sum(0).min() - field.double().sum())


class FieldOrientation:
    """Decides between a field and the same with all PSFs rotated, over several frames.

    There is one decision for the whole frame: its cells' evidence is added up. It
    counts as resolved once it exceeds what chance gives, as for one PSF
    (docs/decisions/0094-orientation.md).

    Parameters
    ----------
    errors
        Gives the significance that is required.
    """

    def __init__(self, errors: ErrorModel) -> None:
        self._significance = errors.orientation
        self._evidence = self._votes = 0.0
        self.resolved = False

    def rotated(self, advantage: float, cells: int, known: bool) -> bool:
        """Return whether the field must be rotated, after one more vote.

        Parameters
        ----------
        advantage
            From the function of that name, of the field as it is.
        cells
            Number of cells it was added up over.
        known
            Whether the field as it is has the orientation of the votes so far; without
            votes before, or with another specimen, False.
        """
        if not known:
            # The orientation in which a new fit begins is random.
            self._evidence, self._votes = abs(advantage), 1.0
            turn = advantage < 0
        else:
            self._evidence = _MEMORY * self._evidence + advantage
            self._votes = _MEMORY * self._votes + 1
            turn = self._evidence < 0
            self._evidence = abs(self._evidence)
        # By chance a cell's term has the standard deviation WEIGHT times its factor.
        least = self._significance * _SHARE * WEIGHT * cells**0.5 * self._votes
        self.resolved = self._evidence > least
        return turn
