"""Learn the spectra of specimens: sharp crops → mean, principal components, residual.

python tools/train_specimen.py --data FOLDER --out training/specimen
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from training.crops import CropBank
from training.loop import description
from training.pictures import one_line_errors, read_tiles

from deepblur_live.identification import SpecimenSpectrum, welch


@one_line_errors()
def main() -> None:
    """Keep the principal components of the spectra of sharp crops."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, help="folders with TILES.csv"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--crops", type=int, default=12_000)
    parser.add_argument("--crop", type=int, default=288, help="side of a crop, pixels")
    parser.add_argument("--micrographs", type=float, default=0.5, help="their share")
    parser.add_argument("--patterns", type=int, default=60, help="components kept")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    began = time.monotonic()
    device = torch.device("cpu")
    generator = torch.Generator().manual_seed(options.seed)
    tiles = read_tiles(options.data)
    bank = CropBank(tiles, options.crop, device, options.micrographs)
    print(f"{len(bank.table)} tiles, {bank.pixels.numel() / 1e6:.0f} MP")
    spectra = [welch(bank.draw(8, generator))[0] for _ in range(options.crops // 8)]
    specimen = SpecimenSpectrum.learned(torch.cat(spectra), options.patterns)
    left = float(specimen.deviation.median())
    print(f"{options.patterns} patterns leave {left:.3f} of log S a bin")
    options.out.mkdir(parents=True, exist_ok=True)
    contiguous = {k: v.contiguous() for k, v in specimen.tensors().items()}
    save_file(contiguous, options.out / "weights.safetensors")
    progress = {
        "samples": 8 * len(spectra),
        "minutes": (time.monotonic() - began) / 60,
        "left": left,
    }
    about = description(tiles, device) | {"seed": options.seed, "progress": progress}
    (options.out / "training.json").write_text(json.dumps(about, indent=1), "utf-8")


if __name__ == "__main__":
    main()
