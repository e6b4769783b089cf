"""Train the deblurring network: blurred, noisy crops and operators → sharp crops.

python tools/train_deblurring.py --data FOLDER --out training/deblurring
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from training.crops import CropBank
from training.loop import arguments, description, train
from training.pictures import one_line_errors, read_tiles
from training.scenes import draw_examples, example_loss

from deepblur_live.blur import family_from_profile
from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.deblurring import build_deblurring
from deepblur_live.optics import frame_part
from deepblur_live.profile import Profile
from deepblur_live.runtime.device import choose_precision, tune_process

if TYPE_CHECKING:
    from collections.abc import Mapping

# Default architecture, that of the quality weights; the one trained is written into
# the manifest. The live weights: 10 iterations, 16 channels, 4 plain.
ARCHITECTURE = {
    "iterations": 15,
    "channels": 32,
    "shrink": 2,
    "depth": 4,
    "exact": 2,
    "noise_map": 1,
    "plain": 0,
}


@one_line_errors()
def main() -> None:
    """Train."""
    parser = arguments(str(__doc__), batch=8, crop=98, max_noise=0.1)
    for name, value in ARCHITECTURE.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=int, default=value, dest=name
        )
    options = parser.parse_args()
    architecture = {name: getattr(options, name) for name in ARCHITECTURE}
    tune_process(options.threads)
    torch.manual_seed(options.seed)
    generator = torch.Generator().manual_seed(options.seed)
    device = torch.device(options.device)
    family = family_from_profile(Profile())
    assert isinstance(family, ZernikeFamily)
    tiles = read_tiles(options.data)
    side = options.crop + family.window - 1
    bank = CropBank(tiles, side, device, options.micrographs)
    print(f"{len(bank.table)} tiles, {bank.pixels.numel() / 1e6:.0f} MP on {device}")
    model = build_deblurring(architecture).to(device)
    fold = model.proximal.shrink
    model = model.to(memory_format=torch.channels_last)
    half = choose_precision(device)[0] == torch.bfloat16

    def batch_loss(model: nn.Module, step: int) -> tuple[torch.Tensor, float, float]:
        # Otherwise a resumed run would repeat the crops of its first minutes.
        generator.manual_seed(options.seed * 1_000_003 + step)
        with torch.no_grad():
            example = draw_examples(
                bank, family, options.batch, fold, options.max_noise, generator
            )
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            result = model(example.extended, example.operator, example.sigma_extended)
        loss = example_loss(result.float(), example)
        truth, noisy = example.truth, example.noisy
        shape = (result.shape[-2], result.shape[-1])
        rows, columns = frame_part(shape, (truth.shape[-2], truth.shape[-1]))
        with torch.no_grad():
            error = (result[..., rows, columns] - truth).square().mean((1, 2))
            trivial = (noisy - truth).square().mean((1, 2))
        # The median: few crops have points that are far brighter than the rest.
        return loss, float(error.median()), float(trivial.median())

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
    """Return the weights of an unrolled network with fewer layers, steps or channels.

    The layers in the middle, the last steps and the weakest channels are removed. The
    last layer starts at zero where a layer is missing, because the features that it
    reads have changed. A noise map's channel starts at zero.
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
    kept = _narrower(kept, depth, architecture.get("channels", 32))
    first = kept[f"{layer}0.weight"]
    missing = architecture.get("shrink", 2) ** 2 + architecture.get("noise_map", 0)
    missing -= first.shape[1]
    if missing > 0:
        padding = first.new_zeros(len(first), missing, *first.shape[2:])
        kept[f"{layer}0.weight"] = torch.cat([first, padding], 1)
    return kept


def _narrower(
    tensors: dict[str, torch.Tensor], depth: int, channels: int
) -> dict[str, torch.Tensor]:
    """Return the weights with the channels that contribute most to the next layer."""
    layer, condition = "proximal.layers.", "proximal.condition.2."
    found = len(tensors[f"{layer}0.bias"])
    if channels > found:
        raise SystemExit(f"--start has {found} channels, {channels} are requested")
    if channels == found:
        return tensors
    tensors = dict(tensors)
    parts = ("weight", "bias")
    rows = {part: list(tensors[condition + part].chunk(depth - 1)) for part in parts}
    for i in range(depth - 1):
        own, after = (f"{layer}{j}.weight" for j in (i, i + 1))
        enters = tensors[own].square().sum((1, 2, 3))
        leaves = tensors[after].square().sum((0, 2, 3))
        best = (enters * leaves).topk(channels).indices.sort().values
        tensors[own] = tensors[own][best]
        tensors[f"{layer}{i}.bias"] = tensors[f"{layer}{i}.bias"][best]
        tensors[after] = tensors[after][:, best]
        for part in parts:
            scale, shift = rows[part][i].chunk(2)
            rows[part][i] = torch.cat([scale[best], shift[best]])
    return tensors | {condition + part: torch.cat(rows[part]) for part in parts}


if __name__ == "__main__":
    main()
