"""A stand-in for a card, a TensorRT that needs none, and the shipped model."""

import sys
from pathlib import Path

import pytest
import torch

from deepblur_live.runtime import engines
from deepblur_live.runtime.pack import load_pack
from deepblur_live.runtime.tensorrt import Card, build_plan, find_library

# The rig of the pipelines that make other pipelines.
sys.path.insert(0, str(Path(__file__).parent))

NO_CARD = Card(torch.device("cpu"), "test card", (9, 0), "570.1")


@pytest.fixture
def card():
    """Stands in for the result of `find_card`."""
    return NO_CARD


@pytest.fixture
def fake_tensorrt(monkeypatch):
    """The library "tensorrt" faked by `fakes/tensorrt.py`, in child processes too."""
    pytest.importorskip("onnx", reason="engines are built from ONNX")
    monkeypatch.syspath_prepend(str(Path(__file__).with_name("fakes")))
    find_library.cache_clear()
    yield find_library("tensorrt")
    monkeypatch.delitem(sys.modules, "tensorrt")
    find_library.cache_clear()


@pytest.fixture
def builds(monkeypatch, fake_tensorrt):
    """Run builds in this process, and list their precisions.

    `test_engine_build` tests the child process.
    """
    done = []

    def build_here(library, onnx, precision, capability, progress):
        done.append(precision)
        progress("being built")
        return build_plan(fake_tensorrt, onnx, precision, capability)

    monkeypatch.setattr(engines, "build_in_child", build_here)
    return done


@pytest.fixture(scope="session")
def tensorrt_rtx():
    """The real TensorRT for RTX, which builds engines without a card."""
    pytest.importorskip("onnx", reason="engines are built from ONNX")
    pytest.importorskip(
        "tensorrt_rtx", reason="TensorRT for RTX has no wheel for this system"
    )
    return find_library("tensorrt-rtx")


@pytest.fixture
def pack():
    return load_pack("zernike7")
