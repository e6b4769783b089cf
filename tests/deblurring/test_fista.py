"""The unrolled network: what it is before training, and that it can learn."""

import pytest
import torch

from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.deblurring import ProximalNet, UnrolledFista, build_deblurring
from deepblur_live.deblurring.data_step import (
    NETWORK_ERROR,
    data_weight,
    finish,
    without_grid,
)

FAMILY = ZernikeFamily(pupil_samples=63)


def scene(n=2, side=64):
    generator = torch.Generator().manual_seed(0)
    sharp = torch.nn.functional.avg_pool2d(
        torch.rand(n, side + 2, side + 2, generator=generator), 3, 1
    )
    gamma = FAMILY.sample(n, generator)
    operator = FAMILY.operator(gamma, (side, side))
    return sharp, operator, operator.forward(sharp)


def test_untrained_it_is_plain_accelerated_gradient_descent():
    sharp, operator, y = scene()
    network = UnrolledFista(iterations=15)
    with torch.no_grad():
        result = network(y, operator, torch.full((2,), 0.01))
    # FISTA by hand, with the operator's own adjoint and the textbook momenta.
    x = z = y
    t = 1.0
    for _ in range(15):
        new = z - operator.adjoint(operator.forward(z) - y)
        following = (1 + (1 + 4 * t * t) ** 0.5) / 2
        z = new + (t - 1) / following * (new - x)
        x, t = new, following
    # And the last step, solved in Fourier space, with λ from a first estimate.
    x = without_grid(x, 2)
    weight, rest = (0.01 / 0.018) ** 2, y - operator.forward(x)
    found = operator.wiener(rest, weight).square().mean((1, 2), keepdim=True)
    whole = torch.fft.fft2(operator.forward(torch.eye(64 * 64)[:1].view(1, 64, 64)))
    power = whole.abs() ** 2
    gain = (power / (power + weight)).mean((1, 2), keepdim=True)
    share = (found / (0.018**2 * gain)).clamp(0.25, 1 / weight)
    x = x + operator.wiener(rest, weight / share)
    torch.testing.assert_close(result, x, atol=1e-4, rtol=1e-4)
    assert (result - sharp).norm() < 0.7 * (y - sharp).norm()


def test_the_first_iterations_may_do_without_the_proximal_network():
    _, operator, y = scene()
    sigma = torch.full((2,), 0.01)
    network, without = (UnrolledFista(6, 8, exact=1, plain=k) for k in (5, 0))
    torch.nn.init.ones_(network.proximal.layers[-1].bias)
    asked = []
    network.proximal.register_forward_hook(lambda _, given, __: asked.append(given[1]))
    with torch.no_grad():
        result = network(y, operator, sigma)
        assert not torch.allclose(result, without(y, operator, sigma), atol=1e-3)
    # The proximal step of the data alone is left for the network.
    [condition] = asked
    assert torch.equal(condition, network.conditions(sigma)[5])


def test_the_last_iterations_take_proximal_data_steps(monkeypatch):
    monkeypatch.setattr("deepblur_live.deblurring.data_step._FAINT", 1e-9)
    sharp, operator, y = scene()
    sigma = torch.full((2,), 0.001)
    with torch.no_grad():
        result = UnrolledFista(iterations=5, exact=2)(y, operator, sigma)
        # Three gradient steps; their own last step is the first proximal one.
        x = UnrolledFista(iterations=3)(y, operator, sigma)
        for _ in range(2):
            x = operator.prox_data(x, y, data_weight(sigma), NETWORK_ERROR)
    torch.testing.assert_close(result, x, atol=1e-4, rtol=1e-4)
    assert (result - sharp).norm() < 0.7 * (y - sharp).norm()


def test_the_last_step_measures_the_networks_error():
    sharp, operator, y = scene()
    generator = torch.Generator().manual_seed(1)
    # Accurate near the typical error, and biased towards it further away.
    for sigma, error, low, high in (
        (0.001, 0.012, 0.012, 0.016),
        (0.001, 0.018, 0.017, 0.019),
        (0.001, 0.05, 0.035, 0.055),
        (0.01, 0.05, 0.022, 0.05),
        # At high noise the typical error is the upper limit.
        (0.05, 0.1, 0.009, 0.0181),
    ):
        noise = sigma * torch.randn(y.shape, generator=generator)
        guess = sharp + error * torch.randn(y.shape, generator=generator)
        weight = data_weight(torch.full((2,), sigma))
        residual = operator.prepare(y + noise - operator.forward(guess))
        ratio = operator.error_ratio(residual, weight, NETWORK_ERROR)
        found = ratio.sqrt() * NETWORK_ERROR
        assert low < found.min() <= found.max() < high
        if sigma < 0.05 and error != 0.018:
            ended = finish(guess, y + noise, operator, weight, fold=2)
            fixed = operator.prox_data(guess, y + noise, weight)
            assert (ended - sharp).norm() < (fixed - sharp).norm()


