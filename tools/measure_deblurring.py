"""Compare deblurring networks with classical filters on noise as cameras have it.

python tools/measure_deblurring.py --data FOLDER --weights training/deblurring

Crops of held-out validation pictures, "mostly dark" where 15 % of the frame is lit. All
get the same PSF. PSNR in dB, of the scene in [0, 1].
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from evaluation.classical import best_wiener, richardson_lucy
from held_out import held_out_pictures, scene
from safetensors.torch import load_file
from scipy.ndimage import gaussian_filter
from training_data import one_line_errors

from deepblur_live.blur import Convolution, family_from_profile, marginal_kernels
from deepblur_live.deblurring import build_deblurring
from deepblur_live.optics import NoiseModel, extend, frame_part, margin, psnr
from deepblur_live.profile import Profile
from deepblur_live.runtime.device import tune_process
from deepblur_live.runtime.pack import load_pack

if TYPE_CHECKING:
    from deepblur_live.blur.zernike import ZernikeFamily
    from deepblur_live.deblurring import UnrolledFista

SIDE = 256
# Share of a mostly dark frame that is lit, and the size of its parts in pixels.
LIT, PARTS, EDGE = 0.15, 14.0, 2.0
READ_E = 1.5


@dataclass(frozen=True)
class Condition:
    """How frames are made: electrons at full scale, or white noise; error of γ."""

    dark: bool
    electrons: float | None
    sigma: float = 0.0
    error: float = 0.0


CONDITIONS = {
    "mostly dark, 200 e": Condition(True, 200),
    "filled, 200 e": Condition(False, 200),
    "filled, white 0.01": Condition(False, None, 0.01),
    "mostly dark, 500 e, γ off 0.06": Condition(True, 500, error=0.06),
    "filled, 500 e, γ off 0.06": Condition(False, 500, error=0.06),
}


@dataclass(frozen=True)
class Frame:
    """A frame (H, W) scaled as live, its truth in the same units, what is known."""

    image: torch.Tensor
    truth: torch.Tensor
    span: float
    noise: NoiseModel
    gamma: torch.Tensor
    covariance: torch.Tensor


def exposed(
    path: Path, number: int, family: ZernikeFamily, condition: Condition
) -> Frame:
    """Return a picture's frame; `number` seeds its blur, its dark and its noise."""
    cut = family.window // 2
    sharp = scene(path, SIDE + 2 * cut)
    chance = torch.Generator().manual_seed(2000 + number)
    if condition.dark:
        shape = torch.rand(sharp.shape, generator=chance).numpy()
        smooth = gaussian_filter(shape, PARTS, mode="wrap")
        lit = (smooth > np.quantile(smooth, 1 - LIT)).astype(np.float32)
        sharp = sharp * torch.from_numpy(gaussian_filter(lit, EDGE, mode="wrap"))
    gamma = family.sample_rms(1, chance)[0]
    error = condition.error * torch.randn(gamma.shape, generator=chance)
    clean = family.operator(gamma, (SIDE + 2 * cut,) * 2).forward(sharp)
    clean = clean[cut:-cut, cut:-cut].clamp(min=0)
    normal = torch.randn(clean.shape, generator=chance)
    if condition.electrons is None:
        noisy, slope, intercept = clean + condition.sigma * normal, 0.0, condition.sigma
    else:
        shot = torch.poisson(clean * condition.electrons, generator=chance)
        noisy = (shot + READ_E * normal) / condition.electrons
        slope, intercept = 1 / condition.electrons, READ_E / condition.electrons
    low, high = (torch.quantile(noisy, q) for q in (0.001, 0.999))
    model = NoiseModel(
        torch.tensor([slope]), torch.tensor([intercept**2]), torch.tensor([0.0])
    ).scaled(low, high - low)
    truth = (sharp[cut:-cut, cut:-cut] - low) / (high - low)
    stated = max(condition.error, 1e-3)
    covariance = stated**2 * torch.eye(len(gamma))
    image = (noisy - low) / (high - low)
    return Frame(image, truth, float(high - low), model, gamma + error, covariance)


@torch.no_grad()
def deblurred(
    network: UnrolledFista, frame: Frame, family: ZernikeFamily
) -> torch.Tensor:
    """Return the image (H, W) of a network, as it is used: today's with one σ."""
    image = frame.image[None]
    sigma = frame.noise.map(image)
    fold = network.proximal.shrink
    whole = extend(image, margin(family.window), fold)
    shape = (whole.shape[-2], whole.shape[-1])
    if network.noise_map:
        told = extend(sigma, margin(family.window), fold)
        kernels = marginal_kernels(family.psf, frame.gamma, frame.covariance)
    else:
        told = sigma.square().mean((1, 2)).sqrt()
        kernels = family.kernels(frame.gamma[None])
    operator = Convolution(kernels[0], shape, (SIDE, SIDE), *kernels[1:])
    part = frame_part(shape, (SIDE, SIDE))
    result: torch.Tensor = network(whole, operator, told)[0, part[0], part[1]]
    return result


@torch.no_grad()
def classical(frame: Frame, family: ZernikeFamily) -> dict[str, torch.Tensor]:
    """Return the images (H, W) of the classical filters, with the PSF of γ."""
    psf = family.psf(frame.gamma)
    whole = extend(frame.image, margin(family.window))
    inner = (slice(None), slice(None))
    part = frame_part((whole.shape[0], whole.shape[1]), (SIDE, SIDE))
    wiener = best_wiener(whole, psf, frame.truth.numpy(), inner)
    images = {f"RL {n}": richardson_lucy(whole, psf, n) for n in (5, 20)}
    images["oracle Wiener"] = torch.from_numpy(np.ascontiguousarray(wiener))
    return {n: image[part] if n[:2] == "RL" else image for n, image in images.items()}


@one_line_errors()
def main() -> None:
    """Print a table: conditions × methods, mean PSNR."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, nargs="*", default=[])
    parser.add_argument("--pictures", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    tune_process(options.threads)
    family = family_from_profile(Profile())
    networks = {"today": load_pack("zernike7").deblurring}
    for folder in options.weights:
        training = json.loads((folder / "training.json").read_text("utf-8"))
        network = build_deblurring(training["architecture"])
        network.load_state_dict(load_file(folder / "weights.safetensors"))
        networks[f"{folder.parent.name} {training['progress']['samples']}"] = network
    found = held_out_pictures(options.data, "validation")
    half = options.pictures // 2
    paths = [
        p for kind in found.values() for p in kind[:: max(1, len(kind) // half)][:half]
    ]
    print(f"{len(paths)} pictures: {', '.join(p.name for p in paths)}")
    for name, condition in CONDITIONS.items():
        scores: dict[str, list[float]] = {}
        for number, path in enumerate(paths):
            frame = exposed(path, number, family, condition)
            images = {"raw": frame.image} | classical(frame, family)
            for label, network in networks.items():
                images[label] = deblurred(network, frame, family)
            truth = (frame.truth * frame.span).numpy()
            for label, image in images.items():
                score = psnr((image * frame.span).numpy(), truth)
                scores.setdefault(label, []).append(float(score))
        values = "  ".join(f"{k} {np.mean(v):.2f}" for k, v in scores.items())
        print(f"{name}: {values}", flush=True)


if __name__ == "__main__":
    main()
