"""The ResNet18: its size, its input's invariances, its output's algebra."""

import pytest
import torch
from specimens import FAMILY, blurred, cells, other_sign, rotated

from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.identification import (
    INPUT_SHAPE,
    IdentificationNet,
    network_input,
    outer_products,
    signal_bins,
    welch,
)
from deepblur_live.identification.network import sign_blocks

BLOCKS = sign_blocks(FAMILY)


def spectrum_input(family=FAMILY, frame=None):
    power, averages = welch(cells()[None] if frame is None else frame[None])
    return network_input(
        signal_bins(power, averages, 1.0, family.cutoff, 1e-5), family.cutoff
    )


def test_it_is_a_resnet18():
    network = IdentificationNet(FAMILY)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(
        11.2e6, rel=0.01
    )
    output = network.eval()(torch.rand(2, 2, *INPUT_SHAPE))
    assert output.shape == (2, 6 + 10 + 7)


def test_outer_products_do_not_depend_on_the_ambiguous_signs():
    gamma = FAMILY.sample(5, torch.Generator().manual_seed(0)).double().numpy()
    reference = outer_products(torch.tensor(gamma), BLOCKS)
    changed = torch.tensor(other_sign(gamma))
    torch.testing.assert_close(outer_products(changed, BLOCKS), reference)
    turned = torch.tensor(rotated(gamma))
    torch.testing.assert_close(outer_products(turned, BLOCKS), reference)
    other = outer_products(torch.tensor(gamma) * 1.1, BLOCKS)
    assert (other - reference).abs().max() > 1e-3


def test_decoding_inverts_encoding_up_to_the_ambiguous_signs():
    network = IdentificationNet(FAMILY)
    gamma = FAMILY.sample(5, torch.Generator().manual_seed(1))
    encoded = outer_products(gamma / network.scale, BLOCKS)
    decoded, sigma = network.decode(torch.cat([encoded, torch.zeros(5, 7)], 1))
    torch.testing.assert_close(
        FAMILY.psf(decoded).amax((1, 2)), FAMILY.psf(gamma).amax((1, 2))
    )
    torch.testing.assert_close(decoded.abs(), gamma.abs(), atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(sigma, network.scale.expand(5, 7))


def test_loss_is_lowest_at_the_truth_and_at_its_other_sign():
    network = IdentificationNet(FAMILY)
    gamma = FAMILY.sample(4, torch.Generator().manual_seed(2))
    encoded = outer_products(gamma / network.scale, BLOCKS)
    output = torch.cat([encoded, torch.full((4, 7), -2.0)], 1)
    right = network.loss(output, gamma)
    changed = torch.tensor(other_sign(gamma.double().numpy())).float()
    torch.testing.assert_close(network.loss(output, changed), right)
    assert network.loss(output + 0.2, gamma) > right + 0.02


def test_input_does_not_depend_on_exposure_or_position():
    frame = blurred(cells(), [0.1] * 7, 0.0)
    reference = spectrum_input(frame=frame)
    assert reference.shape == (1, 2, *INPUT_SHAPE)
    power, averages = welch(3 * frame[None])
    brighter = network_input(
        signal_bins(power, averages, 1.0, FAMILY.cutoff, 9e-5), FAMILY.cutoff
    )
    torch.testing.assert_close(brighter, reference, atol=2e-3, rtol=1e-3)
    # Shifted by half a window, nearly all windows are the same.
    large = blurred(cells(size=320), [0.1] * 7, 0.0)
    here = spectrum_input(frame=large[:256, :256])
    there = spectrum_input(frame=large[32:288, :256])
    pair = torch.stack([there[0, 0].flatten(), here[0, 0].flatten()])
    assert torch.corrcoef(pair)[0, 1] > 0.8


def test_the_same_blur_has_the_same_input_at_another_sampling():
    """Frequencies are relative to the cut-off: the minima do not move."""
    from deepblur_live.identification.network import _grid

    coarse, fine = FAMILY, ZernikeFamily(pixel_size_nm=80)
    gamma = FAMILY.sample(1, torch.Generator().manual_seed(4))
    maps = []
    for family in (coarse, fine):
        otf = torch.fft.rfft2(family.psf(gamma)[0], s=(64, 64)).abs() ** 2
        log = torch.fft.fftshift(torch.log(otf + 1e-4), dim=0)[None, None]
        grid, inside = _grid(family.cutoff, log.device)
        sampled = torch.nn.functional.grid_sample(log, grid[None], align_corners=True)
        maps.append((sampled[0, 0] * inside)[12:52, 1:20].flatten())
    correlation = torch.corrcoef(torch.stack(maps))[0, 1]
    assert correlation > 0.97


def test_a_family_without_sign_ambiguities_is_refused():
    class Plain:
        symmetries = ()

    with pytest.raises(ValueError, match="one block whose common sign is ambiguous"):
        sign_blocks(Plain())
