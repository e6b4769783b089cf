"""What the deblurring network learns from is what it claims to be."""

import importlib
from pathlib import Path

import pytest
import torch

from deepblur_live.blur.zernike import ZernikeFamily

TOOLS = Path(__file__).parents[2] / "tools"
FAMILY = ZernikeFamily(pupil_samples=63, noll=(4, 5, 6, 7, 8, 9, 10, 11))
SIDE = 62


class Pictures:
    """Random textures in place of crops of pictures."""

    size, device = SIDE + FAMILY.window - 1, torch.device("cpu")

    def draw(self, n, generator):
        fine = torch.rand(n, self.size + 4, self.size + 4, generator=generator)
        return torch.nn.functional.avg_pool2d(fine, 5, 1)


@pytest.fixture
def scenes(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("training.scenes")


def test_a_cameras_noise_is_what_its_model_says(scenes):
    clean = torch.tensor([0.05, 0.3, 1.0]).repeat(8)[:, None, None]
    # The slope makes the rounding of noise-free light uniform.
    clean = clean - torch.linspace(0, 0.04, 100)
    clean = clean.expand(-1, 100, 100)
    noisy, noise = scenes._exposed(clean, 0.1, torch.Generator().manual_seed(0))
    stated = noise.map(clean).mean((1, 2))
    torch.testing.assert_close((noisy - clean).std((1, 2)), stated, rtol=0.05, atol=0)
    # Both white noise and shot noise were drawn.
    assert 0 < (noise.slope == 0).sum() < len(clean)


def test_the_truth_explains_the_frame_to_within_its_noise(scenes):
    generator = torch.Generator().manual_seed(1)
    example = scenes.draw_examples(Pictures(), FAMILY, 8, 2, 0.1, generator)
    assert example.noisy.shape == example.truth.shape == (8, SIDE, SIDE)
    part = scenes.frame_part(tuple(example.extended.shape[-2:]), (SIDE, SIDE))
    assert torch.equal(example.extended[..., part[0], part[1]], example.noisy)
    # Stray light is in the truth and in the frame, and both have the same scale.
    low, high = (torch.quantile(example.noisy, q) for q in (0.01, 0.99))
    assert -0.5 < low < high < 1.5
    bias = (example.noisy - example.truth).mean((1, 2)).abs()
    assert bias.max() < 0.06
    # What the network is told of the noise is off by the gain's error at most.
    told = example.sigma_extended[..., part[0], part[1]] / example.sigma
    assert 0.9 < told.min() < told.max() < 1.08


def test_the_loss_is_zero_for_the_truth_alone(scenes):
    generator = torch.Generator().manual_seed(2)
    example = scenes.draw_examples(Pictures(), FAMILY, 2, 2, 0.1, generator)
    result = example.extended.clone()
    part = scenes.frame_part(tuple(result.shape[-2:]), (SIDE, SIDE))
    assert scenes.example_loss(result, example) > 0
    result[..., part[0], part[1]] = example.truth
    assert scenes.example_loss(result, example) == 0
