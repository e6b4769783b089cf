"""Train the identification network: blurred noisy crops → outer products of γ.

python tools/train_identification.py --data FOLDER --out training/identification
"""

from __future__ import annotations

import math

import torch
from torch import nn
from training_data import CropBank, blurred_and_noisy, puncta, read_tiles
from training_loop import arguments, description, train

from deepblur_live.identification.network import (
    IdentificationNet,
    network_input,
    outer_products,
)
from deepblur_live.identification.spectrum import reliable, welch
from deepblur_live.optics import ZernikeFamily


def main() -> None:
    """Train."""
    parser = arguments(str(__doc__), batch=64, crop=226, max_noise=0.05)
    parser.add_argument("--puncta", type=float, default=0.2, help="share of synthetic")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    generator = torch.Generator().manual_seed(options.seed)
    device = torch.device(options.device)
    family = ZernikeFamily(pupil_samples=63)
    margin = family.window - 1
    side = options.crop + margin
    tiles = read_tiles(options.data)
    bank = CropBank(tiles, side, device, options.micrographs)
    print(f"{len(bank.table)} tiles, {bank.pixels.numel() / 1e6:.0f} MP on {device}")
    model = IdentificationNet(family.even.tolist()).to(device)
    model = model.to(memory_format=torch.channels_last)

    def batch_loss(model: nn.Module, step: int) -> tuple[torch.Tensor, float, float]:
        assert isinstance(model, IdentificationNet)
        # A resumed run must not see the crops of its first minutes again.
        generator.manual_seed(options.seed * 1_000_003 + step)
        n = options.batch
        n_puncta = round(n * options.puncta)
        sharp = torch.cat(
            [
                bank.draw(n - n_puncta, generator),
                puncta(n_puncta, side, generator, device),
            ]
        )
        half = n // 2
        gamma = torch.cat(
            [family.sample(half, generator), family.sample_rms(n - half, generator)]
        )
        gamma = gamma[torch.randperm(n, generator=generator)].to(device)
        with torch.no_grad():
            low, high = math.log(0.0005), math.log(options.max_noise)
            sigma = torch.exp(low + (high - low) * torch.rand(n, generator=generator))
            noisy = blurred_and_noisy(sharp, family.psf(gamma), sigma, generator)
            spectrum, looks = welch(noisy)
            inputs = network_input(
                reliable(spectrum, looks, 1.0, family.cutoff), family.cutoff
            )
        with torch.autocast(device.type, torch.bfloat16):
            output = model(inputs.to(memory_format=torch.channels_last))
        target = outer_products(gamma / model.scale, model.even)
        # The trivial predictor answers the mean; its squared error is the variance.
        with torch.no_grad():
            error = (output[:, : model.n_products].float() - target).square().mean()
        loss = model.loss(output.float(), gamma)
        return loss, float(error), float(target.var(0).mean())

    train(
        model,
        batch_loss,
        folder=options.out,
        minutes=options.minutes,
        batch=options.batch,
        rate=options.rate,
        device=device,
        describe=description(tiles, device),
        start=options.start,
    )


if __name__ == "__main__":
    main()
