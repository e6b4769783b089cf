"""Train a deblurring network: blurred noisy crops and true operators → sharp crops.

python tools/train_deblurring.py --data FOLDER --out training/deblurring
    [--kind douglas-rachford]: the quality preset, for a graphics card
"""

from __future__ import annotations

import math

import torch
from torch import nn
from training_data import CropBank, blurred_and_noisy, read_tiles
from training_loop import arguments, description, train

from deepblur_live.deblurring import DEBLURRING_KINDS, build_deblurring
from deepblur_live.optics import ZernikeFamily, extend

# What is not asked for otherwise; written into the manifest.
ARCHITECTURES: dict[str, dict[str, int]] = {
    "fista": {"iterations": 15, "channels": 32, "shrink": 2},
    "douglas-rachford": {"iterations": 4, "blocks": 4},
}
SIZES = ("iterations", "channels", "shrink", "blocks")


def main() -> None:
    """Train."""
    parser = arguments(str(__doc__), batch=8, crop=98, max_noise=0.1)
    parser.add_argument("--kind", choices=[*DEBLURRING_KINDS], default="fista")
    for name in SIZES:
        parser.add_argument(f"--{name}", type=int)
    options = parser.parse_args()
    architecture: dict[str, int | str] = {"kind": options.kind}
    architecture |= ARCHITECTURES[options.kind]
    for name in SIZES:
        asked = getattr(options, name)
        if asked is not None and name not in architecture:
            parser.error(f"--kind {options.kind} has no {name}")
        if asked is not None:
            architecture[name] = asked
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    generator = torch.Generator().manual_seed(options.seed)
    device = torch.device(options.device)
    family = ZernikeFamily()
    margin = family.window - 1
    tiles = read_tiles(options.data)
    bank = CropBank(tiles, options.crop + margin, device, options.micrographs)
    print(f"{len(bank.table)} tiles, {bank.pixels.numel() / 1e6:.0f} MP on {device}")
    model = build_deblurring(architecture).to(device)
    fold = model.proximal.shrink
    model = model.to(memory_format=torch.channels_last)

    def batch_loss(model: nn.Module, step: int) -> tuple[torch.Tensor, float, float]:
        # A resumed run must not see the crops of its first minutes again.
        generator.manual_seed(options.seed * 1_000_003 + step)
        n = options.batch
        sharp = bank.draw(n, generator)
        gamma = torch.cat(
            [family.sample(n // 2, generator), family.sample_rms(n - n // 2, generator)]
        ).to(device)
        with torch.no_grad():
            psf = family.psf(gamma)
            low, high = math.log(0.0007), math.log(options.max_noise)
            sigma = torch.exp(low + (high - low) * torch.rand(n, generator=generator))
            noisy = blurred_and_noisy(sharp, psf, sigma, generator)
            cut = margin // 2
            truth = sharp[:, cut:-cut, cut:-cut]
            continued = extend(noisy, margin, fold)
            shape = (continued.shape[-2], continued.shape[-1])
            seen = (noisy.shape[-2], noisy.shape[-1])
            operator = family.operator(gamma, shape, seen)
        with torch.autocast(device.type, torch.bfloat16):
            result = model(continued, operator, sigma.to(device))
        result = result[:, : options.crop, : options.crop]
        error = (result - truth).square().mean((1, 2))
        trivial = (noisy - truth).square().mean((1, 2))
        # Relative to the noise that is there, or the noisiest crops rule the gradient.
        loss = (error / (sigma.to(device) ** 2 + 1e-3)).mean()
        return loss, float(error.mean().detach()), float(trivial.mean())

    train(
        model,
        batch_loss,
        folder=options.out,
        minutes=options.minutes,
        batch=options.batch,
        rate=options.rate,
        device=device,
        describe=description(tiles, device) | {"architecture": architecture},
        start=options.start,
    )


if __name__ == "__main__":
    main()
