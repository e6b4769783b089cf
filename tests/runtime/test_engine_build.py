"""Engines are built in a child process, which may crash or hang."""

import os
import subprocess
import sys

import pytest
import torch

from deepblur_live.deblurring import ProximalNet
from deepblur_live.runtime.engine_build import build_in_child
from deepblur_live.runtime.export import export_proximal
from deepblur_live.runtime.tensorrt import EngineError


@pytest.fixture
def onnx():
    pytest.importorskip("onnx", reason="engines are built from ONNX")
    torch.manual_seed(0)
    return export_proximal(ProximalNet(8, depth=3), (32, 48), "float32")


def build(onnx, progress=lambda _: None, timeout=120.0):
    return build_in_child("tensorrt", onnx, "float32", (9, 0), progress, timeout)


def test_a_plan_comes_back(tensorrt_rtx, onnx):
    """By the real TensorRT for RTX, for a card that need not be there."""
    texts = []
    plan = build_in_child("tensorrt-rtx", onnx, "float32", (8, 9), texts.append)
    assert len(plan) > 0.9 * len(onnx)
    assert texts[0] == "being built"


def test_a_child_ends_with_its_parent(fake_tensorrt, onnx, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_TENSORRT_FAULT", "hang")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    (tmp_path / "model.onnx").write_bytes(onnx)
    module = "deepblur_live.runtime.engine_build"
    command = [sys.executable, "-m", module, tmp_path, "tensorrt", "float32", "9", "0"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as child:
        # The system closes it when the parent is killed.
        child.stdin.close()
        assert child.wait(60) == 3


def test_the_builders_error_is_raised_here(fake_tensorrt, onnx, monkeypatch):
    monkeypatch.setenv("FAKE_TENSORRT_FAULT", "build")
    with pytest.raises(EngineError, match=r"no engine could be built; no kernel for"):
        build(onnx)


def test_a_crash_is_reported_with_its_exit_code(fake_tensorrt, onnx, monkeypatch):
    monkeypatch.setenv("FAKE_TENSORRT_FAULT", "crash")
    with pytest.raises(EngineError, match=r"built the engine ended \(exit code -?\d+"):
        build(onnx)


def test_a_build_that_hangs_is_ended(fake_tensorrt, onnx, monkeypatch):
    monkeypatch.setenv("FAKE_TENSORRT_FAULT", "hang")
    with pytest.raises(EngineError, match="not ready after 1 s"):
        build(onnx, timeout=1.0)


def test_what_progress_raises_ends_the_build(fake_tensorrt, onnx, monkeypatch):
    monkeypatch.setenv("FAKE_TENSORRT_FAULT", "hang")

    def stop(text):
        raise EngineError("stopped")

    with pytest.raises(EngineError, match="stopped"):
        build(onnx, stop)
