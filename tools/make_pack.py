"""Turn trained weights into a model that ships: half precision, manifest, checksums.

python tools/make_pack.py --training training --name zernike7
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from deepblur_live.optics import PAPER_MODES


def main() -> None:
    """Write ``engines/NAME``; a measured accuracy already there is dropped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--training", type=Path, required=True)
    parser.add_argument("--name", default="zernike7")
    parser.add_argument("--engines", type=Path, default=Path("engines"))
    options = parser.parse_args()
    folder = options.engines / options.name
    folder.mkdir(parents=True, exist_ok=True)
    manifest: dict[str, object] = {
        "name": options.name,
        "family": "zernike",
        "noll": list(PAPER_MODES),
        "sampling_min": 2.2,
        "sampling_max": 6.0,
    }
    for network in ("identification", "deblurring"):
        source = options.training / network
        training = json.loads((source / "training.json").read_text("utf-8"))
        target = folder / f"{network}.safetensors"
        tensors = load_file(source / "weights.safetensors")
        save_file(
            {
                # A batch count is an integer and stays one.
                k: v.half().contiguous() if v.dtype == torch.float32 else v
                for k, v in tensors.items()
            },
            target,
        )
        manifest[network] = {
            "file": target.name,
            "sha256": hashlib.sha256(target.read_bytes()).hexdigest(),
            "architecture": training.pop("architecture", {}),
            "training": training,
        }
    path = folder / "manifest.json"
    path.write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
