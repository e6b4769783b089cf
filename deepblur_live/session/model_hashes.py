"""Which weights a session ran with: the hashes of a model's files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from deepblur_live.runtime.pack import find_packs

__all__ = ["model_hashes"]


def model_hashes(name: str) -> dict[str, Any]:
    """Return the model's name and the sha256 of its manifest and its weights.

    The weights' are the manifest's own, which loading them has checked. A model that
    cannot be read here has its name alone, and why.
    """
    folder = find_packs().get(name, Path(name))
    try:
        manifest = (folder / "manifest.json").read_bytes()
        content = json.loads(manifest)
        weights = {
            part["file"]: part["sha256"]
            for part in content.values()
            if isinstance(part, dict) and "sha256" in part
        }
    except (OSError, ValueError, AttributeError, KeyError) as error:
        return {"name": name, "error": repr(error)}
    digest = hashlib.sha256(manifest).hexdigest()
    return {"name": name, "manifest_sha256": digest, "weights_sha256": weights}
