"""What a training takes over of a network that has more."""

import importlib
from pathlib import Path

import pytest
import torch

from deepblur_live.deblurring import build_deblurring

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def smaller(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("train_deblurring").smaller


def weights(**sizes):
    return dict(build_deblurring(sizes).state_dict())


def test_layers_in_the_middle_and_the_last_steps_are_left_out(smaller):
    sizes = {"iterations": 6, "channels": 8, "depth": 5}
    tensors = weights(**sizes)
    fewer = {**sizes, "depth": 3, "exact": 2}
    kept = smaller(tensors, fewer)
    build_deblurring(fewer).load_state_dict(kept)
    for name in ("log_step", "momentum"):
        assert torch.equal(kept[name], tensors[name][:4])
    for new, old in ((0, 0), (1, 3)):
        name = "proximal.layers.{}.weight"
        assert torch.equal(kept[name.format(new)], tensors[name.format(old)])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"depth": 9}, "--depth 9: --start has 5 layers"),
        ({"iterations": 8}, "--start has 6 gradient steps, 8 are requested"),
    ],
)
def test_what_the_start_lacks_is_reported(smaller, more, said):
    sizes = {"iterations": 6, "channels": 8, "depth": 5}
    asked = {**sizes, "exact": 0, **more}
    with pytest.raises(SystemExit, match=said):
        smaller(weights(**sizes), asked)


def test_the_channels_that_count_stay_and_a_noise_map_starts_at_zero(smaller):
    sizes = {"iterations": 6, "channels": 8, "depth": 4}
    network = build_deblurring(sizes)
    tensors = dict(network.state_dict())
    first, second = (f"proximal.layers.{i}.weight" for i in (0, 1))
    torch.nn.init.normal_(tensors["proximal.layers.3.weight"])
    # Channels 1 and 6 of the first layer are not read by the second.
    tensors[second][:, [1, 6]] = 0
    fewer = {**sizes, "exact": 0, "channels": 6, "noise_map": 1}
    kept = smaller(tensors, fewer)
    narrow = build_deblurring(fewer)
    narrow.load_state_dict(kept)
    others = [0, 2, 3, 4, 5, 7]
    assert torch.equal(kept[first][:, :4], tensors[first][others])
    assert torch.count_nonzero(kept[first][:, 4]) == 0
    condition = torch.tensor([[0.5, -2.0]])
    for found, full in zip(
        narrow.proximal.modulation(condition)[0],
        network.proximal.modulation(condition)[0],
        strict=True,
    ):
        torch.testing.assert_close(found, full[:, others])
