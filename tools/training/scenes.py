"""What the deblurring network learns from: scenes, stray light, PSFs, a camera.

The recipe's numbers: docs/decisions/0153-training-under-shot-noise.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from deepblur_live.blur import Convolution, marginal_kernels
from deepblur_live.optics import NoiseModel, extend, frame_part, margin
from training.crops import puncta

if TYPE_CHECKING:
    from deepblur_live.blur import LinearBlur
    from deepblur_live.blur.zernike import ZernikeFamily
    from training.crops import CropBank

__all__ = ["Example", "draw_examples", "example_loss"]

# Shares of scenes that are mostly dark, points, and smooth; the rest are as they are.
_DARK, _POINTS, _SMOOTH = 0.2, 0.05, 0.05
# Quantile of a scene that becomes black in a mostly dark one.
_BLACK = (0.6, 0.95)
# Share of scenes with stray light. Its parts, at most so many times as bright as the
# scene: light scattered by a Gaussian (σ in pixels), light from out of focus (waves
# rms), a pedestal.
_STRAY = 0.35
_HAZE, _HAZE_PX = 1.0, (3.0, 10.0)
_DEFOCUSED, _DEFOCUS = 0.6, (0.25, 0.6)
_PEDESTAL = 0.3
# Share of white noise, and its least σ; photoelectrons at full scale, read noise in
# electrons, grey values between black and full scale.
_WHITE, _LEAST_SIGMA = 0.5, 7e-4
_PEAK, _READ, _LEVELS = (20.0, 50_000.0), (0.5, 3.0), (100.0, 60_000.0)
# By how much the camera's gain is known.
_GAIN_ERROR = 0.15
# Share of exactly known PSFs; otherwise the stated error, in waves rms a mode.
_KNOWN, _ERROR = 0.4, (0.003, 0.1)
# Aberration beyond what is stated: spherical, waves rms.
_UNSTATED_SPHERICAL = 0.03
# A frame's percentiles miss sparse beads: they may be so many times as bright.
_BRIGHTEST = 6.0
# The constants of the loss: it is about equal at all noise levels, and part of it is
# about how well the result explains the frame. An uncertain PSF cannot explain it to
# within the least noise.
_LOSS_FLOOR, _REBLUR, _REBLUR_FLOOR = 3e-4, 0.05, 1e-5


@dataclass(frozen=True)
class Example:
    """A batch to learn from.

    Parameters
    ----------
    noisy, truth, sigma
        (B, H, W) frames as live frames are scaled, sharp images, and noise maps.
    exact
        The true blur, on crops that are `cut` pixels larger at each side.
    cut
        Pixels.
    extended, sigma_extended
        (B, H', W') frames and noise maps, centred in their periodic extension.
    operator
        The blur as identified, with its uncertainty, for the extended frames.
    """

    noisy: torch.Tensor
    truth: torch.Tensor
    sigma: torch.Tensor
    exact: LinearBlur
    cut: int
    extended: torch.Tensor
    sigma_extended: torch.Tensor
    operator: Convolution


def draw_examples(
    bank: CropBank,
    family: ZernikeFamily,
    n: int,
    fold: int,
    max_noise: float,
    generator: torch.Generator,
) -> Example:
    """Draw n examples; the bank's crops are a PSF's window - 1 larger than a frame.

    `fold` is the network's `shrink`, `max_noise` the largest σ of white noise.
    """
    cut = family.window // 2
    inner = (..., slice(cut, -cut), slice(cut, -cut))
    device = bank.device
    sharp = _scenes(bank, n, generator)
    shape = (sharp.shape[-2], sharp.shape[-1])
    gamma = family.search_points(n, generator)
    exact = _true_blur(family, gamma, shape, generator, device)
    stray = _stray_light(family, bank.draw(n, generator), generator)
    clean = (exact.forward(sharp).clamp(min=0) + stray)[inner]
    truth = (sharp + stray)[inner]
    brightest = clean.amax((1, 2), keepdim=True).clamp(min=1e-3)
    clean, truth = clean / brightest, truth / brightest
    noisy, model = _exposed(clean, max_noise, generator)
    # As live frames are scaled (`runtime.calibration.scale`).
    flat = noisy.flatten(1)
    low = torch.quantile(flat, 0.001, dim=1)
    span = (torch.quantile(flat, 0.999, dim=1) - low).clamp(min=1 / _BRIGHTEST)
    noisy, truth = (
        (image - low[:, None, None]) / span[:, None, None] for image in (noisy, truth)
    )
    sigma = model.scaled(low, span).map(noisy)
    # The stated noise is not quite right.
    wrong = 1 + _GAIN_ERROR * (2 * torch.rand(n, 1, 1, generator=generator) - 1)
    given = sigma * wrong.sqrt().to(device)
    extended = extend(noisy, margin(family.window), fold)
    stated = _log_uniform(n, *_ERROR, generator) * (
        torch.rand(n, generator=generator) >= _KNOWN
    )
    operator = _stated_blur(
        family,
        gamma,
        stated,
        (extended.shape[-2], extended.shape[-1]),
        (noisy.shape[-2], noisy.shape[-1]),
        generator,
        device,
    )
    given = extend(given, margin(family.window), fold)
    return Example(noisy, truth, sigma, exact, cut, extended, given, operator)


def example_loss(result: torch.Tensor, example: Example) -> torch.Tensor:
    """Return the loss of images (B, H', W') of the extended frames.

    The squared error relative to the noise at each pixel, plus the error of the
    reblurred image in units of the noise; of each crop the logarithm, or the few that
    are hopeless would dominate the gradient.
    """
    rows, columns = example.truth.shape[-2:]
    part = frame_part((result.shape[-2], result.shape[-1]), (rows, columns))
    error = result[..., part[0], part[1]] - example.truth
    # The errors of bright points grow with them.
    scale = example.truth.amax((1, 2), keepdim=True).clamp(min=1) ** 2
    noise = example.sigma.clamp(min=_LEAST_SIGMA).square()
    direct = error.square() / (noise + _LOSS_FLOOR * scale)
    cut = example.cut
    around = torch.nn.functional.pad(error, (cut, cut, cut, cut))
    blurred = example.exact.forward(around)[..., cut:-cut, cut:-cut]
    reblurred = blurred.square() / (noise + _REBLUR_FLOOR * scale)
    return torch.log1p((direct + _REBLUR * reblurred).mean((1, 2))).mean()


def _uniform(
    n: int, low: float, high: float, generator: torch.Generator
) -> torch.Tensor:
    return low + (high - low) * torch.rand(n, generator=generator)


def _log_uniform(
    n: int, low: float, high: float, generator: torch.Generator
) -> torch.Tensor:
    return torch.exp(_uniform(n, math.log(low), math.log(high), generator))


def _scenes(bank: CropBank, n: int, generator: torch.Generator) -> torch.Tensor:
    """Return sharp scenes (n, H, W) in [0, 1], some mostly dark, points or smooth."""
    device = bank.device
    scenes = bank.draw(n, generator)
    kind = torch.rand(n, generator=generator)
    black = _uniform(n, *_BLACK, generator)
    width = _uniform(n, 2, 6, generator)
    for i in range(n):
        if kind[i] < _DARK:
            level = torch.quantile(scenes[i].flatten(), black[i].to(device))
            scenes[i] = (scenes[i] - level).clamp(min=0) / (1.001 - level)
        elif kind[i] < _DARK + _POINTS:
            scenes[i] = puncta(1, bank.size, generator, device)[0]
        elif kind[i] < _DARK + _POINTS + _SMOOTH:
            wide = _gaussian((bank.size, bank.size), width[i : i + 1].to(device))
            scenes[i] = _filtered(scenes[i : i + 1], wide)[0]
    return scenes


def _gaussian(shape: tuple[int, int], width: torch.Tensor) -> torch.Tensor:
    """Return transfer functions (n, H, W // 2 + 1) of Gaussians of σ (n,) pixels."""
    fy = torch.fft.fftfreq(shape[0], device=width.device)[:, None]
    fx = torch.fft.rfftfreq(shape[1], device=width.device)
    exponent = -2 * (math.pi * width[:, None, None]) ** 2 * (fy**2 + fx**2)
    return exponent.exp()


def _filtered(images: torch.Tensor, transfer: torch.Tensor) -> torch.Tensor:
    spectra = torch.fft.rfft2(images) * transfer
    filtered: torch.Tensor = torch.fft.irfft2(spectra, s=images.shape[-2:])
    return filtered


def _stray_light(
    family: ZernikeFamily, crops: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Return haze, light from out of focus and pedestals (n, H, W) from other crops."""
    n, device = len(crops), crops.device
    shape = (crops.shape[-2], crops.shape[-1])
    present = (torch.rand(n, generator=generator) < _STRAY).float()
    haze = present * _uniform(n, 0, _HAZE, generator)
    beyond = present * _uniform(n, 0, _DEFOCUSED, generator)
    pedestal = present * _uniform(n, 0, _PEDESTAL, generator)
    gamma = torch.zeros(n, family.n_coefficients)
    gamma[:, family.noll.index(4)] = _uniform(n, *_DEFOCUS, generator)
    blur = family.coarse().operator(gamma.to(device), shape)
    scattered = _gaussian(shape, _uniform(n, *_HAZE_PX, generator).to(device))
    haze, beyond, pedestal = (
        amount.to(device)[:, None, None] for amount in (haze, beyond, pedestal)
    )
    light = _filtered(crops, haze * scattered + beyond * blur.otf)
    return light.clamp(min=0) + pedestal


def _true_blur(
    family: ZernikeFamily,
    gamma: torch.Tensor,
    shape: tuple[int, int],
    generator: torch.Generator,
    device: torch.device,
) -> Convolution:
    """Return the true blur: γ, spherical aberration that nobody states, other pixels.

    In half of the batches the pixels integrate as the family has it, else not at all.
    """
    beyond = torch.zeros_like(gamma)
    if 11 in family.noll:
        extra = _UNSTATED_SPHERICAL * torch.randn(len(gamma), generator=generator)
        beyond[:, family.noll.index(11)] = extra
    points = bool(torch.rand(1, generator=generator) < 0.5)
    true = replace(family, pixel_aperture=0.0) if points else family
    return true.coarse().operator((gamma + beyond).to(device), shape)


def _stated_blur(
    family: ZernikeFamily,
    gamma: torch.Tensor,
    stated: torch.Tensor,
    shape: tuple[int, int],
    frame: tuple[int, int],
    generator: torch.Generator,
    device: torch.device,
) -> Convolution:
    """Return the blur of an estimate with the errors `stated` (n,) in waves a mode."""
    # No estimate is equally sure of all modes.
    unequal = torch.exp(0.4 * torch.randn(gamma.shape, generator=generator))
    deviations = stated[:, None] * unequal
    estimate = gamma + deviations * torch.randn(gamma.shape, generator=generator)
    covariance = torch.diag_embed(deviations**2)
    psf, spread = marginal_kernels(
        family.coarse().psf, estimate.to(device), covariance.to(device)
    )
    return Convolution(psf, shape, frame, spread)


def _exposed(
    clean: torch.Tensor, max_noise: float, generator: torch.Generator
) -> tuple[torch.Tensor, NoiseModel]:
    """Return frames (n, H, W) of a camera, and their noise.

    Parameters
    ----------
    clean
        (n, H, W) light, at most 1.
    max_noise
        Largest σ of white noise.
    """
    n, device = len(clean), clean.device
    white = torch.rand(n, generator=generator) < _WHITE
    sigma = _log_uniform(n, _LEAST_SIGMA, max_noise, generator)
    peak = _log_uniform(n, *_PEAK, generator)
    read = _log_uniform(n, *_READ, generator) / peak
    step = 1 / _log_uniform(n, *_LEVELS, generator)
    zero = torch.zeros(n)
    model = NoiseModel(
        torch.where(white, zero, 1 / peak).to(device),
        (torch.where(white, sigma, read) ** 2 + step**2 / 12).to(device),
        (step**2 / 12).to(device),
    )
    # Large draws on the device; the seed is the generator's, so runs repeat.
    seed = int(torch.randint(0, 2**62, (1,), generator=generator).item())
    local = torch.Generator(device).manual_seed(seed)
    electrons = peak.to(device)[:, None, None]
    shot = torch.poisson(clean * electrons, generator=local) / electrons
    light = torch.where(white.to(device)[:, None, None], clean, shot)
    own = torch.where(white, sigma, read).to(device)[:, None, None]
    normal = torch.randn(clean.shape, device=device, generator=local)
    level = step.to(device)[:, None, None]
    return torch.round((light + own * normal) / level) * level, model
