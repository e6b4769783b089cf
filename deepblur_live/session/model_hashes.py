"""Which weights and engines a session ran with: the hashes of their files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from deepblur_live.runtime.engine_cache import EngineCache
from deepblur_live.runtime.pack import find_packs

__all__ = ["engine_hashes", "model_hashes"]


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


def engine_hashes(executor: str, cache: EngineCache | None = None) -> dict[str, Any]:
    """Return what ran the networks, and the sha256 of the engines kept for it.

    A result names TensorRT, its version and the card, not the files: all the sound
    engines built by and for these are given. Reads them whole: not for a thread that
    anybody waits for.

    Parameters
    ----------
    executor
        As results name it.
    cache
        Where engines are kept; the user's own if None.
    """
    found = {}
    for kept in (EngineCache() if cache is None else cache).contents():
        spec = kept.spec
        if spec is None or kept.fault:
            continue
        if all(part in executor for part in (spec.backend, spec.version, spec.gpu)):
            found[kept.path.name] = kept.sha256
    return {"executor": executor} | ({"plans_sha256": found} if found else {})
