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
