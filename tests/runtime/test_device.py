"""Which device, in which precision, and how a refusal puts it."""

import types

import numpy as np
import pytest
import torch

from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.runtime import device
from deepblur_live.runtime.device import choose_device, choose_precision, page_locked
from deepblur_live.runtime.executor import TorchExecutor

CPU = torch.device("cpu")


def processor(monkeypatch, *, machine="x86_64", onednn=True, **has):
    """Fake a processor, as torch describes it."""
    monkeypatch.setattr(device.platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: onednn)
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda n=name: has.get(n, False))
    fake = types.SimpleNamespace()
    if onednn:
        fake._is_mkldnn_bf16_supported = lambda: has.get("onednn_says", False)
    monkeypatch.setattr(torch.ops, "mkldnn", fake)


@pytest.mark.parametrize(
    ("is_a", "native"),
    [
        # AVX-512 alone: oneDNN says yes, and emulates it five times slower.
        ({"onednn_says": True}, False),
        ({"machine": "AMD64", "onednn_says": True}, False),
        ({"onednn_says": True, "_is_avx512_bf16_supported": True}, True),
        ({"onednn_says": True, "_is_amx_tile_supported": True}, True),
        ({"machine": "aarch64", "onednn_says": True}, True),
        ({"machine": "aarch64"}, False),
        # A torch without oneDNN, as on a Mac, has not even the question.
        ({"machine": "arm64", "onednn": False}, False),
        ({"onednn": False, "_is_avx512_bf16_supported": True}, False),
    ],
)
def test_bfloat16_is_for_processors_that_compute_in_it(monkeypatch, is_a, native):
    processor(monkeypatch, **is_a)
    dtype, why = choose_precision(CPU)
    assert dtype == (torch.bfloat16 if native else torch.float32)
    assert why.startswith("the processor computes" if native else "the processor does")


@pytest.mark.parametrize("native", [True, False])
def test_a_card_that_only_emulates_bfloat16_computes_in_float32(monkeypatch, native):
    """No card is asked: older ones than 8.0 say that they support it, and emulate."""

    def supported(including_emulation=True):
        return including_emulation or native

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    dtype, why = choose_precision(torch.device("cuda"))
    assert dtype == (torch.bfloat16 if native else torch.float32)
    assert "card" in why


def test_the_executor_says_what_it_computes_in(pack, monkeypatch):
    processor(monkeypatch, onednn_says=True)
    executor = TorchExecutor(pack, ZernikeFamily(), CPU)
    assert executor.dtype == torch.float32
    assert "float32" in executor.description
    assert TorchExecutor(pack, ZernikeFamily(), CPU, half=True).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64])
def test_pixels_are_copied_into_page_locked_memory_as_fast_as_numpy_would(
    monkeypatch, dtype
):
    """Torch copies uint16 one by one."""
    copied = []

    def pin_memory(tensor):
        copied.append(tensor.dtype)
        return tensor.clone()

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    pixels = np.array([[0, 1, 40_000], [65_535, 3, 2]]).astype(dtype)
    locked = page_locked(pixels)
    assert locked.numpy().dtype == dtype
    np.testing.assert_array_equal(locked.numpy(), pixels)
    assert copied != [torch.uint16]


@pytest.mark.parametrize(
    ("built_with", "why"),
    [(None, "built without CUDA"), ("13.0", "no driver or no card was found")],
)
def test_a_missing_card_is_reported_with_the_reason(monkeypatch, built_with, why):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built_with)
    assert why in choose_device().why
    with pytest.raises(ValueError, match=f"model.device 'cuda': .*{why}"):
        choose_device("cuda")
    assert choose_device("cpu").why == "requested"


def test_threads_are_counted_by_the_cores_that_a_container_leaves(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setattr(device.os, "cpu_count", lambda: 64)
    monkeypatch.setattr(
        device.os, "sched_getaffinity", lambda pid: {3, 4, 9}, raising=False
    )
    try:
        assert device.tune_process() == torch.get_num_threads() == 2
        assert device.tune_process(5) == 5
        monkeypatch.delattr(device.os, "sched_getaffinity")
        assert device.usable_cores() == 64
    finally:
        torch.set_num_threads(before)
