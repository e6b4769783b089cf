"""One held-out frame under evaluation, and what several sections ask of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import torch
from held_out import HeldOutFrame, frames

from deepblur_live.identification import Identifier, SpecimenSpectrum
from deepblur_live.optics import PAPER_MODES, Estimate, ZernikeFamily
from deepblur_live.runtime.executor import TorchExecutor
from deepblur_live.runtime.pack import load_pack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from evaluation.plan import Plan

__all__ = ["Case", "Spec", "every_frame", "under"]


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
    pixel_size_nm, noll, ranges
        The optics, and half the range of each mode, where they are not the paper's.
    rms
        The true wavefront's, in waves; when None, what the ranges make it.
    """

    path: Path
    kind: str
    number: int
    sigma: float
    pixel_size_nm: float = 100.0
    noll: tuple[int, ...] = PAPER_MODES
    ranges: tuple[float, ...] | float = 0.15
    rms: float | None = None

    @property
    def optics(self) -> tuple[object, ...]:
        """What decides the family: the costly tables of one are kept a while."""
        return self.pixel_size_nm, self.noll, self.ranges


def every_frame(plan: Plan, every: int = 1) -> list[Spec]:
    """Return a frame for each `every`-th picture, each blur and each noise level."""
    return [
        Spec(path, kind, 100 * blur + number, sigma)
        for kind, paths in plan.pictures.items()
        for number, path in list(enumerate(paths))[::every]
        for blur in range(plan.blurs)
        for sigma in plan.sigmas
    ]


def under(
    plan: Plan, conditions: Sequence[Mapping[str, Any]], sigmas: tuple[float, ...]
) -> list[Spec]:
    """Return a subset of the frames, under each of some conditions of `Spec`.

    Every second picture with one blur, as pictures differ more than blurs do, and those
    of `sigmas` that the plan has. The conditions are the outer loop: a worker then
    builds each family's tables once.
    """
    some = every_frame(replace(plan, blurs=1).limited(sigmas), 2)
    return [replace(spec, **condition) for condition in conditions for spec in some]


@lru_cache(maxsize=4)
def _tools(
    model: str,
    pixel_size_nm: float,
    noll: tuple[int, ...],
    ranges: tuple[float, ...] | float,
) -> tuple[ZernikeFamily, TorchExecutor]:
    family = ZernikeFamily(pixel_size_nm=pixel_size_nm, noll=noll, ranges=ranges)
    executor = TorchExecutor(load_pack(model), family, torch.device("cpu"))
    return family, executor


@lru_cache(maxsize=4)
def _knowledge(model: str) -> tuple[tuple[int, ...], SpecimenSpectrum]:
    """Return the modes that a model's network knows, and its specimens' spectra."""
    pack = load_pack(model)
    return tuple(pack.manifest.noll), pack.specimen


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
        self.family, self.executor = _tools(
            model, spec.pixel_size_nm, spec.noll, spec.ranges
        )
        modes, self.specimen = _knowledge(model)
        self.knows_modes = modes == spec.noll

    @cached_property
    def frame(self) -> HeldOutFrame:
        """The frame, its truth and its blur."""
        spec = self.spec
        return frames(spec.path, spec.number, self.family, (spec.sigma,), spec.rms)[0]

    @property
    def mean_psf(self) -> torch.Tensor:
        """The constant mean PSF (K, K): the guess of who has no frame at all."""
        return _mean_psf(self.family)

    @cached_property
    def psf(self) -> torch.Tensor:
        """The true PSF, (K, K)."""
        return self.family.psf(self.frame.coefficients)

    def identifier(
        self, network: bool = True, average_s: float = 5.0, phases: bool = True
    ) -> Identifier:
        """Return a new identifier, with the model's network if it knows the modes."""
        identify = self.executor.identify if network and self.knows_modes else None
        return Identifier(self.family, identify, average_s, self.specimen, phases)

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
