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
from deepblur_live.runtime import order, triton_executor
from deepblur_live.runtime.best import BestExecutor
from deepblur_live.runtime.device import Choice
from deepblur_live.runtime.executor import TorchExecutor
from deepblur_live.runtime.parity import trial_frame
from deepblur_live.runtime.tensorrt import EngineError
from deepblur_live.runtime.triton_executor import TritonExecutor, why_no_triton

CPU = torch.device("cpu")
TRITON = "Triton kernels in a CUDA graph"
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
    monkeypatch.setitem(sys.modules, "triton", SimpleNamespace(__spec__=object()))


def settled(best):
    """Send frames until the preparations have ended; return the last result."""
    waited = None
    for _ in range(10):
        result = best.deblur(trial_frame(SHAPE), *INPUTS)
        if best._preparation in (waited, None):
            return result
        waited = best._preparation
        waited.join(60)
    raise AssertionError("preparations do not end")


@pytest.fixture
def on_card(card, monkeypatch):
    """A machine with a card."""
    chosen = Choice(torch.device("cuda"), card.name)
    for module in (order, triton_executor):
        monkeypatch.setattr(module, "find_card", lambda: card)
    monkeypatch.setattr(order, "choose_device", lambda _: chosen)
    monkeypatch.setattr(
        order, "choose_precision", lambda _: (torch.bfloat16, "the card does")
    )


def test_it_is_usable_with_a_new_enough_card_and_says_why_not(
    card, on_card, triton, monkeypatch
):
    assert why_no_triton() == ""
    old = dataclasses.replace(card, capability=(7, 5))
    with monkeypatch.context() as older:
        older.setattr(triton_executor, "find_card", lambda: old)
        assert "compute capability 7.5; Triton needs 8.0" in why_no_triton()
    monkeypatch.setitem(sys.modules, "triton", None)
    assert "comes with torch for CUDA on Linux" in why_no_triton()
    monkeypatch.setattr(sys, "platform", "win32")
    assert "pip install triton-windows" in why_no_triton()


def test_it_is_ranked_between_the_engines_and_compiled_torch(
    on_card, triton, monkeypatch
):
    attempts = order.executor_order()
    names = [attempt.name for attempt in attempts]
    first = names.index("tensorrt-rtx") + 1
    assert names[first : first + 2] == [TRITON, f"{TRITON}, bfloat16"]
    assert names[first + 2].startswith("compiled torch")
    assert attempts[first].usable
    assert attempts[first].why.startswith("test card")
    # Without an engine it is what the doctor says is tried first.
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "onnx", None)
        texts = [finding.text for finding in probes.executor(Profile())]
    assert any(text.startswith(f"{TRITON}, tried first: test card") for text in texts)
    monkeypatch.setitem(sys.modules, "triton", None)
    texts = [finding.text for finding in probes.executor(Profile())]
    (said,) = (text for text in texts if text.startswith("not used, as Triton does"))
    assert f": {TRITON}; {TRITON}, bfloat16" in said


def test_float16_is_tried_before_bfloat16(pack, on_card, triton):
    made = [
        attempt.make(pack, FAMILY, CPU)
        for attempt in order.executor_order()
        if attempt.name.startswith(TRITON)
    ]
    assert [each.dtype for each in made] == [torch.float16, torch.bfloat16]
    assert all(each.name.endswith("Triton kernels") for each in made)


def executor(pack):
    return BestExecutor(
        TorchExecutor(pack, FAMILY, CPU, half=False),
        [TritonExecutor(pack, FAMILY, CPU)],
    )


def test_frames_are_its_own_once_it_agrees_with_torch(pack, kernels):
    best = executor(pack)
    assert torch.equal(
        best.deblur(trial_frame(SHAPE), *INPUTS),
        best.reference.deblur(trial_frame(SHAPE), *INPUTS),
    )
    settled(best)
    assert isinstance(best.backend, TritonExecutor)
    assert "float16" in best.backend.description
    assert "Triton kernels" in best.backend.description
    # The other network is torch's.
    spectra = torch.randn(1, 2, 64, 32)
    for mine, torchs in zip(
        best.identify(spectra), best.reference.identify(spectra), strict=True
    ):
        assert torch.equal(mine, torchs)
    best.close()


def test_kernels_that_differ_from_torch_are_not_used(pack, kernels):
    class Wrong(FoldedFista):
        def proximal(self, z, iteration):
            return 1.01 * super().proximal(z, iteration)

    kernels(Wrong)
    best = executor(pack)
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
def test_kernels_that_cannot_be_made_are_named(pack, kernels, error, said):
    def fail(*_):
        raise error

    kernels(fail)
    with pytest.raises(EngineError, match=said) as raised:
        TritonExecutor(pack, FAMILY, CPU).admit(SHAPE, print)
    assert str(raised.value).startswith("it could not be compiled: ")
