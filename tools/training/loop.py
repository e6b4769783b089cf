"""The training loop of both networks: resumption, time limit, averaged weights."""

from __future__ import annotations

import argparse
import copy
import json
import os
import shlex
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

    from training.pictures import TileList

__all__ = ["Progress", "arguments", "description", "train"]

Tensors = dict[str, torch.Tensor]

# The weights that are written are an exponential moving average over about 200 steps.
_DECAY = 0.995


def arguments(
    about: str, *, batch: int, crop: int, max_noise: float
) -> argparse.ArgumentParser:
    """Return a parser of the options that both trainings share."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, help="folders with TILES.csv"
    )
    parser.add_argument("--out", type=Path, required=True, help="checkpoints; resumed")
    parser.add_argument(
        "--start", type=Path, help="folder of a model whose weights to start from"
    )
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--crop", type=int, default=crop, help="side of a crop, pixels")
    parser.add_argument("--micrographs", type=float, default=0.4, help="their share")
    parser.add_argument("--max-noise", type=float, default=max_noise)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu"
    )
    return parser


def description(tiles: TileList, device: torch.device) -> dict[str, object]:
    """Return what the manifest records about a training."""
    return {
        "command": shlex.join(["python", *sys.argv]),
        "tiles": len(tiles.tiles),
        "tiles_sha256": tiles.digest,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "CPU",
        "torch": torch.__version__,
    }


@dataclass
class Progress:
    """How far a training has come; saved with its weights.

    Parameters
    ----------
    step, samples, minutes
        Over all runs of this training.
    error, reference
        Running means of the error, and of that of a trivial predictor.
    """

    step: int = 0
    samples: int = 0
    minutes: float = 0.0
    error: float = float("nan")
    reference: float = float("nan")


def train(
    model: nn.Module,
    batch_loss: Callable[[nn.Module, int], tuple[torch.Tensor, float, float]],
    options: argparse.Namespace,
    describe: dict[str, object],
    adapt: Callable[[Tensors], Tensors] = lambda tensors: tensors,
) -> Progress:
    """Train for ``options.minutes``, from the last checkpoint if there is one.

    Parameters
    ----------
    batch_loss
        (model, step) → the loss to descend, the error to show, and that of the trivial
        predictor (for identification the labels' variance), on one batch.
    options
        Those of `arguments`. The rate is that of AdamW; it falls to zero over the last
        third of this run.
    describe
        Written to ``training.json`` next to the weights.
    adapt
        Turns the weights of a larger network, from ``options.start``, into weights of
        this one.

    Returns
    -------
    Progress
        Over all runs. The averaged weights are in ``weights.safetensors``.
    """
    folder, seconds = options.out, 60 * options.minutes
    folder.mkdir(parents=True, exist_ok=True)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=options.rate, weight_decay=1e-4
    )
    average = copy.deepcopy(model)
    progress = _resume(folder, model, average, optimiser)
    if options.start is not None and not progress.step:
        progress = _begin(options.start, folder.name, model, average, adapt)
    began, shown, saved = time.monotonic(), 0.0, time.monotonic()
    earlier, first = progress.minutes, progress.samples
    model.train()
    while (elapsed := time.monotonic() - began) < seconds:
        fraction = elapsed / seconds
        for group in optimiser.param_groups:
            warm = min(1.0, (progress.step + 1) / 300)
            group["lr"] = options.rate * warm * min(1.0, 3 * (1 - fraction))
        loss, error, reference = batch_loss(model, progress.step)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        # A step along a gradient that is not finite would spoil all weights.
        if torch.isfinite(norm):
            optimiser.step()
        _follow(average, model, min(_DECAY, (1 + progress.step) / (10 + progress.step)))
        progress.step += 1
        progress.samples += options.batch
        progress.minutes = earlier + (time.monotonic() - began) / 60
        if time.monotonic() - shown > 15 or progress.step == 1:
            shown = time.monotonic()
            old = progress.error == progress.error
            progress.error = 0.8 * progress.error + 0.2 * error if old else error
            progress.reference = (
                0.8 * progress.reference + 0.2 * reference if old else reference
            )
            speed = (progress.samples - first) / (time.monotonic() - began)
            print(
                f"{progress.minutes:7.1f} min  step {progress.step:7d}  "
                f"samples {progress.samples:9d}  {speed:7.1f}/s  "
                f"error {progress.error:.5f}  trivial {progress.reference:.5f}",
                flush=True,
            )
        if time.monotonic() - saved > 120:
            saved = time.monotonic()
            _save(folder, model, average, optimiser, progress, describe)
    _save(folder, model, average, optimiser, progress, describe)
    return progress


def _follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    with torch.no_grad():
        for a, b in zip(
            average.state_dict().values(), model.state_dict().values(), strict=True
        ):
            if a.dtype.is_floating_point:
                a.lerp_(b, 1 - decay)
            else:
                a.copy_(b)


def _save(
    folder: Path,
    model: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
    progress: Progress,
    describe: dict[str, object],
) -> None:
    tensors = {f"model.{k}": v.contiguous() for k, v in model.state_dict().items()}
    tensors |= {f"average.{k}": v.contiguous() for k, v in average.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {
            f"optimiser.{index}.{k}": torch.as_tensor(v).contiguous()
            for k, v in state.items()
        }
    _replace(folder / "checkpoint.safetensors", tensors)
    _replace(
        folder / "weights.safetensors",
        {k: v.contiguous() for k, v in average.state_dict().items()},
    )
    text = json.dumps(describe | {"progress": asdict(progress)}, indent=1)
    partial = folder / "training.json.part"
    partial.write_text(text)
    os.replace(partial, folder / "training.json")


def _replace(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    partial = path.with_suffix(".part")
    save_file({k: v.detach().cpu() for k, v in tensors.items()}, partial)
    os.replace(partial, path)


def _begin(
    pack: Path,
    network: str,
    model: nn.Module,
    average: nn.Module,
    adapt: Callable[[Tensors], Tensors],
) -> Progress:
    """Load a shipped model's weights and the progress of their training."""
    manifest = json.loads((pack / "manifest.json").read_text("utf-8"))
    if network not in manifest:
        raise SystemExit(
            f"{pack / 'manifest.json'}: has no {network!r}; --out must end in the name "
            "of a network of --start"
        )
    tensors = adapt(load_file(pack / manifest[network]["file"]))
    for net in (model, average):
        net.load_state_dict({k: v.clone() for k, v in tensors.items()})
    progress = Progress(**manifest[network]["training"]["progress"])
    print(f"starting from {pack} at {progress.samples} samples", flush=True)
    return progress


def _resume(
    folder: Path,
    model: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
) -> Progress:
    path = folder / "checkpoint.safetensors"
    if not path.is_file():
        return Progress()
    # Copies: a file that stays mapped cannot be replaced on Windows.
    tensors = {k: v.clone() for k, v in load_file(path).items()}

    def part(prefix: str) -> dict[str, torch.Tensor]:
        return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}

    model.load_state_dict(part("model."))
    average.load_state_dict(part("average."))
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in part("optimiser.").items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    content = optimiser.state_dict()
    content["state"] = state
    optimiser.load_state_dict(content)
    progress = json.loads((folder / "training.json").read_text())["progress"]
    print(f"resuming {folder} at {progress['samples']} samples", flush=True)
    return Progress(**progress)
