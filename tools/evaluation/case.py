"""One held-out frame under evaluation, and the frames that an evaluation visits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import torch

from deepblur_live.blur import Estimate, ResolvedBy, nearest, orbit
from deepblur_live.blur.zernike import SPHERICAL_MODES, ZernikeFamily
from deepblur_live.identification import Identifier
from deepblur_live.optics import NoiseModel
from deepblur_live.profile import Optics
from deepblur_live.runtime.executor import TorchExecutor
from deepblur_live.runtime.pack import ModelPack, load_pack
from evaluation.held_out import HeldOutFrame, held_out_frame

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["BLURS", "Case", "Plan", "Spec"]

# Blurs per picture: with a single one, means scatter by a decibel.
BLURS = 2


@dataclass(frozen=True)
class Spec:
    """Names one frame of the evaluation.

    Parameters
    ----------
    path, kind
        The picture.
    number
        Seed of blur and noise.
    sigma
        Standard deviation of the noise.
    pixel_size_nm, noll
        The optics, where they are not a profile's.
    ranges
        Half the range that each mode's true coefficient is drawn from, waves rms.
    rms
        RMS of the true wavefront in waves; when None, as drawn from the ranges.
    """

    path: Path
    kind: str
    number: int
    sigma: float
    pixel_size_nm: float = 100.0
    noll: tuple[int, ...] = SPHERICAL_MODES
    ranges: tuple[float, ...] | float = 0.15
    rms: float | None = None

    @property
    def optics(self) -> tuple[float, tuple[int, ...]]:
        """What determines the family, whose tables are costly to compute."""
        return self.pixel_size_nm, self.noll


@dataclass(frozen=True)
class Plan:
    """The pictures and noise levels that an evaluation goes through.

    Parameters
    ----------
    pictures
        Held-out pictures by kind.
    sigmas
        Noise levels, for frames in [0, 1].
    blurs
        Blurs per picture.
    model
        Name or folder of the model.
    weights
        Folders of further deblurring networks, as a training writes them.
    """

    pictures: Mapping[str, Sequence[Path]]
    sigmas: tuple[float, ...]
    blurs: int
    model: str
    weights: tuple[Path, ...] = ()

    def frames(
        self,
        *,
        sigmas: Sequence[float] | None = None,
        blurs: int | None = None,
        every: int = 1,
        conditions: Sequence[Mapping[str, Any]] = ({},),
    ) -> list[Spec]:
        """Return one frame per condition, picture, blur and noise level.

        Parameters
        ----------
        sigmas
            Keep only the plan's noise levels that are among these.
        blurs
            Blurs per picture, if not the plan's.
        every
            Take every n-th picture only.
        conditions
            Fields of `Spec` to replace. They are the outermost loop, so that a worker
            computes the tables of each family once.
        """
        return [
            Spec(path, kind, 100 * blur + number, sigma, **condition)
            for condition in conditions
            for kind, paths in self.pictures.items()
            for number, path in list(enumerate(paths))[::every]
            for blur in range(self.blurs if blurs is None else blurs)
            for sigma in self.sigmas
            if sigmas is None or sigma in sigmas
        ]


@lru_cache(maxsize=4)
def _family_and_executor(
    model: str,
    pixel_size_nm: float,
    noll: tuple[int, ...],
) -> tuple[ZernikeFamily, TorchExecutor]:
    optics = Optics(pixel_size_nm=pixel_size_nm, noll=noll)
    family = ZernikeFamily.from_optics(optics)
    return family, TorchExecutor(load_pack(model), family, torch.device("cpu"))


_pack = lru_cache(maxsize=4)(load_pack)


@lru_cache(maxsize=4)
def _mean_psf(family: ZernikeFamily, ranges: tuple[float, ...] | float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    drawn = replace(family, ranges=ranges).sample(4000, generator)
    return torch.stack([family.psf(part).mean(0) for part in drawn.split(500)]).mean(0)


class Case:
    """A frame, the model, and the results that several sections share.

    Parameters
    ----------
    spec
        Which frame.
    model
        Name or folder of the model.
    """

    def __init__(self, spec: Spec, model: str) -> None:
        self.spec = spec
        self.family, self.executor = _family_and_executor(model, *spec.optics)
        self.pack: ModelPack = _pack(model)
        self.errors = self.pack.manifest.error_model

    @cached_property
    def frame(self) -> HeldOutFrame:
        """The frame, its sharp image and its blur."""
        spec = self.spec
        return held_out_frame(
            spec.path, spec.number, self.family, spec.sigma, spec.rms, spec.ranges
        )

    @property
    def mean_psf(self) -> torch.Tensor:
        """The mean PSF (K, K) of all true blurs: the best guess without any frame."""
        return _mean_psf(self.family, self.spec.ranges)

    @cached_property
    def psf(self) -> torch.Tensor:
        """The true PSF, (K, K)."""
        return self.family.psf(self.frame.coefficients)

    def identifier(
        self, network: bool = True, average_s: float = 5.0, phases: bool = True
    ) -> Identifier:
        """Return a new identifier, with the network if it knows the family's modes."""
        known = tuple(self.pack.manifest.noll) == self.spec.noll
        identify = self.executor.identify if network and known else None
        specimen = self.pack.specimen
        return Identifier(
            self.family, self.errors, identify, average_s, specimen, phases
        )

    def estimate(self, **options: bool) -> Estimate:
        """Identify this frame alone; the options are those of `identifier`."""
        identifier = self.identifier(**options)
        identifier.observe(self.frame.observed, 0.0)
        return identifier.estimate(self.frame.observed)

    @cached_property
    def shipped(self) -> tuple[Estimate, float]:
        """The estimate from this frame alone as shipped, and the noise σ found."""
        identifier = self.identifier()
        identifier.observe(self.frame.observed, 0.0)
        estimate = identifier.estimate(self.frame.observed)
        return estimate, identifier.noise_sigma

    @cached_property
    def deblurred(self) -> torch.Tensor:
        """The frame deblurred as shipped; raw where the blur is not identifiable."""
        estimate, noise = self.shipped
        if not estimate.trusted:
            return self.frame.observed
        gamma = torch.as_tensor(estimate.coefficients).float()
        covariance = torch.as_tensor(estimate.covariance).float()
        white = NoiseModel.white(noise)
        return self.executor.deblur(self.frame.observed, gamma, covariance, white)

    def psf_of(self, estimate: Estimate) -> torch.Tensor:
        """Return the PSF (K, K) of an estimate; the mean PSF where it is refused."""
        if not estimate.trusted:
            return self.mean_psf
        return self.family.psf(torch.as_tensor(estimate.coefficients).float())

    def nearest_truth(self, estimate: Estimate) -> NDArray[np.float64]:
        """Return the equivalent of the true γ (P,) that is nearest to an estimate."""
        truth = self.frame.coefficients.double().numpy()
        equivalents = orbit(self.family, ResolvedBy.NEVER)
        return nearest(truth, estimate.coefficients, equivalents)
