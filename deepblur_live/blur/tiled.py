"""A blur that varies over the frame, by FFTs of overlapping tiles."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.blur.convolution import Convolution, bounded_ratio
from deepblur_live.blur.tile_axis import TileAxis
from deepblur_live.optics.borders import frame_mask, frame_part

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["GRID", "TiledBlur", "as_grid", "grid_positions", "grid_weights", "on_grid"]

GRID = 8
"""PSFs along each side of the frame (docs/decisions/0167-tiled-blur.md)."""

# Side of the tiles in pixels.
_TILE = 128


def grid_positions(side: int = GRID) -> NDArray[np.float64]:
    """Return the positions (side², 2) in the frame, 0 to 1, of a grid of PSFs.

    The outer ones are at the frame's edges: all PSFs between are interpolated, and none
    is extrapolated to the corners, where a field varies most.
    """
    line = np.linspace(0, 1, side)
    return np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)


def _interpolation(grid: int, positions: torch.Tensor) -> torch.Tensor:
    """Return the matrix (n, grid) of linear interpolation at positions (n,), 0 to 1."""
    place = positions.clamp(0, 1)[:, None] * (grid - 1)
    node = torch.arange(grid, device=positions.device)
    return (1 - (place - node).abs()).clamp(min=0)


def grid_weights(position: tuple[float, float]) -> NDArray[np.float64]:
    """Return the weights (GRID, GRID) of `grid_positions` at a place between them.

    Of linear interpolation; `position` is (row, column) in the frame, 0 to 1.
    """
    both = _interpolation(GRID, torch.tensor(position, dtype=torch.float64))
    weights: NDArray[np.float64] = np.outer(*both.numpy())
    return weights


def as_grid(kernels: torch.Tensor) -> torch.Tensor:
    """Return kernels (..., n, n, K, K) of those (..., n², K, K) at `grid_positions`."""
    side = math.isqrt(kernels.shape[-3])
    return kernels.view(*kernels.shape[:-3], side, side, *kernels.shape[-2:])


def on_grid(kernels: torch.Tensor, grid: int = GRID) -> torch.Tensor:
    """Return kernels (..., grid, grid, K, K), interpolated from few (..., n², K, K).

    Both at `grid_positions`.
    """
    few = as_grid(kernels)
    line = _interpolation(few.shape[-3], torch.linspace(0, 1, grid).to(kernels))
    return torch.einsum("ia,jb,...abkl->...ijkl", line, line, few)


class TiledBlur:
    """A blur with a PSF that is interpolated linearly on a grid over the frame.

    A = Σ_t H_t m_t: the image is multiplied by each tile's weight m_t, convolved with
    the PSF in the tile's middle and added up. Weights of neighbours are blended by
    linear ramps, and sum to 1. All tiles have one size, so that they are batches of
    FFTs.

    Parameters
    ----------
    psfs
        (..., N, M, K, K) PSFs at `grid_positions` of the frame; K odd; N and M at
        least 2. Differentiable.
    shape
        (H, W) of the images, which are periodic; at least K each.
    frame
        (rows, columns) of the camera's frame, in the middle of the images
        (`frame_part`); the rest is its extension. The whole image when None.
    spread
        (..., N, M, 2K - 1, 2K - 1) of uncertain PSFs, see `Convolution`.
    tile
        Side of the tiles in pixels.

    Raises
    ------
    ValueError
        When the PSFs are larger than the images, or their sides are even.

    Notes
    -----
    `gradient_step` and `prox_data` do not go through A: they blend each tile's own
    step, which takes half as many FFTs and, for the proximal step, has a closed form.
    How near that is to the true steps is measured in
    docs/decisions/0167-tiled-blur.md.
    """

    def __init__(
        self,
        psfs: torch.Tensor,
        shape: tuple[int, int],
        frame: tuple[int, int] | None = None,
        spread: torch.Tensor | None = None,
        *,
        tile: int = _TILE,
    ) -> None:
        self.shape = shape
        side = psfs.shape[-1]
        if side > min(*shape, tile):
            raise ValueError(
                f"the PSFs of {side} × {side} pixels do not fit into an image of "
                f"{shape[0]} × {shape[1]} or its tiles of {tile} × {tile}"
            )
        self.mask = None if frame is None else frame_mask(shape, frame, psfs)
        # PSFs have little light beyond half their radius.
        halo = -(-side // 4)
        rows, columns = self._axes = tuple(
            TileAxis.of(size, tile, halo) for size in shape
        )
        self._weights = rows.weights(psfs), columns.weights(psfs)
        parts = frame_part(shape, shape if frame is None else frame)
        down, right = (
            _interpolation(grid, axis.centres(part, psfs))
            for grid, axis, part in zip(
                psfs.shape[-4:-2], self._axes, parts, strict=True
            )
        )
        # On a CPU one row of tiles after another, which stays in the cache; at once on
        # a card.
        at_once = 1 if psfs.device.type == "cpu" else rows.count
        self._bands = []
        for first in range(0, rows.count, at_once):
            band = slice(first, first + at_once)
            own, *deviations = (
                torch.einsum("ia,jb,...abkl->...ijkl", down[band], right, kernel)
                for kernel in (psfs, spread)
                if kernel is not None
            )
            blur = Convolution(own, (rows.length, columns.length), None, *deviations)
            self._bands.append((band, blur))

    def _cut(self, x: torch.Tensor) -> Iterator[torch.Tensor]:
        """Yield the tiles (..., n, m, rows, columns) of images (..., H, W), by band."""
        rows, columns = self._axes
        for axis, line in ((-2, rows), (-1, columns)):
            x = x.index_select(axis, line.index(x.device))
        tiles = x.unfold(-2, rows.length, rows.stride)
        tiles = tiles.unfold(-2, columns.length, columns.stride)
        return (tiles[..., band, :, :, :] for band, _ in self._bands)

    def _add(
        self, tiles: Iterator[torch.Tensor], weighted: bool = True
    ) -> torch.Tensor:
        """Return images (..., H, W): the sum of tiles, each times its weight."""
        (rows, columns), (down, right) = self._axes, self._weights
        whole: torch.Tensor | None = None
        for (band, _), batch in zip(self._bands, tiles, strict=True):
            # (..., n, rows, m, columns): lines of tiles that overlap.
            lines = batch.transpose(-3, -2)
            strip = batch.new_zeros(*lines.shape[:-2], columns.total)
            columns.add(strip, lines, right if weighted else None)
            strip = columns.wrapped(strip)
            if whole is None:
                whole = batch.new_zeros(*strip.shape[:-3], rows.total, strip.shape[-1])
            rows.add(
                whole[..., band.start * rows.stride :, :].mT,
                strip.movedim(-1, -3),
                down[band] if weighted else None,
            )
        assert whole is not None
        return rows.wrapped(whole.mT).mT

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return A x, (..., H, W)."""
        down, right = self._weights
        tiles = (
            blur.forward(tiles * (down[band, None, :, None] * right[:, None, :]))
            for (band, blur), tiles in zip(self._bands, self._cut(x), strict=True)
        )
        return self._add(tiles, weighted=False)

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """Return Aᵀ y, (..., H, W)."""
        tiles = (
            blur.adjoint(tiles)
            for (_, blur), tiles in zip(self._bands, self._cut(y), strict=True)
        )
        return self._add(tiles)

    def prepare(self, y: torch.Tensor) -> torch.Tensor:
        """Return the spectrum of Hᵀ y of each tile."""
        tiles = zip(self._bands, self._cut(y), strict=True)
        return torch.cat([blur.prepare(one) for (_, blur), one in tiles], -4)

    def gradient_step(
        self, z: torch.Tensor, prepared: torch.Tensor, step: torch.Tensor | float
    ) -> torch.Tensor:
        """Return z - step·Σ m_t Hᵀ_t(H_t z - y), with two real FFTs of each tile."""
        tiles = (
            blur.descent(tiles, prepared[..., band, :, :, :])
            for (band, blur), tiles in zip(self._bands, self._cut(z), strict=True)
        )
        return z + step / self._bands[0][1].pixels * self._add(tiles)

    def prox_data(
        self,
        z: torch.Tensor,
        y: torch.Tensor,
        weight: torch.Tensor,
        typical_error: float | None = None,
    ) -> torch.Tensor:
        """Return z plus a Wiener filter of each tile's residual; see `Convolution`.

        With `typical_error`, one ratio of errors serves all tiles.
        """
        residual = y - self.forward(z)
        if self.mask is not None:
            residual = residual * self.mask
        weight = weight[..., None, None]
        down, right = (axis.taper(z) for axis in self._axes)
        taper = down[:, None] * right
        spectra = []
        for (_, blur), left, image in zip(
            self._bands, self._cut(residual), self._cut(z), strict=True
        ):
            image = (image - image.mean((-2, -1), keepdim=True)) * taper
            spectra.append(blur.shrunk(blur.prepare(left * taper), image))
        if typical_error is not None:
            powers = [
                blur.error_power(spectrum, weight)
                for (_, blur), spectrum in zip(self._bands, spectra, strict=True)
            ]
            found, expected = (
                torch.cat(parts, -4).mean((-4, -3), keepdim=True)
                for parts in zip(*powers, strict=True)
            )
            shown = taper.square().mean()
            if self.mask is not None:
                # The mask applies once to the residual, so twice to its power.
                shown = shown * self.mask.square().mean()
            expected = typical_error**2 * shown * expected
            weight = weight / bounded_ratio(found, expected, weight)
        tiles = (
            blur.solve(spectrum, weight)
            for (_, blur), spectrum in zip(self._bands, spectra, strict=True)
        )
        return z + self._add(tiles)
