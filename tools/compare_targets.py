"""Compare what an identification network may read and learn, for the same compute.

python tools/compare_targets.py --data FOLDER [--minutes 5] [--markdown FILE]

The same ResNet18 reads crops or their spectra, and learns coefficients, their outer
products, or PSFs. Scored on pictures of the validation split by the PSF SNR of its own
answer, its turn given: what the spectrum's fit adds is left out.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional as F
from training_data import CropBank, blurred_and_noisy, read_tiles, told_in_one_line

from deepblur_live.identification.network import (
    IdentificationNet,
    network_input,
    outer_products,
)
from deepblur_live.identification.reliability import reliable
from deepblur_live.identification.spectrum import welch
from deepblur_live.optics import ZernikeFamily, psf_snr
from deepblur_live.runtime.device import tune_process

CPU = torch.device("cpu")
CROP, BATCH, RATE = 128, 32, 1e-3
NOISE = (0.0007, 0.02)
SCORED = 256


@dataclass
class Draw:
    """Blurred, noisy crops (B, H, W), their γ (B, P) and noise (B,)."""

    crops: torch.Tensor
    gamma: torch.Tensor
    sigma: torch.Tensor


def draw(bank: CropBank, family: ZernikeFamily, n: int, seed: int) -> Draw:
    """Return n crops of a bank with blurs and noise of their own."""
    generator = torch.Generator().manual_seed(seed)
    sharp = bank.draw(n, generator)
    gamma = family.sample(n, generator)
    low, high = (math.log(level) for level in NOISE)
    sigma = torch.exp(low + (high - low) * torch.rand(n, generator=generator))
    crops = blurred_and_noisy(sharp, family.psf(gamma), sigma, generator)
    return Draw(crops, gamma, sigma)


def as_crops(draw: Draw, family: ZernikeFamily) -> torch.Tensor:
    """Return (B, 2, H, W): the crops, and their noise, at a contrast of one."""
    del family
    centred = draw.crops - draw.crops.mean((1, 2), keepdim=True)
    contrast = centred.std((1, 2), keepdim=True).clamp(min=1e-4)
    noise = (draw.sigma[:, None, None] / contrast).log10().expand_as(centred)
    return torch.stack([centred / contrast, noise], 1)


def as_spectra(draw: Draw, family: ZernikeFamily) -> torch.Tensor:
    """Return (B, 2, 64, 32): what the shipped network reads, but for a common mean."""
    spectrum, looks = welch(draw.crops)
    seen = reliable(spectrum, looks, 1.0, family.cutoff)
    return network_input(seen, family.cutoff)


def coefficients(
    model: IdentificationNet, output: torch.Tensor, draw: Draw, family: ZernikeFamily
) -> torch.Tensor:
    """Return the squared error of γ, its first even and first odd mode positive."""
    del family
    return F.mse_loss(output[:, model.n_products :], _canonical(model, draw.gamma))


def products(
    model: IdentificationNet, output: torch.Tensor, draw: Draw, family: ZernikeFamily
) -> torch.Tensor:
    """Return the squared error of the outer products, blind to twin and turn."""
    del family
    target = outer_products(draw.gamma / model.scale, model.even)
    return F.mse_loss(output[:, : model.n_products], target)


def psfs(
    model: IdentificationNet, output: torch.Tensor, draw: Draw, family: ZernikeFamily
) -> torch.Tensor:
    """Return the relative squared error of the PSF, or of its turn if that is less."""
    found = family.psf(output[:, model.n_products :] * model.scale)
    truth = family.psf(draw.gamma)
    size = truth.square().sum((1, 2))
    errors = [
        (found - other).square().sum((1, 2)) / size
        for other in (truth, truth.flip((1, 2)))
    ]
    return torch.minimum(*errors).mean()


def _canonical(model: IdentificationNet, gamma: torch.Tensor) -> torch.Tensor:
    even = torch.tensor(model.even)
    result = gamma / model.scale
    for block in (even, ~even):
        first = result[:, block][:, :1]
        result[:, block] = result[:, block] * torch.where(first < 0, -1.0, 1.0)
    return result


def answer(
    model: IdentificationNet, output: torch.Tensor, loss: object
) -> torch.Tensor:
    """Return γ (B, P) of what was learned by a loss."""
    if loss is products:
        return model.decode(output)[0]
    return output[:, model.n_products :] * model.scale


def score(found: torch.Tensor, truth: torch.Tensor, family: ZernikeFamily) -> float:
    """Return the mean PSF SNR in dB, of the better of two turns."""
    h, reference = family.psf(found), family.psf(truth)
    turned = psf_snr(h.flip((1, 2)), reference)
    return float(torch.maximum(psf_snr(h, reference), turned).mean())


WAYS = (
    ("crops", as_crops, "coefficients (the paper's)", coefficients),
    ("crops", as_crops, "outer products", products),
    ("log-spectra", as_spectra, "coefficients", coefficients),
    ("log-spectra", as_spectra, "PSFs", psfs),
    ("log-spectra", as_spectra, "outer products (as shipped)", products),
)


@told_in_one_line()
def main() -> None:
    """Train each, score it, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument(
        "--minutes", type=float, default=5, help="of the processor, for each"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    tune_process(options.threads)
    family = ZernikeFamily(pupil_samples=63)
    side = CROP + family.window - 1
    bank = CropBank(read_tiles(options.data), side, CPU)
    held = CropBank(read_tiles(options.data, "validation"), side, CPU)
    test = draw(held, family, SCORED, 1)
    mean = family.psf(family.sample(4000, torch.Generator().manual_seed(0))).mean(0)
    trivial = float(psf_snr(mean, family.psf(test.gamma)).mean())
    lines = ["| reads | learns | samples | PSF SNR, dB |", "| --- | --- | --- | --- |"]
    lines.append(f"| nothing | the constant mean PSF | – | {trivial:.1f} |")
    for reads, reader, learns, loss in WAYS:
        torch.manual_seed(0)
        model = IdentificationNet(family.even.tolist())
        optimiser = torch.optim.AdamW(model.parameters(), lr=RATE)
        began, step = time.process_time(), 0
        while (gone := (time.process_time() - began) / 60) < options.minutes:
            left = 1 - gone / options.minutes
            for group in optimiser.param_groups:
                group["lr"] = RATE * min(1.0, (step + 1) / 100, 3 * left)
            batch = draw(bank, family, BATCH, 1000 + step)
            value = loss(model, model(reader(batch, family)), batch, family)
            optimiser.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            step += 1
        model.eval()
        with torch.no_grad():
            found = answer(model, model(reader(test, family)), loss)
        found_snr = score(found, test.gamma, family)
        lines.append(f"| {reads} | {learns} | {step * BATCH} | {found_snr:.1f} |")
        print(lines[-1], flush=True)
    text = "\n".join(lines)
    print(f"\n{text}")
    if options.markdown:
        options.markdown.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
