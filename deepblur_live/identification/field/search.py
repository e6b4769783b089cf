"""A field without prior knowledge: several starts on few cells, then on all of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.identification.field.fit import FieldFit, FieldFitter, FieldModel
from deepblur_live.identification.minima import distinct, relative

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur.zernike_field import ZernikeField
    from deepblur_live.identification.field.cells import Cells
    from deepblur_live.identification.observed import ObservedSpectrum
    from deepblur_live.identification.refine import SpectralRefiner

__all__ = ["CellData", "Found", "Terms", "search", "terms"]

COARSE = 3
"""Cells along a side on which starts are compared."""

# Starts from the library, with the least relative distance of any two starts; how many
# are tried; steps of each; and how many of the best go on with all cells.
_LIBRARY, _STRIDE, _APART, _TRIED, _STEPS, _KEPT = 12, 3, 0.3, 8, 8, 2
# Logarithm of the evidence by which terms that nodal aberration theory does not have
# must improve the fit to be used (docs/decisions/0171-terms-of-a-field.md).
_REMAINDER_EARNED = 100.0


@dataclass(frozen=True)
class CellData:
    """The spectra of cells, and where they are.

    Parameters
    ----------
    cells
        The division of the frame.
    data
        Spectra of its C cells.
    coarse
        Spectra of groups of cells, for a search; None if none is needed.
    """

    cells: Cells
    data: ObservedSpectrum
    coarse: ObservedSpectrum | None = None


@dataclass(frozen=True)
class Terms:
    """Which of a family's terms are fitted: of the others the coefficients are zero.

    Parameters
    ----------
    constant, nodal, all
        (P, A) each: the constant terms, those of nodal aberration theory, and all.
    """

    constant: torch.Tensor
    nodal: torch.Tensor
    all: torch.Tensor


@lru_cache(maxsize=4)
def terms(family: ZernikeField) -> Terms:
    """Return the nested sets of a family's terms."""
    every = torch.eye(family.n_coefficients, dtype=torch.float64)
    constant = family.constant(np.eye(family.local.n_coefficients))
    nodal = torch.tensor([term.nodal for term in family.terms])
    return Terms(torch.from_numpy(constant.T.copy()), every[:, nodal], every)


def model_of(family: ZernikeField, positions: NDArray[np.float64]) -> FieldModel:
    """Return the model of all terms at positions (C, 2)."""
    precision = torch.linalg.inv(torch.from_numpy(family.prior.covariance))
    return FieldModel(torch.from_numpy(family.design(positions)), precision)


@lru_cache(maxsize=4)
def model_of_cells(family: ZernikeField, cells: Cells) -> FieldModel:
    """Return the model of all terms at the centres of cells."""
    return model_of(family, cells.positions)


@dataclass(frozen=True)
class Found:
    """What a search has found.

    Parameters
    ----------
    fit
        The best field, its coefficients those of `used`.
    used
        (P, A), the terms that were fitted.
    others
        (S, P) further minima, and their misfit beyond the best one's (S,).
    gain
        Logarithm of the evidence for the terms of nodal aberration theory over the
        constant ones alone.
    """

    fit: FieldFit
    used: torch.Tensor
    others: tuple[torch.Tensor, torch.Tensor]
    gain: float


def search(
    family: ZernikeField,
    refiner: SpectralRefiner,
    cells: CellData,
    starts: torch.Tensor,
    library: ObservedSpectrum,
) -> Found:
    """Return the field that fits the cells' spectra best.

    Parameters
    ----------
    family
        The fields.
    refiner
        Fits spectra of the local family.
    cells
        The spectra.
    starts
        (S, P) fields to start from, the most likely first: the first must be constant.
    library
        The whole frame's spectrum, by which further starts are chosen.
    """
    sets = terms(family)
    assert cells.coarse is not None
    parts = cells.cells.together(COARSE).numpy()
    share = parts / parts.sum(1, keepdims=True)
    coarse = FieldFitter(refiner, cells.coarse)
    few = model_of(family, share @ cells.cells.positions).within(sets.nodal)
    further = refiner.starts(library, _LIBRARY, _STRIDE).double() @ sets.constant.T
    begin = torch.cat([starts, further])
    scaled = relative(family, begin)
    begin = begin[distinct(scaled, _APART)[:_TRIED]]
    rough = [coarse.fit(few, start @ sets.nodal, _STEPS) for start in begin]
    rough.sort(key=lambda fit: fit.objective)
    fitter, every = (
        FieldFitter(refiner, cells.data),
        model_of_cells(family, cells.cells),
    )
    nodal = every.within(sets.nodal)
    fits = [fitter.fit(nodal, fit.coefficients) for fit in rough[:_KEPT]]
    fits.sort(key=lambda fit: fit.objective)
    best, used = fits[0], sets.nodal
    one = every.within(sets.constant)
    constant = fitter.fit(one, starts[0] @ sets.constant)
    gain = best.log_evidence(nodal) - constant.log_evidence(one)
    if gain > 0 and every.design.shape[2] > nodal.design.shape[2]:
        field = sets.nodal @ best.coefficients
        whole = fitter.fit(every, field, nuisance=best.nuisance)
        more = whole.log_evidence(every) - best.log_evidence(nodal)
        if more > _REMAINDER_EARNED:
            best, used = whole, sets.all
    minima = torch.stack([sets.nodal @ fit.coefficients for fit in fits])
    behind = torch.tensor([fit.objective - fits[0].objective for fit in fits])
    return Found(best, used, (minima, behind), gain)
