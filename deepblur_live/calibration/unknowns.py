"""The unknowns of crops that are fitted, and the images that they predict."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deepblur_live.calibration.model import BeadParameters, StackModel

__all__ = ["ToFit", "Unknowns"]


class ToFit(NamedTuple):
    """A crop that is to be fitted.

    Parameters
    ----------
    crop
        (Z, K, K) light, a bead near the middle.
    start
        Parameters at which the fit starts.
    neighbours
        Where the fits of other beads in the crop begin. They have the coefficients and
        the Gaussian of the bead.
    extra
        (Z, K, K) added to the model of a bead of brightness 1, at its place.
    beside
        (Z, K, K) known light of other beads.
    """

    crop: torch.Tensor
    start: BeadParameters
    neighbours: tuple[BeadParameters, ...] = ()
    extra: torch.Tensor | None = None
    beside: torch.Tensor | None = None


class Unknowns:
    """The unknowns (T,) of each of n crops with equally many neighbours, m.

    The parameters of its bead (P+5), then row, column, z and brightness of each
    neighbour.

    Parameters
    ----------
    model
        Images of beads.
    crops
        What is fitted.
    fit_blur, fit_coefficients
        Whether these are fitted, or as in the starts.
    """

    def __init__(
        self,
        model: StackModel,
        crops: Sequence[ToFit],
        fit_blur: bool,
        fit_coefficients: bool,
    ) -> None:
        p = len(model.noll)
        self._model, self._modes = model, p
        self._neighbours = len(crops[0].neighbours)
        # How many of the first unknowns have no derivatives.
        self._fixed = 0 if fit_coefficients else p
        free = torch.ones(p + 5 + 4 * self._neighbours, dtype=torch.bool)
        free[: self._fixed] = False
        free[p + 4] = fit_blur
        if len(model.z_um) == 1:
            free[p + 2] = False
            free[p + 7 :: 4] = False
        self.free = torch.nonzero(free)[:, 0]
        """(F,) places of those that are fitted."""
        dark = torch.zeros_like(crops[0].crop)
        extra = [dark if one.extra is None else one.extra for one in crops]
        beside = [dark if one.beside is None else one.beside for one in crops]
        self._extra = torch.stack(extra).to(model.dtype)
        self._beside = torch.stack(beside).to(model.dtype)

    @staticmethod
    def starts(crops: Sequence[ToFit]) -> torch.Tensor:
        """Return (n, T) where the fits of crops begin."""
        starts = []
        for one in crops:
            others = [near.vector()[-5:-1] for near in one.neighbours]
            starts.append(torch.cat([one.start.vector(), *others]))
        return torch.stack(starts)

    def light(self, theta: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        """Return the light (b, Z, K, K) without background of crops `which` (b,)."""
        return self._with_known(self._images(theta).sum(1), theta, which)

    def light_and_slopes(
        self, theta: torch.Tensor, which: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the same and its derivatives (b, F, Z, K, K) in the free unknowns."""
        beads = self._beads(theta)
        images, slopes = self._model.images_and_slopes(
            beads.flatten(0, 1), by_modes=not self._fixed
        )
        image = images.reshape(*beads.shape[:2], *images.shape[1:]).sum(1)
        slopes = slopes.reshape(*beads.shape[:2], *slopes.shape[1:])
        own = slopes[:, 0]
        if self._neighbours:
            shared, others = slopes.sum(1), slopes[:, 1:, -5:-1].flatten(1, 2)
            own = torch.cat([shared[:, :-5], own[:, -5:-1], shared[:, -1:], others], 1)
        own[:, self._modes - self._fixed + 3] += self._extra[which]
        if len(self.free) < own.shape[1]:
            own = own[:, self.free - self._fixed]
        return self._with_known(image, theta, which), own

    def others(self, theta: torch.Tensor) -> torch.Tensor:
        """Return the light (n, Z, K, K) of the crops' neighbours."""
        return self._images(theta)[:, 1:].sum(1).double()

    def bounded(self, theta: torch.Tensor) -> torch.Tensor:
        """Put unknowns (b, T) into their range, and return them."""
        p = self._modes
        theta[:, p + 3] = theta[:, p + 3].clamp(min=1e-6)
        theta[:, p + 4] = theta[:, p + 4].clamp(0.0, self._model.largest_blur)
        theta[:, p + 8 :: 4] = theta[:, p + 8 :: 4].clamp(min=0.0)
        return theta

    def _beads(self, theta: torch.Tensor) -> torch.Tensor:
        """Return the beads (b, 1+m, P+5) of each crop, its own first."""
        p, m = self._modes, self._neighbours
        own, others = (
            theta[:, None, : p + 5],
            theta[:, p + 5 :].reshape(len(theta), m, 4),
        )
        gamma = own[..., :p].expand(-1, m, -1)
        blur = own[..., -1:].expand(-1, m, -1)
        return torch.cat([own, torch.cat([gamma, others, blur], 2)], 1)

    def _images(self, theta: torch.Tensor) -> torch.Tensor:
        """Return the images (b, 1+m, Z, K, K) of all beads."""
        beads = self._beads(theta)
        images = self._model.images(beads.flatten(0, 1))
        return images.reshape(*beads.shape[:2], *images.shape[1:])

    def _with_known(
        self, image: torch.Tensor, theta: torch.Tensor, which: torch.Tensor
    ) -> torch.Tensor:
        """Return images (b, Z, K, K) with the known light of other beads added."""
        brightness = theta[:, self._modes + 3, None, None, None].to(image.dtype)
        return image + brightness * self._extra[which] + self._beside[which]
