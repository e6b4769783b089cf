"""The identification network: a ResNet18 that reads the blur from a frame's spectrum.

Its answer starts the fit of the spectrum and is its prior. Its input is the detrended,
reliability-weighted log-spectrum on frequencies relative to the optical cut-off, so
that one set of weights serves frames of any size, averages over frames, and other
samplings. A spectrum is blind to the common sign of the even modes (the twin) and of
the odd modes (a PSF turned by 180°), so the network regresses what it can see: the
outer products of the even and of the odd coefficients.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from deepblur_live.identification.detrend import detrend
from deepblur_live.identification.spectrum import WINDOW

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deepblur_live.identification.reliability import Reliable

__all__ = ["INPUT_SHAPE", "IdentificationNet", "network_input", "outer_products"]

INPUT_SHAPE = (64, 32)
# The largest residual the input keeps: one odd bin (an interlaced camera) says no more.
_CLIP = 6.0


@lru_cache(maxsize=8)
def _grid(cutoff: float, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where the relative frequencies lie in a shifted spectrum, and a mask."""
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
    spectrum: Reliable, cutoff: float, mean: torch.Tensor | None = None
) -> torch.Tensor:
    """Return (B, 2, 64, 32): detrended log-spectrum × reliability, and reliability.

    Parameters
    ----------
    spectrum
        With (B, W, W//2+1) tensors.
    cutoff
        Pupil radius NA·px/λ, cycles a pixel.
    mean
        (N,) of specimens' own log-spectra, see `SpecimenSpectrum`; none when None.
    """
    weight = spectrum.weight.flatten(1)
    log_signal = spectrum.log_signal.flatten(1)
    if mean is not None:
        log_signal = log_signal - mean
    residual = detrend(log_signal[:, None], weight)[:, 0]
    stack = torch.stack([residual.clamp(-_CLIP, _CLIP), weight / 3.0], dim=1)
    stack = stack.view(len(stack), 2, *spectrum.weight.shape[-2:])
    grid, inside = _grid(cutoff, stack.device)
    shifted = torch.fft.fftshift(stack, dim=2)
    sampled = F.grid_sample(
        shifted, grid.expand(len(stack), *grid.shape), align_corners=True
    )
    return sampled * inside


def outer_products(coefficients: torch.Tensor, even: Sequence[bool]) -> torch.Tensor:
    """Return (B, M): upper triangles of e eᵀ and o oᵀ of the even and odd modes."""
    parts = []
    for block in _blocks(even):
        values = coefficients[:, block]
        rows, columns = torch.triu_indices(len(block), len(block))
        parts.append(values[:, rows] * values[:, columns])
    return torch.cat(parts, dim=1)


def _blocks(even: Sequence[bool]) -> list[list[int]]:
    blocks = [
        [i for i, e in enumerate(even) if e],
        [i for i, e in enumerate(even) if not e],
    ]
    return [block for block in blocks if block]


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
    even
        (P,) which modes are even, as `ZernikeFamily.even`.
    scale
        Size of a coefficient in waves; outputs are in units of it.
    """

    def __init__(self, even: Sequence[bool], scale: float = 0.15) -> None:
        super().__init__()
        self.even = [bool(e) for e in even]
        self.scale = scale
        self.n_products = sum(len(b) * (len(b) + 1) // 2 for b in _blocks(self.even))
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
        self.head = nn.Linear(512, self.n_products + len(self.even))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (B, M + P): outer products / scale² and log deviations / scale."""
        features: torch.Tensor = self.layers(self.stem(x)).mean((2, 3))
        output: torch.Tensor = self.head(features)
        return output

    def decode(self, output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return coefficients (B, P) in waves and their standard deviations (B, P).

        The sign of the even and of the odd block is arbitrary (the spectrum is blind
        to both); each block is √λ·v of the leading eigenpair of its outer product.
        """
        products = output[:, : self.n_products].float()
        log_sigma = output[:, self.n_products :].float()
        coefficients = products.new_zeros(len(products), len(self.even))
        first = 0
        for block in _blocks(self.even):
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
        """Return the training loss against true coefficients (B, P) in waves.

        Mean squared error of the outer products, plus the Gaussian negative
        log-likelihood of the decoded coefficients under the predicted deviations
        (which alone it trains).
        """
        target = outer_products(truth / self.scale, self.even)
        products = output[:, : self.n_products]
        error = F.mse_loss(products, target)
        with torch.no_grad():
            decoded, _ = self.decode(output)
            residual = torch.empty_like(decoded)
            for block in _blocks(self.even):
                a, b = decoded[:, block], truth[:, block]
                sign = torch.where((a * b).sum(1, keepdim=True) < 0, -1.0, 1.0)
                residual[:, block] = sign * a - b
            residual = residual / self.scale
        log_sigma = output[:, self.n_products :].clamp(-6, 2)
        likelihood = 0.5 * (residual * torch.exp(-log_sigma)) ** 2 + log_sigma
        return error + 0.05 * likelihood.mean()
