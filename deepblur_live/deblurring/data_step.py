"""The exact data step: of the images near a guess, the one that explains the frame."""

from __future__ import annotations

import torch

from deepblur_live.optics import BlurOperator, Convolution

__all__ = [
    "TRAINED_SIGMA",
    "data_step",
    "explained",
    "finish",
    "finish_weight",
    "frames_error",
]

# Told of less or more noise than in training, a network does something else.
TRAINED_SIGMA = (7e-4, 0.1)
# What a network usually leaves of the error, rms of images in [0, 1]. On validation
# pictures of σ = 0.001 the last step gains 2 dB with the true operator, and more than
# half of that with one that is 0.007 waves off a mode; from 0.01 up it changes nothing.
# An error told by frequency and OTF gains 0.05 dB more.
_NETWORK_ERROR = 0.018
# What it leaves of one frame, squared, over the usual: read off the frame within these
# bounds it gains photographs another 0.45 dB.
_LEAST, _MOST = 0.25, 30.0


def data_step(
    operator: BlurOperator,
    z: torch.Tensor,
    y: torch.Tensor,
    weight: torch.Tensor,
    steps: int = 10,
) -> torch.Tensor:
    """Return the x that minimises ‖A x - y‖² + λ‖x - z‖².

    Parameters
    ----------
    operator
        A(γ). For a convolution x is had in closed form (and told by its part of y that
        was seen, see `Convolution`), else by conjugate gradient.
    z
        (B, H, W) the guess.
    y
        (B, H, W) the frame.
    weight
        λ, (B, 1, 1).
    steps
        Of conjugate gradient.

    Returns
    -------
    torch.Tensor
        (B, H, W).
    """
    rest = y - operator.forward(z)
    if isinstance(operator, Convolution):
        return z + operator.wiener(operator.seen(rest), weight)
    # (AᵀA + λ)(x - z) = Aᵀ(y - A z), from x = z.
    change = torch.zeros_like(z)
    residual = direction = operator.adjoint(rest)
    size = residual.square().sum((-2, -1), keepdim=True)
    # A guess that explains the frame already must not become 0 / 0.
    tiny = torch.finfo(z.dtype).tiny
    for _ in range(steps):
        image = operator.adjoint(operator.forward(direction)) + weight * direction
        curvature = (direction * image).sum((-2, -1), keepdim=True)
        length = size / curvature.clamp(min=tiny)
        change = change + length * direction
        residual = residual - length * image
        new = residual.square().sum((-2, -1), keepdim=True)
        direction = residual + new / size.clamp(min=tiny) * direction
        size = new
    return z + change


def finish_weight(sigma: torch.Tensor) -> torch.Tensor:
    """Return the usual λ (B, 1, 1) of `finish`: noise (B,) over the network's error."""
    return (sigma.clamp(*TRAINED_SIGMA) / _NETWORK_ERROR)[:, None, None] ** 2


def explained(
    x: torch.Tensor, y: torch.Tensor, operator: BlurOperator, weight: torch.Tensor
) -> torch.Tensor:
    """Return a network's result (B, H, W), made to explain y (B, H, W).

    A few gradient steps do not reach the frequencies that the blur has nearly removed;
    where the noise is low the frame still tells them. `weight` is the usual λ: how much
    a convolution's frame is believed is read off the frame itself.
    """
    if not isinstance(operator, Convolution):
        return data_step(operator, x, y, weight)
    right_side = operator.right_side(operator.seen(y - operator.forward(x)))
    return x + operator.solve(
        right_side, weight / frames_error(operator, right_side, weight)
    )


def finish(
    x: torch.Tensor, y: torch.Tensor, operator: BlurOperator, weight: torch.Tensor
) -> torch.Tensor:
    """Return a network's result (B, H, W), `explained` a last time, with y's light."""
    x = explained(x, y, operator, weight)
    # Blurs keep the light; a learned operator need not.
    return x + (y - x).mean((-2, -1), keepdim=True)


def frames_error(
    operator: Convolution, right_side: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """Return the squared error (B, 1, 1) of a network's result, over the usual.

    Were it white and the usual, a data step would find |ĥ|² / (|ĥ|² + λ) of it, at each
    frequency: it has found more in a frame that has more of it.

    Parameters
    ----------
    operator, weight
        A(γ), and the usual λ (B, 1, 1).
    right_side
        (B, H, W // 2 + 1) of what the result leaves unexplained where the camera has
        seen.
    """
    rows, columns = operator.shape
    balanced = operator.power + weight
    change = right_side / balanced
    power = change.real**2 + change.imag**2
    # Parseval: the mean square of what one data step would change.
    found = operator.spectral_mean(power) / (rows * columns)
    # What is unexplained has been faded once: its power twice.
    ones = torch.ones(operator.shape, dtype=weight.dtype, device=weight.device)
    share = operator.seen(operator.seen(ones)).mean()
    gain = operator.spectral_mean(operator.power / balanced)
    expected = _NETWORK_ERROR**2 * share * gain
    # Where noise rules, more than was told must not be taken for the network's error.
    most = (1 / weight).clamp(1.0, _MOST)
    return torch.minimum((found / expected).clamp(min=_LEAST), most)
