"""The quality preset: its data step, what it is before training, that it can learn."""

import pytest
import torch

from deepblur_live.deblurring import (
    DRUNet,
    UnrolledDouglasRachford,
    UnrolledFista,
    build_deblurring,
)
from deepblur_live.optics import ZernikeFamily

FAMILY = ZernikeFamily(pupil_samples=63)


class Opaque:
    """An operator that tells nothing but its forward and its adjoint."""

    def __init__(self, operator):
        self.forward, self.adjoint = operator.forward, operator.adjoint


def scene(n=2, side=64):
    generator = torch.Generator().manual_seed(0)
    sharp = torch.nn.functional.avg_pool2d(
        torch.rand(n, side + 2, side + 2, generator=generator), 3, 1
    )
    operator = FAMILY.operator(FAMILY.sample(n, generator), (side, side))
    return sharp, operator, operator.forward(sharp)


def test_untrained_it_solves_the_data_step_again_and_again():
    """x ← (AᵀA + λ)⁻¹(Aᵀy + λx), here by a dense solve in float64."""
    gamma = FAMILY.sample(1, torch.Generator().manual_seed(1)).double()
    operator = FAMILY.operator(gamma, (32, 32))
    y = torch.rand(1, 32, 32, dtype=torch.float64)
    unit = torch.eye(1024, dtype=torch.float64).reshape(1024, 32, 32)
    matrix = operator.forward(unit).reshape(1024, 1024).T
    weight = 0.03
    normal = matrix.T @ matrix + weight * torch.eye(1024)
    right = matrix.T @ y.reshape(-1)
    x = z = y.reshape(-1)
    for _ in range(4):
        z, x = x, torch.linalg.solve(normal, right + weight * x)
    # The last step, which pulls the result to what explains the frame: the more, the
    # more of an error a first try has found there.
    guess, usual = 2 * x - z, (0.01 / 0.018) ** 2
    square = matrix.T @ matrix
    step = torch.linalg.inv(square + usual * torch.eye(1024))
    found = (step @ (right - square @ guess)).square().mean()
    share = found / (0.018**2 * torch.trace(step @ square) / 1024)
    end = usual / share.clamp(0.25, 1 / usual)
    finished = torch.linalg.solve(square + end * torch.eye(1024), right + end * guess)
    network = UnrolledDouglasRachford(blocks=1).double()
    with torch.no_grad():
        result = network(y, operator, torch.tensor([0.01], dtype=torch.float64))
    torch.testing.assert_close(result.reshape(-1), finished, atol=1e-4, rtol=1e-4)


def test_conjugate_gradient_agrees_with_the_closed_form():
    sharp, operator, y = scene()
    network = UnrolledDouglasRachford(blocks=1)
    sigma = torch.tensor([0.01, 0.05])
    with torch.no_grad():
        closed = network(y, operator, sigma)
        solved = network(y, Opaque(operator), sigma)
    # So few steps stop short of what the blur has removed altogether.
    assert (solved - closed).norm() < 0.05 * (closed - y).norm()
    assert (closed - sharp).norm() < 0.7 * (y - sharp).norm()


def test_an_exact_image_is_not_divided_by_zero():
    _, operator, _ = scene(1)
    y = torch.full((1, 64, 64), 0.5)
    with torch.no_grad():
        result = UnrolledDouglasRachford(blocks=1)(
            y, Opaque(operator), torch.tensor([0.01])
        )
    torch.testing.assert_close(result, y, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", [UnrolledFista, UnrolledDouglasRachford])
def test_a_proximal_network_may_change_the_light_and_the_result_has_it_all(kind):
    torch.manual_seed(0)
    _, operator, y = scene()
    network = kind(iterations=2)
    last = (
        network.proximal.tail.weight
        if kind is UnrolledDouglasRachford
        else network.proximal.layers[-1].bias
    )
    with torch.no_grad():
        last.normal_(0, 0.3)
        result = network(y, operator, torch.full((2,), 0.01))
    assert (result - y).abs().max() > 0.1
    torch.testing.assert_close(result.mean((1, 2)), y.mean((1, 2)), rtol=1e-5, atol=0)


def test_drunet_starts_as_the_identity_hears_its_condition_and_fits_in_17_mb():
    torch.manual_seed(0)
    network = DRUNet()
    x = torch.rand(1, 1, 24, 40)
    low, high = torch.tensor([[0.0, -3.0]]), torch.tensor([[0.75, -1.0]])
    with torch.no_grad():
        assert torch.equal(network(x, low), x)
        network.tail.weight.normal_(0, 0.1)
        assert (network(x, low) - network(x, high)).abs().max() > 1e-3
    assert 2 * sum(p.numel() for p in network.parameters()) < 17e6


def test_every_parameter_learns_and_the_error_falls():
    torch.manual_seed(0)
    sharp, operator, y = scene(side=32)
    noisy = y + 0.1 * torch.randn(y.shape)
    network = UnrolledDouglasRachford(iterations=2, blocks=1)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    errors = []
    for _ in range(12):
        result = network(noisy, operator, torch.full((2,), 0.1))
        error = (result - sharp).square().mean()
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
        errors.append(error.item())
    assert errors[-1] < 0.8 * errors[0]
    for name, parameter in network.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_networks_are_built_by_their_kind():
    assert isinstance(build_deblurring({"iterations": 2}), UnrolledFista)
    built = build_deblurring({"kind": "douglas-rachford", "blocks": 1})
    assert isinstance(built, UnrolledDouglasRachford)
    with pytest.raises(ValueError, match="'fista', 'douglas-rachford'"):
        build_deblurring({"kind": "admm"})
    with pytest.raises(ValueError, match="blocks"):
        build_deblurring({"kind": "fista", "blocks": 1})
    with pytest.raises(ValueError, match="2 exact data steps in 2 iterations"):
        build_deblurring({"iterations": 2, "exact": 2})
