"""Train the deblurring network: blurred, noisy crops and operators → sharp crops.

python tools/train_deblurring.py --data FOLDER --out training/deblurring
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn
from training_data import CropBank, blurred_and_noisy, one_line_errors, read_tiles
from training_loop import arguments, description, train

from deepblur_live.blur import family_from_profile
from deepblur_live.deblurring import build_deblurring
from deepblur_live.optics import extend
from deepblur_live.profile import Profile
from deepblur_live.runtime.device import choose_precision, tune_process

if TYPE_CHECKING:
    from collections.abc import Mapping

# Default architecture; the one trained is written into the manifest.
ARCHITECTURE = {"iterations": 15, "channels": 32, "shrink": 2, "depth": 4, "exact": 2}
# Half of the operators have an error like an identified one's, from none to all of so
# many waves per mode: measured at σ = 0.001, growing with this power of σ.
ERROR, ERROR_GROWTH = 0.0075, 0.45


@one_line_errors()
def main() -> None:
    """Train."""
    parser = arguments(str(__doc__), batch=8, crop=98, max_noise=0.1)
    for name, value in ARCHITECTURE.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    architecture = {name: getattr(options, name) for name in ARCHITECTURE}
    tune_process(options.threads)
    torch.manual_seed(options.seed)
    generator = torch.Generator().manual_seed(options.seed)
    device = torch.device(options.device)
    family = family_from_profile(Profile())
    margin = family.window - 1
    tiles = read_tiles(options.data)
    bank = CropBank(tiles, options.crop + margin, device, options.micrographs)
    print(f"{len(bank.table)} tiles, {bank.pixels.numel() / 1e6:.0f} MP on {device}")
    model = build_deblurring(architecture).to(device)
    fold = model.proximal.shrink
    model = model.to(memory_format=torch.channels_last)
    half = choose_precision(device)[0] == torch.bfloat16

    def batch_loss(model: nn.Module, step: int) -> tuple[torch.Tensor, float, float]:
        # Otherwise a resumed run would repeat the crops of its first minutes.
        generator.manual_seed(options.seed * 1_000_003 + step)
        n = options.batch
        sharp = bank.draw(n, generator)
        gamma = family.search_points(n, generator).to(device)
        with torch.no_grad():
            low, high = math.log(0.0007), math.log(options.max_noise)
            sigma = torch.exp(low + (high - low) * torch.rand(n, generator=generator))
            exact = family.operator(gamma, (sharp.shape[-2], sharp.shape[-1]))
            cut = margin // 2
            noisy = blurred_and_noisy(sharp, exact, cut, sigma, generator)
            truth = sharp[:, cut:-cut, cut:-cut]
            whole = extend(noisy, margin, fold)
            share = (2 * torch.rand(n, generator=generator) - 1).clamp(min=0)
            waves = share * ERROR * (sigma / 1e-3) ** ERROR_GROWTH
            error = torch.randn(gamma.shape, generator=generator) * waves[:, None]
            shape = (whole.shape[-2], whole.shape[-1])
            frame = (noisy.shape[-2], noisy.shape[-1])
            operator = family.operator(gamma + error.to(device), shape, frame)
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            result = model(whole, operator, sigma.to(device))
        result = result[:, : options.crop, : options.crop]
        squared = (result - truth).square().mean((1, 2))
        trivial = (noisy - truth).square().mean((1, 2))
        # Relative to the noise, or the noisiest crops would dominate the gradient; with
        # the constant, all noise levels contribute about equally.
        loss = (squared / (sigma.to(device) ** 2 + 3e-4)).mean()
        return loss, float(squared.mean().detach()), float(trivial.mean())

    trained = {"seed": options.seed, "architecture": architecture}
    train(
        model,
        batch_loss,
        options,
        description(tiles, device) | trained,
        adapt=lambda tensors: smaller(tensors, architecture),
    )


def smaller(
    tensors: dict[str, torch.Tensor], architecture: Mapping[str, int]
) -> dict[str, torch.Tensor]:
    """Return the weights of an unrolled network with fewer layers or gradient steps.

    The layers in the middle and the last steps are removed. The last layer starts at
    zero, because the features that it reads have changed.
    """
    steps = architecture["iterations"] - architecture["exact"]
    if steps > (most := len(tensors["log_step"])):
        raise SystemExit(f"--start has {most} gradient steps, {steps} are requested")
    tensors = tensors | {k: tensors[k][:steps] for k in ("log_step", "momentum")}
    layer, condition = "proximal.layers.", "proximal.condition.2."
    found = sum(k.startswith(layer) and k.endswith("weight") for k in tensors)
    depth = architecture["depth"]
    stays = [*range(depth // 2), *range(found - (depth - depth // 2), found)]
    if not 2 <= depth <= found:
        raise SystemExit(
            f"--depth {depth}: --start has {found} layers; keep 2 or more of them"
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