@pytest.mark.parametrize("fold", [2, 4])
def test_a_faint_grid_is_removed(fold):
    cell = torch.rand(fold, fold, generator=torch.Generator().manual_seed(0))
    grid = 0.001 * (cell - cell.mean()).repeat(1, 96 // fold, 64 // fold)
    assert without_grid(grid, fold).norm() < 0.1 * grid.norm()


def test_coarser_faint_detail_stays():
    rows, columns = torch.arange(96.0)[:, None], torch.arange(64.0)
    detail = 0.001 * (
        torch.cos(torch.pi / 2 * rows) + torch.sin(torch.pi / 2 * columns)
    )
    removed = detail - without_grid(detail[None], 2)[0]
    assert removed.norm() < 0.01 * detail.norm()


def test_detail_as_fine_as_the_grid_stays():
    # A sharp point is a tenth as bright without its frequencies near the grid.
    point = torch.zeros(1, 32, 48)
    point[0, 10, 20] = 1.0
    torch.testing.assert_close(without_grid(point, 2), point, atol=0.003, rtol=0)


def test_a_network_of_single_pixels_has_no_grid():
    image = torch.rand(1, 32, 48, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(without_grid(image, 1), image)


def test_flux_is_conserved():
    _, operator, y = scene()
    with torch.no_grad():
        result = UnrolledFista()(y, operator, torch.full((2,), 0.01))
    torch.testing.assert_close(result.mean((1, 2)), y.mean((1, 2)), rtol=1e-4, atol=0)


def test_the_proximal_network_starts_as_the_identity_and_depends_on_the_noise():
    network = ProximalNet()
    x = torch.rand(1, 1, 16, 24)
    low, high = torch.tensor([[0.0, -3.0]]), torch.tensor([[0.9, -1.0]])
    with torch.no_grad():
        assert torch.equal(network(x, low), x)
        last = network.layers[-1].weight
        last.copy_(0.1 * torch.randn(last.shape))
        assert (network(x, low) - network(x, high)).abs().max() > 1e-4


def test_the_proximal_network_is_translation_equivariant_by_two_pixels():
    """Pixels are folded by two."""
    network = ProximalNet()
    with torch.no_grad():
        network.layers[-1].weight.normal_(0, 0.1)
        x = torch.rand(1, 1, 40, 40)
        condition = torch.tensor([[0.5, -2.0]])
        moved = network(torch.roll(x, (2, 2), (2, 3)), condition)
        still = torch.roll(network(x, condition), (2, 2), (2, 3))
    torch.testing.assert_close(
        moved[..., 14:-14, 14:-14], still[..., 14:-14, 14:-14], atol=1e-5, rtol=1e-4
    )


def test_every_parameter_learns_and_the_error_falls():
    torch.manual_seed(0)
    sharp, operator, y = scene(side=32)
    noisy = y + 0.2 * torch.randn(y.shape)
    network = UnrolledFista(iterations=5, channels=8, exact=1)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    errors = []
    for _ in range(40):
        result = network(noisy, operator, torch.full((2,), 0.2))
        error = (result - sharp).square().mean()
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
        errors.append(error.item())
    assert errors[-1] < 0.95 * errors[0]
    for name, parameter in network.named_parameters():
        moved = parameter.grad.abs().sum()
        # The first momentum multiplies x - x = 0 only in the last iteration.
        assert moved > 0 or name == "momentum", name
    assert network.momentum.grad[:-1].abs().min() > 0


def test_the_last_step_reads_nothing_back_to_the_host(operations):
    """A CUDA graph cannot record a number that is read or copied."""
    _, operator, y = scene()
    weight = data_weight(torch.full((2,), 0.01))
    with operations:
        finish(y, y, operator, weight, fold=2)
    assert "_fft_r2c" in operations.names
    assert not operations.names & {"_local_scalar_dense", "lift_fresh", "copy_"}


def test_architectures_are_built_or_refused_by_name():
    assert build_deblurring({"iterations": 2}).iterations == 2
    with pytest.raises(ValueError, match=r"kind 'admm': .* supports 'fista'"):
        build_deblurring({"kind": "admm"})
    with pytest.raises(ValueError, match="blocks"):
        build_deblurring({"kind": "fista", "blocks": 1})
    with pytest.raises(ValueError, match="2 proximal data steps in 2 iterations"):
        build_deblurring({"iterations": 2, "exact": 2})
    with pytest.raises(ValueError, match="3 plain of 2 gradient steps"):
        build_deblurring({"iterations": 3, "exact": 1, "plain": 3})
