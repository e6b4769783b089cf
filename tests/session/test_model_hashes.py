"""The files behind a session are named by their hashes, engines among them."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from deepblur_live.runtime.engine_cache import EngineCache, EngineSpec
from deepblur_live.runtime.pack import PackError
from deepblur_live.session.model_hashes import engine_hashes, model_hashes

SPEC = EngineSpec(
    network="proximal",
    shape=(1, 1, 576, 576),
    precision="float16",
    onnx_sha256="0" * 64,
    backend="tensorrt",
    version="10.14.1",
    gpu="NVIDIA RTX A4000",
    capability=(8, 6),
    driver="580.1",
    options="",
)
EXECUTOR = "tensorrt 10.14.1, float16, on NVIDIA RTX A4000, one CUDA graph per frame"


@pytest.fixture
def cache(tmp_path):
    """Engines of this card, of another card and of another version."""
    cache = EngineCache(tmp_path)
    for spec in (
        SPEC,
        replace(SPEC, network="identification", shape=(1, 2, 64, 32)),
        replace(SPEC, gpu="NVIDIA H100"),
        replace(SPEC, version="10.15.0"),
    ):
        with cache.plan(spec, spec.name.encode, print):
            pass
    return cache


def test_engines_of_this_card_and_version(cache):
    found = engine_hashes(EXECUTOR, cache)
    plans = found["plans_sha256"]
    assert found["executor"] == EXECUTOR
    assert len(plans) == 2
    name = f"{SPEC.name}.plan"
    assert plans[name] == hashlib.sha256(SPEC.name.encode()).hexdigest()


def test_an_engine_that_was_altered_did_not_run(cache):
    (cache.folder / f"{SPEC.name}.plan").write_bytes(b"something else")
    assert len(engine_hashes(EXECUTOR, cache)["plans_sha256"]) == 1


def test_torch_has_no_engines(cache):
    executor = "torch 2.13.0 on cpu, float32"
    assert engine_hashes(executor, cache) == {"executor": executor}


def test_a_model_that_is_not_installed_is_refused():
    with pytest.raises(PackError, match="no such model"):
        model_hashes("no such model")
