"""What builds and opens engines may crash or hang: it does so elsewhere."""

import dataclasses
import os
import subprocess
import sys

import pytest
import torch

from deepblur_live.deblurring import ProximalNet
from deepblur_live.runtime.engine_child import Job, run_job
from deepblur_live.runtime.export import export_proximal
from deepblur_live.runtime.tensorrt import BuilderOptions, EngineError

TIMEOUT_S = 120.0


@pytest.fixture
def onnx(tmp_path):
    pytest.importorskip("onnx", reason="engines are built from ONNX")
    torch.manual_seed(0)
    path = tmp_path / "model.onnx"
    path.write_bytes(export_proximal(ProximalNet(8, depth=3), (32, 48), "float32"))
    return path


def test_a_job_crosses_to_the_child_whole(tmp_path, card):
    job = Job(
        "tensorrt", tmp_path / "a b.plan", card, None, "bfloat16", BuilderOptions(5, 64)
    )
    assert Job.from_json(job.to_json()) == job
    built = dataclasses.replace(job, card=None, onnx=tmp_path / "γ.onnx")
    assert Job.from_json(built.to_json()) == built


def test_plans_that_are_none_are_refused_and_this_process_lives(
    tensorrt_rtx, onnx, tmp_path, card
):
    """TensorRT for RTX opens them in the child, and says what is wrong with them.

    Of a flipped bit it does not: the cache's sha256 tells, which is asked before.
    """
    plan = tmp_path / "engine.plan"
    told = []
    run_job(Job("tensorrt-rtx", plan, None, onnx, "float32"), TIMEOUT_S, told.append)
    assert told
    whole = plan.read_bytes()
    harmed = {
        "blobSize failed": whole[: len(whole) // 2],
        "an empty memory buffer": b"",
        "kEXPECTED_MAGIC_TAG failed": b"foreign " * 1000,
    }
    for said, content in harmed.items():
        plan.write_bytes(content)
        with pytest.raises(EngineError, match=rf"does not open on .*{said}.*pip inst"):
            run_job(Job("tensorrt-rtx", plan, card), TIMEOUT_S)


def test_a_child_ends_with_its_parent(fake_tensorrt, onnx, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_TENSORRT_FAULT", "hang")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    command = [sys.executable, "-m", "deepblur_live.runtime.engine_child"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        child.stdin.write(Job("tensorrt", tmp_path / "p", None, onnx).to_json() + "\n")
        child.stdin.flush()
        assert "starts" in child.stdout.readline()
        # As the system does when the parent is killed.
        child.stdin.close()
        assert child.wait(30) == 3


def test_a_crash_is_told_with_its_exit_code(fake_tensorrt, onnx, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_TENSORRT_FAULT", "crash")
    with pytest.raises(
        EngineError, match=r"building the engine ended its process \(ex"
    ):
        run_job(Job("tensorrt", tmp_path / "p", None, onnx), TIMEOUT_S)


def test_a_build_that_hangs_is_ended(fake_tensorrt, onnx, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_TENSORRT_FAULT", "hang")
    job = Job("tensorrt", tmp_path / "p", None, onnx)
    with pytest.raises(EngineError, match="not ready after 3 s"):
        run_job(job, 3.0)
    with pytest.raises(EngineError, match="stopped before the engine was built"):
        run_job(job, TIMEOUT_S, stopped=lambda: True)


def test_an_engine_whose_answer_is_not_finite_is_refused(
    fake_tensorrt, onnx, tmp_path, card, monkeypatch
):
    monkeypatch.setenv("FAKE_TENSORRT_FAULT", "nan")
    with pytest.raises(EngineError, match="'sharp' came out not finite"):
        run_job(Job("tensorrt", tmp_path / "p", card, onnx), TIMEOUT_S)
