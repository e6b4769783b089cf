"""A card that is none, a TensorRT that needs none, and the shipped model."""

from pathlib import Path

import pytest
import torch

from deepblur_live.runtime import load_pack
from deepblur_live.runtime.tensorrt import Card, find_backend

NO_CARD = Card(torch.device("cpu"), "test card", (9, 0), "570.1")


@pytest.fixture
def card():
    """Given out as a card; it asks nobody, as `find_card` would."""
    return NO_CARD


@pytest.fixture
def fake_tensorrt(monkeypatch):
    """The backend "tensorrt" played by `fakes/tensorrt.py`, in child processes too."""
    pytest.importorskip("onnx", reason="engines are built from ONNX")
    monkeypatch.syspath_prepend(str(Path(__file__).with_name("fakes")))
    find_backend.cache_clear()
    yield find_backend("tensorrt")
    monkeypatch.delitem(__import__("sys").modules, "tensorrt")
    find_backend.cache_clear()


@pytest.fixture(scope="session")
def tensorrt_rtx():
    """The real TensorRT for RTX, which builds engines without a card."""
    pytest.importorskip("onnx", reason="engines are built from ONNX")
    pytest.importorskip(
        "tensorrt_rtx", reason="TensorRT for RTX has no wheel for this system"
    )
    return find_backend("tensorrt-rtx")


@pytest.fixture
def pack():
    return load_pack("zernike7")
