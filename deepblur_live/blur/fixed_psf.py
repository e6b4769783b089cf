"""One measured PSF for all frames: a family without coefficients.

`deepblur_live.calibration.rig` reads it from the file that a profile names.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.blur.convolution import Convolution
from deepblur_live.blur.diagnosis import Cause
from deepblur_live.blur.family import ChangeMetric, Quality
from deepblur_live.blur.prior import Box, Prior

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur.diagnosis import ChangeShape
    from deepblur_live.blur.operator import LinearBlur
    from deepblur_live.blur.symmetry import Symmetry
    from deepblur_live.profile import Optics

__all__ = ["FixedPsf"]

_NONE = np.zeros(0)


@dataclass(frozen=True, eq=False)
class FixedPsf:
    """One PSF, which is taken as exact; P = 0.

    Parameters
    ----------
    image
        (K, K) the PSF, K odd, centred, sum 1, not negative.
    optics_cutoff
        Coherent cut-off NA·px/λ, cycles per pixel.
    origin
        Where the PSF comes from, as shown to the user.

    Raises
    ------
    ValueError
        When the image is not such a PSF.
    """

    image: NDArray[np.float64]
    optics_cutoff: float
    origin: str = ""

    def __post_init__(self) -> None:
        """Check that the image is a PSF."""
        side = len(self.image)
        if self.image.shape != (side, side) or side % 2 == 0:
            raise ValueError(f"PSF of shape {self.image.shape}: must be (K, K), K odd")
        if not np.isfinite(self.image).all() or self.image.min() < 0:
            raise ValueError("PSF: must be finite and not negative")
        if abs(self.image.sum() - 1) > 1e-6:
            raise ValueError(f"PSF: has the sum {self.image.sum():g}, must be 1")

    @classmethod
    def from_optics(cls, optics: Optics) -> FixedPsf:
        """Raise: a measured PSF cannot be derived from optics alone.

        Raises
        ------
        ValueError
            Always.
        """
        raise ValueError("a fixed PSF is read from the file in model.psf")

    def __eq__(self, other: object) -> bool:
        """Return whether the PSF and the cut-off are the same."""
        return (
            isinstance(other, FixedPsf)
            and self.optics_cutoff == other.optics_cutoff
            and np.array_equal(self.image, other.image)
        )

    def __hash__(self) -> int:
        """Return a hash of the PSF."""
        return hash((self.image.tobytes(), self.optics_cutoff))

    @property
    def n_coefficients(self) -> int:
        """0."""
        return 0

    @property
    def names(self) -> tuple[str, ...]:
        """None."""
        return ()

    @property
    def unit(self) -> str:
        """Unit of the coefficients; there are none."""
        return "waves rms"

    @property
    def window(self) -> int:
        """Side K of the PSF in pixels, odd."""
        return len(self.image)

    @property
    def cutoff(self) -> float:
        """Coherent cut-off, cycles per pixel."""
        return self.optics_cutoff

    @property
    def symmetries(self) -> tuple[Symmetry, ...]:
        """None."""
        return ()

    @cached_property
    def prior(self) -> Prior:
        """Of no coefficients."""
        return Prior(_NONE, np.zeros((0, 0)), _NONE, Box(_NONE, _NONE))

    @cached_property
    def metric(self) -> ChangeMetric:
        """Of no coefficients."""
        return ChangeMetric(np.zeros((0, 0)), self.unit, self.unit)

    def relative_error(self, covariance: NDArray[np.float64]) -> float:
        """Return 0: the PSF is taken as exact."""
        return 0.0

    @cached_property
    def _tensor(self) -> torch.Tensor:
        return torch.from_numpy(self.image)

    def psf(
        self, coefficients: torch.Tensor, position: tuple[float, float] | None = None
    ) -> torch.Tensor:
        """Return the PSF (..., K, K) for coefficients (..., 0)."""
        psf = self._tensor.to(coefficients)
        return psf.expand(*coefficients.shape[:-1], *psf.shape)

    def psf_and_jacobian(
        self, coefficients: torch.Tensor, position: tuple[float, float] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the PSF (..., K, K) and no derivatives (..., 0, K, K)."""
        psf = self.psf(coefficients, position)
        return psf, psf[..., None, :, :][..., :0, :, :]

    def coarse(self) -> FixedPsf:
        """Return the family itself."""
        return self

    def kernels(self, coefficients: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the PSF (..., K, K)."""
        return (self.psf(coefficients),)

    def operator_from(
        self,
        kernels: tuple[torch.Tensor, ...],
        shape: tuple[int, int],
        frame: tuple[int, int] | None = None,
    ) -> LinearBlur:
        """Return the convolution with the PSF that `kernels` holds."""
        return Convolution(kernels[0], shape, frame)

    def operator(
        self,
        coefficients: torch.Tensor,
        shape: tuple[int, int],
        frame: tuple[int, int] | None = None,
    ) -> LinearBlur:
        """Return the convolution with the PSF."""
        return self.operator_from(self.kernels(coefficients), shape, frame)

    def sample(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Return (n, 0)."""
        return torch.zeros(n, 0)

    def search_points(
        self, n: int, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Return (n, 0)."""
        return torch.zeros(n, 0)

    def canonical(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the coefficients (..., 0)."""
        return np.array(coefficients, dtype=np.float64)

    def quality(self, coefficients: NDArray[np.float64]) -> tuple[Quality, ...]:
        """Return nothing: a PSF alone has no Strehl ratio."""
        return ()

    def diagnose(self, change: NDArray[np.float64], shape: ChangeShape) -> Cause:
        """Return that changes are not monitored."""
        return Cause("unclear: the PSF is fixed", "Measure a new PSF.")

    def describe(self) -> str:
        """Return where the PSF comes from, and what it does not do."""
        return (
            f"fixed PSF {self.origin}, {self.window} × {self.window} pixels: nothing "
            "is identified and no drift is followed"
        )
