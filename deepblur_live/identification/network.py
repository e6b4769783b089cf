"""The identification network: a ResNet18 from a frame's spectrum to the blur.

Its estimate starts the fit of the spectrum and is its prior. Its input is the detrended
log-spectrum, weighted by reliability, on frequencies relative to the optical cut-off:
one set of weights serves frames of any size, averages over frames, and other samplings.
A spectrum does not determine the common sign of some coefficients (for Zernike modes
that of the even and that of the odd ones), so the network regresses the outer products
of the coefficients of each such block.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from deepblur_live.identification.detrend import detrend
from deepblur_live.identification.spectrum import WINDOW

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deepblur_live.blur import BlurFamily
    from deepblur_live.identification.signal_bins import SignalBins

__all__ = [
    "INPUT_SHAPE",
    "IdentificationNet",
    "network_input",
    "outer_products",
    "sign_blocks",
]

INPUT_SHAPE = (64, 32)
# Residuals are clipped: a single deviating bin (an interlaced camera) must not count
# for more.
_CLIP = 6.0
# The prior's deviation of a coefficient whose outputs are of size 1.
_DEVIATIONS = 0.6
# Errors of a product beyond this, in units of the scale squared, count linearly: the
# rare strong defocus would dominate the loss.
_LARGE_ERROR = 0.5


@lru_cache(maxsize=8)
def _grid(cutoff: float, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return positions of relative frequencies in a shifted spectrum, and a mask."""
    rows, columns = INPUT_SHAPE
    fy = (torch.arange(rows, device=device) - rows // 2) / (rows // 2) * 2 * cutoff
    fx = torch.arange(columns, device=device) / columns * 2 * cutoff
    # grid_sample counts a shifted spectrum's rows from -1 (f = -1/2) to 1 (the last
    # row, f = 1/2 - 1/W) and its columns from -1 (f = 0) to 1 (f = 1/2).
    y = (fy + 0.5) * WINDOW / (WINDOW - 1) * 2 - 1
    x = fx / 0.5 * 2 - 1
    grid = torch.stack(
        [x.expand(rows, columns), y[:, None].expand(rows, columns)], dim=-1
    )
    inside = (grid.abs() <= 1.0).all(-1)
    return grid, inside


def network_input(
    signal: SignalBins, cutoff: float, mean: torch.Tensor | None = None
) -> torch.Tensor:
    """Return (B, 2, 64, 32): detrended log-spectrum × reliability, and reliability.

    Parameters
    ----------
    signal
        Signal of B spectra: (B, W, W//2+1) tensors.
    cutoff
        Coherent cut-off, cycles per pixel.
    mean
        (N,) of specimens' own log-spectra, see `SpecimenSpectrum`; 0 when None.
    """
    weight = signal.weight.flatten(1)
    log_signal = signal.log_signal.flatten(1)
    if mean is not None:
        log_signal = log_signal - mean
    residual = detrend(log_signal[:, None], weight)[:, 0]
    stack = torch.stack([residual.clamp(-_CLIP, _CLIP), weight / 3.0], dim=1)
    stack = stack.view(len(stack), 2, *signal.weight.shape[-2:])
    grid, inside = _grid(cutoff, stack.device)
    shifted = torch.fft.fftshift(stack, dim=2)
    sampled = F.grid_sample(
        shifted, grid.expand(len(stack), *grid.shape), align_corners=True
    )
    return sampled * inside


def sign_blocks(family: BlurFamily) -> list[list[int]]:
    """Return the blocks of coefficients whose common sign a spectrum leaves open.

    Raises
    ------
    ValueError
        When the family's symmetries are not sign changes of separate blocks that
        together hold all coefficients: the network cannot represent it.
    """
    masks = [symmetry.flipped for symmetry in family.symmetries]
    if any(mask is None for mask in masks) or not np.all(
        np.sum([mask for mask in masks if mask is not None], axis=0) == 1
    ):
        raise ValueError(
            "the identification network needs a family in which each coefficient is in "
            "one block whose common sign is ambiguous"
        )
    return [np.flatnonzero(mask).tolist() for mask in masks if mask is not None]


def outer_products(
    coefficients: torch.Tensor, blocks: Sequence[Sequence[int]]
) -> torch.Tensor:
    """Return (B, M): upper triangles of b bᵀ for each block b of (B, P)."""
    parts = []
    for block in blocks:
        values = coefficients[:, list(block)]
        rows, columns = torch.triu_indices(len(block), len(block))
        parts.append(values[:, rows] * values[:, columns])
    return torch.cat(parts, dim=1)


class _Block(nn.Module):
    """Two 3×3 convolutions with a shortcut (He et al., CVPR 2016)."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False),
                nn.BatchNorm2d(channels),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class IdentificationNet(nn.Module):
    """ResNet18 from `network_input` to outer products and their coefficients' errors.

    Parameters
    ----------
    family
        The blurs to identify. Outputs are in units of its prior's deviations, over 0.6.

    Raises
    ------
    ValueError
        When the network cannot represent the family, see `sign_blocks`.
    """

    scale: torch.Tensor  # (P,)

    def __init__(self, family: BlurFamily) -> None:
        super().__init__()
        self.blocks = sign_blocks(family)
        deviations = np.sqrt(np.diag(family.prior.covariance))
        # Not among the weights: it follows from the family.
        scale = torch.as_tensor(deviations / _DEVIATIONS, dtype=torch.float32)
        self.register_buffer("scale", scale, persistent=False)
        self._coefficients = family.n_coefficients
        self.n_products = sum(len(b) * (len(b) + 1) // 2 for b in self.blocks)
        # The input is small: the first max-pooling of the original is left out.
        self.stem = nn.Sequential(
            nn.Conv2d(2, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU()
        )
        layers: list[nn.Module] = []
        channels_in = 64
        for channels, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            layers += [
                _Block(channels_in, channels, stride),
                _Block(channels, channels, 1),
            ]
            channels_in = channels
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(512, self.n_products + self._coefficients)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (B, M + P): outer products / scale² and log deviations / scale."""
        features: torch.Tensor = self.layers(self.stem(x)).mean((2, 3))
        output: torch.Tensor = self.head(features)
        return output

    def decode(self, output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return coefficients (B, P) and their standard deviations (B, P).

        The sign of each block is arbitrary; a block is √λ·v of the leading eigenpair of
        its outer product.
        """
        products = output[:, : self.n_products].float()
        log_sigma = output[:, self.n_products :].float()
        coefficients = products.new_zeros(len(products), self._coefficients)
        first = 0
        for block in self.blocks:
            size = len(block)
            rows, columns = torch.triu_indices(size, size)
            matrix = products.new_zeros(len(products), size, size)
            values = products[:, first : first + len(rows)]
            matrix[:, rows, columns] = values
            matrix[:, columns, rows] = values
            first += len(rows)
            eigenvalues, eigenvectors = torch.linalg.eigh(matrix)
            length = eigenvalues[:, -1].clamp(min=0).sqrt()
            coefficients[:, block] = length[:, None] * eigenvectors[:, :, -1]
        return coefficients * self.scale, log_sigma.clamp(-6, 2).exp() * self.scale

    def loss(self, output: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """Return the training loss against true coefficients (B, P).

        Huber's error of the outer products, plus the Gaussian negative
        log-likelihood of the decoded coefficients under the predicted deviations
        (which alone it trains).
        """
        target = outer_products(truth / self.scale, self.blocks)
        products = output[:, : self.n_products]
        error = 2 * F.huber_loss(products, target, delta=_LARGE_ERROR)
        with torch.no_grad():
            decoded, _ = self.decode(output)
            residual = torch.empty_like(decoded)
            for block in self.blocks:
                a, b = decoded[:, block], truth[:, block]
                sign = torch.where((a * b).sum(1, keepdim=True) < 0, -1.0, 1.0)
                residual[:, block] = sign * a - b
            residual = residual / self.scale
        log_sigma = output[:, self.n_products :].clamp(-6, 2)
        likelihood = 0.5 * (residual * torch.exp(-log_sigma)) ** 2 + log_sigma
        return error + 0.05 * likelihood.mean()
