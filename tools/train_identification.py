"""Train the identification network: spectra of blurred, noisy specimens → γ.

python tools/train_identification.py --data FOLDER --out training/identification
    --specimen training/specimen/weights.safetensors

A blur multiplies a spectrum, so sharp crops are transformed once, and each batch draws
blurs, noise and numbers of frames for them.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from training.crops import CropBank, puncta
from training.loop import arguments, description, train
from training.pictures import one_line_errors, read_tiles

from deepblur_live.blur import family_from_profile
from deepblur_live.identification import SpecimenSpectrum, signal_bins, welch
from deepblur_live.identification.network import (
    IdentificationNet,
    network_input,
    outer_products,
)
from deepblur_live.identification.observed import LEAKAGE
from deepblur_live.identification.otf import log_otf
from deepblur_live.identification.specimen import symmetric
from deepblur_live.identification.spectrum import WINDOW, windowed
from deepblur_live.profile import Profile
from deepblur_live.runtime.device import choose_precision, tune_process

if TYPE_CHECKING:
    import argparse

    from training.pictures import TileList

# Half of the batches are of one frame, the others of up to this many, uniform in log.
MOST_FRAMES = 300
# Averages of a frame over those of a crop: frames of 256² to 700². A larger frame is
# like an average of several.
AVERAGES = (0.5, 4.0)
LEAST_NOISE = 0.0005


@one_line_errors()
def main() -> None:
    """Train."""
    parser = arguments(str(__doc__), batch=64, crop=352, max_noise=0.1)
    parser.add_argument(
        "--puncta", type=float, default=0.15, help="share of point specimens"
    )
    parser.add_argument("--crops", type=int, default=30_000, help="sharp, drawn once")
    parser.add_argument("--specimen", type=Path, help="learned spectra")
    options = parser.parse_args()
    tune_process(options.threads)
    torch.manual_seed(options.seed)
    generator = torch.Generator().manual_seed(options.seed)
    device = torch.device(options.device)
    family = family_from_profile(Profile()).coarse()
    specimen = SpecimenSpectrum.smooth()
    if options.specimen:
        specimen = SpecimenSpectrum.from_tensors(load_file(options.specimen))
    tiles = read_tiles(options.data)
    kept = options.out / "spectra.safetensors"
    drawn = ("crop", "crops", "puncta", "micrographs", "seed")
    settings = {name: str(getattr(options, name)) for name in drawn}
    settings["tiles"] = tiles.digest
    if not kept.is_file():
        options.out.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(".part")
        save_file(sharp_spectra(tiles, options, generator), partial, settings)
        os.replace(partial, kept)
    with safe_open(kept, "pt") as file:
        if (other := file.metadata()) != settings:
            parser.error(f"{kept}: drawn with {other}, not {settings}; remove it")
    bank = load_file(kept)
    logs, sharp_averages = bank["logs"].to(device), float(bank["averages"])
    print(f"{len(logs)} sharp spectra on {device}")
    model = IdentificationNet(family).to(device)
    model = model.to(memory_format=torch.channels_last)
    half = choose_precision(device)[0] == torch.bfloat16

    def batch_loss(model: nn.Module, step: int) -> tuple[torch.Tensor, float, float]:
        assert isinstance(model, IdentificationNet)
        # Otherwise a resumed run would repeat the draws of its first minutes.
        generator.manual_seed(options.seed * 1_000_003 + step)
        n = options.batch
        gamma = family.search_points(n, generator).to(device)
        chance = torch.rand(n + 3, generator=generator).to(device)
        low, high = math.log(LEAST_NOISE), math.log(options.max_noise)
        sigma = torch.exp(low + (high - low) * chance[:n])
        low, high = AVERAGES
        averages = sharp_averages * low * float((high / low) ** chance[-3])
        frames = 1.0 if chance[-2] < 0.5 else MOST_FRAMES ** float(chance[-1])
        with torch.no_grad():
            rows = torch.randint(0, len(logs), (n,), generator=generator)
            which = torch.randint(0, 4, (n,), generator=generator).to(device)
            four = symmetric(logs[rows.to(device)].float()).view(4, n, -1)
            log_sharp = four[which, torch.arange(n, device=device)]
            signal = torch.exp(log_sharp + log_otf(family, gamma)).view(n, WINDOW, -1)
            spectrum = noisy(signal, sigma**2, averages * frames, generator)
            spectrum = spectrum + LEAKAGE * spectrum.amax((1, 2), keepdim=True)
            bins = signal_bins(spectrum, averages, frames, family.cutoff)
            inputs = network_input(bins, family.cutoff, specimen.mean.to(device))
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            output = model(inputs.to(memory_format=torch.channels_last))
        target = outer_products(gamma / model.scale, model.blocks)
        # The trivial predictor is the mean; its squared error is the variance.
        with torch.no_grad():
            error = (output[:, : model.n_products].float() - target).square().mean()
        loss = model.loss(output.float(), gamma)
        return loss, float(error), float(target.var(0).mean())

    def adapt(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Begin with a new head where the family has other coefficients."""
        new, old = model.state_dict(), tensors
        return {n: old[n] if old[n].shape == t.shape else t for n, t in new.items()}

    train(model, batch_loss, options, description(tiles, device), adapt)


def sharp_spectra(
    tiles: TileList, options: argparse.Namespace, generator: torch.Generator
) -> dict[str, torch.Tensor]:
    """Return log-spectra (M, W, W//2+1) of sharp crops, and the averages in each."""
    cpu = torch.device("cpu")
    bank = CropBank(tiles, options.crop, cpu, options.micrographs)
    print(f"{len(bank.table)} tiles, {bank.pixels.numel() / 1e6:.0f} MP")
    logs, averages = [], 1.0
    synthetic = round(options.crops * options.puncta / 8)
    for index in range(max(1, options.crops // 8)):
        crops = (
            puncta(8, options.crop, generator, cpu)
            if index < synthetic
            else bank.draw(8, generator)
        )
        power, averages = welch(crops)
        # Half precision is accurate to 0.01, far below the scatter of a spectrum.
        logs.append(torch.log(power.clamp(min=1e-12)).half())
    return {"logs": torch.cat(logs), "averages": torch.tensor(averages)}


def noisy(
    signal: torch.Tensor,
    variance: torch.Tensor,
    averages: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """Return spectra (B, W, W//2+1) of a signal in white noise, averaged over windows.

    A window's power is |X + N|², whose noise has the variance 2|X|²σ² + σ⁴. The Hann
    window mixes neighbouring frequencies: their powers have a correlation of (2/3)².

    Parameters
    ----------
    signal
        Spectrum of the blurred specimen.
    variance
        (B,) σ² of the noise.
    averages
        Effective number of independent windows in the average.
    """
    level = variance[:, None, None]
    spread = torch.sqrt((2 * signal * level + level**2) / averages)
    white = torch.randn(signal.shape, generator=generator).to(signal.device)
    # The window's 1 : 4 : 1 correlates neighbours by 8/18, which is (2/3)², and leaves
    # half of the variance along each axis.
    return (signal + level + spread * 2 * windowed(white)).clamp(min=1e-12)


if __name__ == "__main__":
    main()
