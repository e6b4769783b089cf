"""One held-out frame under evaluation, and what several sections ask of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import torch
from held_out import HeldOutFrame, frames

from deepblur_live.identification import Identifier
from deepblur_live.optics import PAPER_MODES, Estimate, ZernikeFamily
from deepblur_live.runtime.executor import TorchExecutor
from deepblur_live.runtime.pack import load_pack

if TYPE_CHECKING:
    from pathlib import Path

    from evaluation.section import Plan

__all__ = ["Case", "Spec", "every_frame"]


@dataclass(frozen=True)
class Spec:
    """Names one frame of the evaluation.

    Parameters
    ----------
    path, kind
        The picture.
    number
        Seeds blur and noise.
    sigma
        Standard deviation of the noise.
    pixel_size_nm, noll
        The optics, where they are not the paper's.
    """

    path: Path
    kind: str
    number: int
    sigma: float
    pixel_size_nm: float = 100.0
    noll: tuple[int, ...] = PAPER_MODES


def every_frame(plan: Plan) -> list[Spec]:
    """Return a frame for each picture, blur and noise level."""
    return [
        Spec(path, kind, 100 * blur + number, sigma)
        for kind, paths in plan.pictures.items()
        for number, path in enumerate(paths)
        for blur in range(plan.blurs)
        for sigma in plan.sigmas
    ]


@lru_cache(maxsize=4)
def _tools(
    model: str, pixel_size_nm: float, noll: tuple[int, ...]
) -> tuple[ZernikeFamily, TorchExecutor]:
    family = ZernikeFamily(pixel_size_nm=pixel_size_nm, noll=noll)
    executor = TorchExecutor(load_pack(model), family, torch.device("cpu"))
    return family, executor


@lru_cache(maxsize=4)
def _known_modes(model: str) -> tuple[int, ...]:
    """Return the Noll indices that a model's network knows."""
    return tuple(load_pack(model).manifest.noll)


@lru_cache(maxsize=4)
def _mean_psf(family: ZernikeFamily) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return family.psf(family.sample(4000, generator)).mean(0)


class Case:
    """A frame, the model, and the answers that sections share.

    Parameters
    ----------
    spec
        Which frame.
    model
        Name or folder of the model.
    """

    def __init__(self, spec: Spec, model: str) -> None:
        self.spec = spec
        self.family, self.executor = _tools(model, spec.pixel_size_nm, spec.noll)
        self.knows_modes = _known_modes(model) == spec.noll

    @cached_property
    def frame(self) -> HeldOutFrame:
        """The frame, its truth and its blur."""
        spec = self.spec
        return frames(spec.path, spec.number, self.family, (spec.sigma,))[0]

    @property
    def mean_psf(self) -> torch.Tensor:
        """The constant mean PSF (K, K): the guess of who has no frame at all."""
        return _mean_psf(self.family)

    @cached_property
    def psf(self) -> torch.Tensor:
        """The true PSF, (K, K)."""
        return self.family.psf(self.frame.coefficients)

    def identifier(self, network: bool = True) -> Identifier:
        """Return a new identifier, with the model's network if it knows the modes."""
        identify = self.executor.identify if network and self.knows_modes else None
        return Identifier(self.family, identify)

    @cached_property
    def shipped(self) -> tuple[Estimate, float]:
        """What the program as shipped makes of this frame alone: γ, and the noise σ."""
        identifier = self.identifier()
        identifier.observe(self.frame.observed, 0.0)
        estimate = identifier.estimate(self.frame.observed)
        return estimate, identifier.noise_sigma

    def psf_of(self, estimate: Estimate) -> torch.Tensor:
        """Return the PSF of an estimate, (K, K); who cannot tell says the mean PSF."""
        if not estimate.trusted:
            return self.mean_psf
        return self.family.psf(torch.as_tensor(estimate.coefficients).float())
