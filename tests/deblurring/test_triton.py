"""The proximal network's Triton kernels give torch's numbers.

Without a card the kernels run in Triton's interpreter, which takes 20 ms for each row
of a strip: images are small. It does not compute products in bfloat16.
"""

import pytest
import torch

from deepblur_live.deblurring import FoldedFista, UnrolledFista

pytest.importorskip("triton", reason="Triton has no wheel for this system")

from deepblur_live.deblurring import triton_fista
from deepblur_live.deblurring.triton_fista import Launch, TritonFista

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(autouse=True)
def small_strips(monkeypatch):
    """Several programs along both sides of a small image."""
    monkeypatch.setattr(triton_fista, "_strip", lambda *_: 3)


def network(**sizes):
    """A network in which every parameter affects the result."""
    torch.manual_seed(1)
    net = UnrolledFista(2, shrink=2, **sizes).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return net.to(DEVICE)


def change(fista, z, sigma, iteration):
    """What the proximal network adds to an image: its bulk would hide errors."""
    fista.prepare(z, sigma)
    return (fista.proximal(z, iteration) - z).cpu()


@pytest.mark.parametrize(
    ("sizes", "shape", "dtype", "limit"),
    [
        # The live weights' form; an odd number of rows and columns of positions.
        (
            {"channels": 16, "depth": 4, "noise_map": True},
            (1, 10, 38),
            torch.float32,
            1e-5,
        ),
        # The quality weights'; a batch; fewer positions than a strip has columns.
        ({"channels": 32, "depth": 3}, (2, 8, 10), torch.float16, 2e-3),
    ],
)
def test_the_kernels_give_the_numbers_of_torch(sizes, shape, dtype, limit):
    if DEVICE.type == "cuda":
        # A card rounds float32 to TF32 in products.
        dtype, limit = torch.float16, 2e-3
    net = network(**sizes)
    z = torch.rand(shape, device=DEVICE)
    sigma = torch.tensor([0.02], device=DEVICE)
    if net.noise_map:
        sigma = 0.01 + 0.05 * torch.rand(shape, device=DEVICE)
    expected = change(FoldedFista(net), z, sigma, 1)
    got = change(TritonFista(net, dtype, Launch(16, 1)), z, sigma, 1)
    # Every pixel, those at the border too.
    assert (got - expected).abs().max() < limit * expected.abs().max()
    assert expected.abs().min() < expected.abs().max()
    # It depends on every pixel's surroundings, so borders must be right.
    assert expected.std() > 0.05


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ({"channels": 24}, "24 channels: must be a power of two of at least 16"),
        ({"channels": 8}, "8 channels"),
        ({"channels": 16, "shrink": 4}, "it folds 4 × 4 pixels, not 2 × 2"),
    ],
)
def test_other_networks_are_refused(sizes, reason):
    with pytest.raises(ValueError, match=reason):
        TritonFista(UnrolledFista(2, **sizes))


def test_strips_occupy_the_whole_card_in_few_rounds(monkeypatch):
    monkeypatch.undo()
    strip = triton_fista._strip
    # 2048² extended: 1050 rows, 17 strips of 64 columns side by side. 31 of 34 rows
    # above one another fill an H200 once: 132 multiprocessors of four programs.
    assert strip(1050, 17, 528) == 34
    # 512² extended: 90 · 5 strips of three rows, all at once.
    assert strip(270, 5, 528) == 3
    # A single program at a time: as few repeated rows as may be.
    assert strip(270, 1, 1) in range(54, 65)
