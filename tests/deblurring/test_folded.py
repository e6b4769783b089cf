"""The folded network gives the numbers of the one that was trained."""

import pytest
import torch
from torch.nn import functional as F

from deepblur_live.blur import Convolution
from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.deblurring import CompiledFista, FoldedFista, UnrolledFista
from deepblur_live.deblurring.folded import _shuffled, _unshuffled
from deepblur_live.optics import extend
from deepblur_live.runtime.pack import load_pack

FAMILY = ZernikeFamily(pupil_samples=63)


@pytest.fixture(scope="module")
def shipped():
    return load_pack("zernike7").deblurring


def trained_like(**sizes):
    """A network in which every parameter has a say."""
    torch.manual_seed(1)
    network = UnrolledFista(**sizes).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return network


def blurred(n=1, height=90, width=110, fold=2):
    generator = torch.Generator().manual_seed(0)
    sharp = F.avg_pool2d(
        torch.rand(n, height + 2, width + 2, generator=generator), 3, 1
    )
    psf = FAMILY.psf(FAMILY.sample(n, generator))
    whole = extend(sharp, psf.shape[-1] - 1, fold)
    operator = Convolution(psf, (whole.shape[-2], whole.shape[-1]))
    return operator.forward(whole), operator


def relative(a, b):
    return float((a - b).norm() / b.norm())


def reference(network, y, operator, sigma):
    with torch.no_grad():
        return network(y, operator, torch.full((len(y),), sigma))


@pytest.mark.parametrize("sigma", [1e-5, 0.004, 0.03, 0.1])
def test_the_shipped_network_folded_gives_the_same_result(shipped, sigma):
    y, operator = blurred()
    expected = reference(shipped, y, operator, sigma)
    # It must do something, or this shows nothing.
    assert relative(expected, y) > 0.02
    exact = FoldedFista(shipped)(y, operator, torch.tensor([sigma]))
    assert relative(exact, expected) < 1e-5
    half = FoldedFista(shipped, torch.bfloat16)(y, operator, torch.tensor([sigma]))
    # At the highest noise of the training the network changes most of the image.
    assert relative(half, expected) < (5e-3 if sigma < 0.1 else 1e-2)


def test_without_onednn_the_rectifier_is_a_separate_step(shipped, monkeypatch):
    y, operator = blurred(height=64, width=64)
    expected = FoldedFista(shipped)(y, operator, torch.tensor([0.01]))
    monkeypatch.setattr("torch.backends.mkldnn.is_available", lambda: False)
    assert (
        relative(FoldedFista(shipped)(y, operator, torch.tensor([0.01])), expected)
        < 1e-5
    )


@pytest.mark.parametrize(
    "sizes",
    [
        {"iterations": 2, "channels": 8, "shrink": 1},
        {"iterations": 3, "channels": 16, "shrink": 3, "exact": 2},
        {"iterations": 2, "channels": 8, "shrink": 4},
        {"iterations": 4, "channels": 8, "shrink": 2, "exact": 1, "plain": 2},
    ],
)
def test_any_size_folds_and_batches_share_a_noise_level(sizes):
    network = trained_like(**sizes)
    y, operator = blurred(2, 70, 84, sizes["shrink"])
    expected = reference(network, y, operator, 0.02)
    assert relative(expected, y) > 0.02
    assert (
        relative(FoldedFista(network)(y, operator, torch.tensor([0.02])), expected)
        < 1e-5
    )


@pytest.mark.parametrize("fold", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("vectors", ["AVX2", "AVX512"])
def test_the_last_layer_is_the_same_for_several_places_at_once(
    fold, dtype, vectors, monkeypatch
):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: vectors)
    network = trained_like(iterations=2, channels=8, shrink=fold)
    folded = FoldedFista(network, dtype)
    if folded._together is None:
        pytest.skip("oneDNN does not compute in this dtype here")
    folded.fold(torch.tensor([0.02]))
    generator = torch.Generator().manual_seed(0)
    # The last has an odd number of places along one side: one by one.
    for height, width in ((64, 48), (4 * fold, 8 * fold), (64, 34 + fold % 2)):
        z = torch.rand(2, height, width, generator=generator)
        answer = folded.proximal(z, 1) - z
        together, folded._together = folded._together, None
        expected = folded.proximal(z, 1) - z
        folded._together = together
        # Other orders of summation, no other numbers.
        assert relative(answer, expected) < (1e-5 if dtype == torch.float32 else 2e-2)


