"""Noise that varies over the image, and a centred frame."""

import pytest
import torch

from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.deblurring import FoldedFista, UnrolledFista
from deepblur_live.deblurring.noise import noise_contrast, noise_level
from deepblur_live.optics import NoiseModel

FAMILY = ZernikeFamily(pupil_samples=63)
SIDE = 64


def scene(seed=0, side=SIDE):
    generator = torch.Generator().manual_seed(seed)
    fine = torch.rand(2, side + 2, side + 2, generator=generator)
    return torch.nn.functional.avg_pool2d(fine, 3, 1)


def blur(n):
    gamma = FAMILY.sample(n, torch.Generator().manual_seed(1))
    return FAMILY.operator(gamma, (SIDE, SIDE))


@pytest.fixture(autouse=True)
def same_weights():
    torch.manual_seed(0)


def model(slope, intercept, least=0.0):
    return NoiseModel(*(torch.tensor([value]) for value in (slope, intercept, least)))


def test_the_map_is_the_root_of_the_line_and_never_below_rounding():
    light = torch.linspace(0, 2, 50).expand(1, 40, 50)
    variance = model(0.01, 1e-4, 4e-3).map(light).square()
    expected = (0.01 * light + 1e-4).clamp(min=4e-3)
    # A ramp is its own local mean, but for the columns next to the border.
    inner = slice(3, -3)
    torch.testing.assert_close(variance[..., inner], expected[..., inner])
    white = model(0.0, 0.03**2).map(torch.rand(1, 20, 30))
    torch.testing.assert_close(white, torch.full((1, 20, 30), 0.03))


def test_a_camera_has_the_noise_of_its_map():
    generator = torch.Generator().manual_seed(0)
    peak, read, low, span = 200.0, 2.0, 0.05, 0.6
    clean = torch.tensor([0.1, 0.9])[:, None, None].expand(2, 200, 200)
    shot = torch.poisson(clean * peak, generator=generator)
    noise = read * torch.randn(clean.shape, generator=generator)
    frames = ((shot + noise) / peak - low) / span
    noise_model = model(1 / peak, (read / peak) ** 2)
    scaled = noise_model.scaled(torch.tensor([low]), torch.tensor([span]))
    found = scaled.map(frames).mean((1, 2))
    torch.testing.assert_close(found, frames.std((1, 2)), rtol=0.02, atol=0)


def test_the_level_is_the_noise_where_the_detail_is():
    y = scene()
    y[..., : SIDE // 2] = 0.2
    sigma = torch.where(torch.arange(SIDE) < SIDE // 2, 0.01, 0.04).expand(
        2, SIDE, SIDE
    )
    level = noise_level(sigma, y)
    assert torch.all((level > 0.034) & (level <= 0.04))
    flat = noise_level(sigma, torch.full_like(y, 0.5))
    torch.testing.assert_close(flat, sigma.square().mean((1, 2)).sqrt())
    contrast = noise_contrast(sigma, level, y, 2)
    assert contrast.shape == (2, 1, SIDE // 2, SIDE // 2)
    torch.testing.assert_close(
        contrast[0, 0, 0, [0, -1]],
        torch.log10(sigma[0, 0, [0, -1]] / level[0]),
    )


def test_white_noise_as_a_map_is_the_same_as_one_number():
    y = scene()
    operator = blur(2)
    network = UnrolledFista(4, 8, exact=1, noise_map=True)
    torch.nn.init.normal_(network.proximal.layers[-1].weight, std=0.02)
    with torch.no_grad():
        one = network(y, operator, torch.full((2,), 0.02))
        each = network(y, operator, torch.full((2, SIDE, SIDE), 0.02))
    torch.testing.assert_close(one, each, rtol=1e-5, atol=1e-5)


def test_with_a_zero_channel_the_map_changes_nothing_but_the_level():
    y = scene()
    operator = blur(2)
    with_map = UnrolledFista(4, 8, exact=1, noise_map=True)
    torch.nn.init.normal_(with_map.proximal.layers[-1].weight, std=0.02)
    first = with_map.proximal.layers[0]
    with torch.no_grad():
        first.weight[:, -1] = 0
    without = UnrolledFista(4, 8, exact=1)
    tensors = dict(with_map.state_dict())
    tensors["proximal.layers.0.weight"] = first.weight[:, :-1].detach()
    without.load_state_dict(tensors)
    sigma = model(0.002, 1e-5).map(y)
    with torch.no_grad():
        expected = without(y, operator, noise_level(sigma, y))
        torch.testing.assert_close(with_map(y, operator, sigma), expected)
        # And the channel is read where its weights are not zero.
        first.weight[:, -1] = 0.5
        assert (with_map(y, operator, sigma) - expected).abs().max() > 1e-4


def test_folded_it_gives_the_same_result():
    y = scene()[:1]
    operator = blur(1)
    network = UnrolledFista(4, 8, exact=1, noise_map=True).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
        network.proximal.layers[0].weight[:, -1] = 1.0
    sigma = model(0.002, 1e-5).map(y)
    with torch.no_grad():
        expected = network(y, operator, sigma)
        white = network(y, operator, noise_level(sigma, y))
    folded = FoldedFista(network)
    level = noise_level(sigma, y)
    for noise, result in ((sigma, expected), (level, white), (sigma, expected)):
        torch.testing.assert_close(
            folded(y, operator, noise), result, rtol=1e-4, atol=1e-4
        )
    # The map must matter, or this shows nothing.
    assert (expected - white).abs().max() > 5e-3
