"""Triton's kernels among the executors: where they are usable, and proven before use.

The kernels are stood in for by torch: `tests/deblurring/test_triton.py` tests them.
"""

import dataclasses
import sys
from types import SimpleNamespace

import pytest
import torch

from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.cli import probes
from deepblur_live.deblurring import FoldedFista
from deepblur_live.optics import NoiseModel
from deepblur_live.profile import Profile
from deepblur_live.runtime import best as best_module
from deepblur_live.runtime import order
from deepblur_live.runtime.best import BestExecutor, build_executor
from deepblur_live.runtime.device import Choice
from deepblur_live.runtime.executor import TorchExecutor
from deepblur_live.runtime.graph_executor import EngineExecutor
from deepblur_live.runtime.parity import trial_frame
from deepblur_live.runtime.tensorrt import EngineError
from deepblur_live.runtime.triton_source import (
    TRITON,
    TritonSource,
    require_triton,
    triton_sources,
)

FAMILY, SHAPE = ZernikeFamily(), (64, 70)
STILL = torch.zeros(FAMILY.n_coefficients)
INPUTS = STILL, torch.zeros(len(STILL), len(STILL)), NoiseModel.white(0.01)
KERNELS = "deepblur_live.deblurring.triton_fista"


@pytest.fixture
def kernels(monkeypatch):
    """Make a class the kernels' iterations."""

    def use(iterations):
        stand_in = SimpleNamespace(TritonFista=iterations)
        monkeypatch.setitem(sys.modules, KERNELS, stand_in)

    use(FoldedFista)
    return use


@pytest.fixture
def triton(monkeypatch):
    """A Triton that is installed."""
    monkeypatch.setitem(sys.modules, "triton", SimpleNamespace(__version__="3.7.1"))


def settled(best):
    """Send frames until the preparations have ended; return the last result."""
    waited = None
    for _ in range(10):
        result = best.deblur(trial_frame(SHAPE), *INPUTS)
        if best._preparation is waited:
            return result
        waited = best._preparation
        waited.join(60)
    raise AssertionError("preparations do not end")


def test_it_is_usable_with_a_new_enough_card_and_says_why_not(
    card, triton, monkeypatch
):
    assert require_triton(card) == "Triton 3.7.1"
    old = dataclasses.replace(card, capability=(7, 5))
    with pytest.raises(
        EngineError, match=r"compute capability 7\.5; Triton needs 8\.0"
    ):
        require_triton(old)
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(EngineError, match="comes with torch for CUDA on Linux"):
        require_triton(card)
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(EngineError, match="pip install triton-windows"):
        require_triton(card)


@pytest.fixture
def on_card(card, monkeypatch):
    """The order of executors on a machine with a card."""
    chosen = Choice(torch.device("cuda"), card.name)
    monkeypatch.setattr(order, "find_card", lambda: card)
    monkeypatch.setattr(order, "choose_device", lambda _: chosen)
    monkeypatch.setattr(
        order, "choose_precision", lambda _: (torch.bfloat16, "the card does")
    )


def test_it_stands_between_the_engines_and_torch(on_card, triton, monkeypatch):
    names = [attempt.name for attempt in order.executor_order()]
    assert names.index(TRITON) == names.index("tensorrt-rtx") + 1
    assert names.index(TRITON) == names.index("torch in a CUDA graph") - 1
    (found,) = (a for a in order.executor_order() if a.name == TRITON)
    assert found.usable
    assert found.why.startswith("Triton 3.7.1 on test card")
    # Without an engine it is what the doctor says is tried first.
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "onnx", None)
        texts = [finding.text for finding in probes.executor(Profile())]
    assert any(text.startswith(f"{TRITON}, tried first: Triton") for text in texts)
    monkeypatch.setitem(sys.modules, "triton", None)
    texts = [finding.text for finding in probes.executor(Profile())]
    assert any(text.startswith(f"{TRITON}, not used: Triton does") for text in texts)


def test_float16_is_tried_before_bfloat16(pack, card, monkeypatch):
    attempt = order.Attempt(TRITON, True, "fake", card=card)
    monkeypatch.setattr(best_module, "executor_order", lambda _: [attempt])
    names = [engines.name for engines in build_executor(pack, FAMILY, "cpu")._engines]
    assert names == [
        f"Triton kernels in {precision} on test card"
        for precision in ("float16", "bfloat16")
    ]


def executor(pack, card, count=1):
    cpu = torch.device("cpu")
    sources = triton_sources(pack, card)[:count]
    return BestExecutor(
        TorchExecutor(pack, FAMILY, cpu, half=False),
        [EngineExecutor(pack, FAMILY, source) for source in sources],
    )


def test_frames_are_its_own_once_it_agrees_with_torch(pack, card, kernels):
    best = executor(pack, card)
    assert torch.equal(
        best.deblur(trial_frame(SHAPE), *INPUTS),
        best.reference.deblur(trial_frame(SHAPE), *INPUTS),
    )
    settled(best)
    assert best.backend.description.startswith("Triton kernels in float16 on test card")
    # The other network is torch's.
    spectra = torch.randn(1, 2, 64, 32)
    for mine, torchs in zip(
        best.identify(spectra), best.reference.identify(spectra), strict=True
    ):
        assert torch.equal(mine, torchs)
    best.close()


def test_kernels_that_differ_from_torch_are_not_used(pack, card, kernels):
    class Wrong(FoldedFista):
        def proximal(self, z, iteration):
            return 1.01 * super().proximal(z, iteration)

    kernels(Wrong)
    best = executor(pack, card)
    settled(best)
    assert best.backend is best.reference
    assert any("differs from torch" in note for note in best.take_notes())
    best.close()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("Failed to find C compiler."), "Failed to find C compiler."),
        (ValueError("24 channels: must be a power of two"), "24 channels"),
        (torch.OutOfMemoryError("CUDA out of memory"), "CUDA out of memory"),
    ],
)
def test_kernels_that_cannot_be_made_are_named(pack, card, kernels, error, said):
    def fail(*_):
        raise error

    kernels(fail)
    with pytest.raises(EngineError, match=said) as raised:
        TritonSource(pack, card, torch.float16).fista((96, 96), print)
    assert str(raised.value).startswith("Triton kernels in float16 on test card: ")