@pytest.mark.parametrize(
    ("vectors", "taken"),
    [
        ("AVX2", [(8, 8, 4, 3), (8, 8, 4, 3), (4, 8, 3, 3)]),
        ("AVX512", [(16, 8, 4, 4), (4, 8, 3, 3), (4, 8, 3, 3)]),
    ],
)
def test_several_places_are_taken_where_they_fit(monkeypatch, vectors, taken):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: vectors)
    network = trained_like(iterations=2, channels=8)
    folded = FoldedFista(network)
    shapes = []
    convolve = F.conv2d

    def watched(x, weight, *rest, **options):
        shapes.append(tuple(weight.shape))
        return convolve(x, weight, *rest, **options)

    folded.fold(torch.tensor([0.02]))
    monkeypatch.setattr(F, "conv2d", watched)
    folded.proximal(torch.rand(1, 64, 48), 0)
    folded.proximal(torch.rand(1, 64, 46), 0)
    folded.proximal(torch.rand(1, 62, 46), 0)
    # The layers before may go by another way.
    assert [shape for shape in shapes if shape[2:] != (3, 3) or shape[0] == 4] == taken


def test_another_noise_level_is_folded_in_place():
    network = trained_like(iterations=2, channels=8)
    y, operator = blurred(height=64, width=64)
    folded = FoldedFista(network)
    first = folded(y, operator, torch.tensor([0.01]))
    places = [
        w.data_ptr() for layers in folded._hidden for pair in layers for w in pair
    ]
    second = folded(y, operator, torch.tensor([0.08]))
    assert places == [
        w.data_ptr() for layers in folded._hidden for pair in layers for w in pair
    ]
    assert relative(second, reference(network, y, operator, 0.08)) < 1e-5
    assert relative(second, first) > 1e-4
    assert torch.equal(folded(y, operator, torch.tensor([0.01])), first)


def test_folding_leaves_the_network_and_the_frame_as_they_were(shipped):
    before = {k: v.clone() for k, v in shipped.state_dict().items()}
    y, operator = blurred(height=64, width=64)
    kept, power = y.clone(), operator.power.clone()
    FoldedFista(shipped, torch.bfloat16)(y, operator, torch.tensor([0.01]))
    assert torch.equal(y, kept)
    assert torch.equal(operator.power, power)
    for name, value in shipped.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("fold", [1, 2, 3, 4])
def test_pixels_move_as_torch_moves_them(dtype, fold):
    x = torch.rand(2, 4 * fold, 6 * fold).to(dtype)
    small = _unshuffled(x, fold)
    assert torch.equal(small, F.pixel_unshuffle(x[:, None], fold))
    assert small.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(_shuffled(small, fold, fold), x)
    # As a convolution with another layout may give them, too.
    assert torch.equal(_shuffled(small.contiguous(), fold, fold), x)
    turned = torch.rand(2, 6 * fold, 4 * fold).to(dtype).mT
    assert torch.equal(
        _unshuffled(turned, fold), F.pixel_unshuffle(turned[:, None], fold)
    )


def test_the_compiled_network_is_the_same_and_compiled_once(shipped):
    """Traced as one program for all iterations; kernels are left to torch's own."""
    y, operator = blurred()
    expected = reference(shipped, y, operator, 0.01)
    torch.compiler.reset()
    counted = torch._dynamo.utils.counters
    counted.clear()
    compiled = CompiledFista(shipped, backend="aot_eager")
    assert relative(compiled(y, operator, torch.tensor([0.01])), expected) < 1e-5
    # Another noise, other weights: the same program.
    again = compiled(y, operator, torch.tensor([0.05]))
    assert relative(again, reference(shipped, y, operator, 0.05)) < 1e-5
    assert counted["stats"]["unique_graphs"] == 1
    torch.compiler.reset()
