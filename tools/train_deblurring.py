"""Train a deblurring network: blurred noisy crops and their operators → sharp crops.

python tools/train_deblurring.py --data FOLDER --out training/deblurring
    [--kind douglas-rachford]: the quality preset, for a graphics card
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn
from training_data import CropBank, blurred_and_noisy, read_tiles, told_in_one_line
from training_loop import arguments, description, train

from deepblur_live.deblurring import DEBLURRING_KINDS, build_deblurring
from deepblur_live.optics import ZernikeFamily, extend
from deepblur_live.runtime.device import choose_precision, tune_process

if TYPE_CHECKING:
    from collections.abc import Mapping

# What is not asked for otherwise; written into the manifest.
ARCHITECTURES: dict[str, dict[str, int]] = {
    "fista": {"iterations": 15, "channels": 32, "shrink": 2, "depth": 4, "exact": 2},
    "douglas-rachford": {"iterations": 4, "blocks": 4},
}
SIZES = ("iterations", "channels", "shrink", "depth", "exact", "blocks")
# Half of the operators are off as an identified one is: errors of so many waves a mode,
# measured at σ = 0.001, growing with this power of σ; from none to all of it.
ERROR, ERROR_GROWTH = 0.0075, 0.45


@told_in_one_line()
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
    tune_process(options.threads)
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
    half = choose_precision(device)[0] == torch.bfloat16

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
            share = (2 * torch.rand(n, generator=generator) - 1).clamp(min=0)
            waves = share * ERROR * (sigma / 1e-3) ** ERROR_GROWTH
            off = torch.randn(gamma.shape, generator=generator) * waves[:, None]
            shape = (continued.shape[-2], continued.shape[-1])
            seen = (noisy.shape[-2], noisy.shape[-1])
            operator = family.operator(gamma + off.to(device), shape, seen)
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            result = model(continued, operator, sigma.to(device))
        result = result[:, : options.crop, : options.crop]
        error = (result - truth).square().mean((1, 2))
        trivial = (noisy - truth).square().mean((1, 2))
        # Relative to the noise that is there, or the noisiest crops rule the gradient;
        # with the constant every level then counts about alike.
        loss = (error / (sigma.to(device) ** 2 + 3e-4)).mean()
        return loss, float(error.mean().detach()), float(trivial.mean())

    train(
        model,
        batch_loss,
        folder=options.out,
        minutes=options.minutes,
        batch=options.batch,
        rate=options.rate,
        device=device,
        describe=description(tiles, device)
        | {"seed": options.seed, "architecture": architecture},
        start=options.start,
        adapt=lambda tensors: smaller(tensors, architecture),
    )


def smaller(
    tensors: dict[str, torch.Tensor], architecture: Mapping[str, int | str]
) -> dict[str, torch.Tensor]:
    """Return the weights of an unrolled network with fewer layers or gradient steps.

    The layers in the middle go, with their modulation, and the last steps. The last
    layer begins at zero, for it would read features that are others now.
    """
    if architecture["kind"] != "fista":
        return tensors
    steps = int(architecture["iterations"]) - int(architecture["exact"])
    if steps > (most := len(tensors["log_step"])):
        raise SystemExit(f"--start has {most} gradient steps, {steps} are asked for")
    tensors = tensors | {k: tensors[k][:steps] for k in ("log_step", "momentum")}
    layer, condition = "proximal.layers.", "proximal.condition.2."
    found = sum(k.startswith(layer) and k.endswith("weight") for k in tensors)
    depth = int(architecture["depth"])
    stays = [*range(depth // 2), *range(found - (depth - depth // 2), found)]
    if not 2 <= depth <= found:
        raise SystemExit(
            f"--depth {depth}: --start has {found} layers; fewer than 2, or fewer than "
            "asked for, cannot be had of it"
        )
    kept = {k: v for k, v in tensors.items() if not k.startswith((layer, condition))}
    for new, old in enumerate(stays):
        for part in ("weight", "bias"):
            kept[f"{layer}{new}.{part}"] = tensors[f"{layer}{old}.{part}"]
    for part in ("weight", "bias"):
        rows = tensors[condition + part].chunk(found - 1)
        kept[condition + part] = torch.cat([rows[old] for old in stays[:-1]])
        if depth < found:
            last = f"{layer}{depth - 1}.{part}"
            kept[last] = torch.zeros_like(kept[last])
    return kept


if __name__ == "__main__":
    main()
