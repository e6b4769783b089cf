"""Hashes of the weights and engines that a session ran with."""

from __future__ import annotations

import hashlib
from typing import Any

from deepblur_live.runtime.engine_cache import EngineCache
from deepblur_live.runtime.pack import load_manifest

__all__ = ["engine_hashes", "model_hashes"]


def model_hashes(name: str) -> dict[str, Any]:
    """Return a model's name and the sha256 of its manifest and its weights.

    Those of the weights are the manifest's, which loading the weights checks.
    """
    folder, manifest = load_manifest(name)
    manifest_bytes = (folder / "manifest.json").read_bytes()
    parts = [manifest.identification, manifest.deblurring, manifest.specimen]
    if manifest.deblurring_live is not None:
        parts.append(manifest.deblurring_live)
    return {
        "name": name,
        "manifest_sha256": hashlib.sha256(manifest_bytes).hexdigest(),
        "weights_sha256": {part.file: part.sha256 for part in parts},
    }


def engine_hashes(executor: str, cache: EngineCache | None = None) -> dict[str, Any]:
    """Return what ran the networks, and the sha256 of the engines built for it.

    A result names TensorRT, its version and the card, but not the files: all intact
    engines built by and for these are listed. Reads them whole, which takes a while.

    Parameters
    ----------
    executor
        Its name in the results.
    cache
        Where engines are stored; the user's own if None.
    """
    found = {}
    for kept in (EngineCache() if cache is None else cache).contents():
        spec = kept.spec
        if spec is None or kept.fault:
            continue
        if all(part in executor for part in (spec.backend, spec.version, spec.gpu)):
            found[kept.path.name] = hashlib.sha256(kept.plan).hexdigest()
    return {"executor": executor} | ({"plans_sha256": found} if found else {})
