"""Turn trained weights into a model that ships: half precision, manifest, checksums.

python tools/make_pack.py --training training --name zernike7
python tools/make_pack.py --quality FOLDER --live FOLDER --name zernike7

A part without a new training stays as the model has it, and so does its error model.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save

from deepblur_live.blur import family_from_profile
from deepblur_live.profile import Profile
from deepblur_live.runtime.pack import load_manifest

PARTS = ("identification", "deblurring", "deblurring_live", "specimen")
# A model without it deblurs live with its other weights.
OPTIONAL = ("deblurring_live",)


def main() -> None:
    """Write ``engines/NAME``; an accuracy measured before is dropped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--training", type=Path, help=f"folder with trained {', '.join(PARTS)}"
    )
    parser.add_argument("--quality", type=Path, help="folder of a deblurring training")
    parser.add_argument("--live", type=Path, help="that of a smaller network")
    parser.add_argument("--name", default="zernike7")
    parser.add_argument("--engines", type=Path, default=Path("engines"))
    options = parser.parse_args()
    folder = options.engines / options.name
    path = folder / "manifest.json"
    before = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    profile = Profile()
    manifest: dict[str, object] = {
        "name": options.name,
        "family": profile.model.family,
        "noll": list(profile.optics.noll),
        "sampling_min": 2.2,
        "sampling_max": 6.0,
        "trained_sampling": round(1 / family_from_profile(profile).cutoff, 3),
        "trained_noise": [0.0005, 0.1],
    }
    # Read all before writing any: a part of a new model would not load.
    trained = {
        part: options.training / part
        for part in PARTS
        if options.training is not None and (options.training / part).is_dir()
    }
    if options.quality is not None:
        trained["deblurring"] = options.quality
    if options.live is not None:
        trained["deblurring_live"] = options.live
    sources = {
        part: (
            json.loads((source / "training.json").read_text("utf-8")),
            load_file(source / "weights.safetensors"),
        )
        for part, source in trained.items()
    }
    for part in PARTS:
        if part not in sources and part not in before and part not in OPTIONAL:
            parser.error(f"{part}: not there, nor in {path}")
    folder.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        if part not in sources:
            if part in before:
                manifest[part] = before[part]
            continue
        training, tensors = sources[part]
        target = folder / f"{part}.safetensors"
        # A batch count is an integer and stays one.
        half = {
            k: v.half().contiguous() if v.dtype == torch.float32 else v
            for k, v in tensors.items()
        }
        target.write_bytes(save(half))
        manifest[part] = {
            "file": target.name,
            "sha256": hashlib.sha256(target.read_bytes()).hexdigest(),
            "architecture": training.pop("architecture", {}),
            "training": training,
        }
    if "error_model" in before:
        manifest["error_model"] = before["error_model"]
    else:
        shipped = load_manifest("zernike7")[1].error_model
        manifest["error_model"] = shipped.model_dump()
    path.write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
    print(f"wrote {path}; now run tools/fit_error_model.py and tools/evaluate.py")


if __name__ == "__main__":
    main()
