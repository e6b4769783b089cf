"""A blur that varies over the frame goes through executor, graph and guard."""

from dataclasses import replace

import pytest
import torch

from deepblur_live.acquisition.specimen import load_specimen
from deepblur_live.blur.field_basis import FieldView
from deepblur_live.blur.product_convolution import ProductConvolution
from deepblur_live.blur.zernike_field import ZernikeField
from deepblur_live.deblurring import FoldedFista
from deepblur_live.optics import NoiseModel, frame_part, psnr
from deepblur_live.runtime.executor import TorchExecutor
from deepblur_live.runtime.graph import FrameGraph
from deepblur_live.runtime.guard import FrameGuard
from deepblur_live.runtime.pack import load_pack

# Not square, and of sides that are extended before FFTs.
FRAME, SCENE, SIGMA = (242, 298), (304, 360), 0.003
FAMILY = ZernikeField(view=FieldView(*FRAME))
FIELD = FAMILY.sample(1, torch.Generator().manual_seed(4))[0]
CERTAIN = torch.zeros(FAMILY.n_coefficients, FAMILY.n_coefficients)
NOISE = NoiseModel.white(SIGMA)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pack():
    return load_pack("zernike7", ("live",))


@pytest.fixture(scope="module")
def scene():
    """A frame by an operator of another kind, and its sharp image."""
    picture = torch.as_tensor(load_specimen()).float()
    sharp = picture[: SCENE[0], : SCENE[1]]
    blur = ProductConvolution.of_family(FAMILY, FIELD, SCENE, FRAME, 16, grid=11)
    part = frame_part(SCENE, FRAME)
    chance = torch.Generator().manual_seed(0)
    noise = SIGMA * torch.randn(FRAME, generator=chance)
    return blur.forward(sharp)[part] + noise, sharp[part]


def test_the_field_deblurs_better_than_its_best_psf(pack, scene):
    frame, sharp = scene
    executor = TorchExecutor(pack, FAMILY, CPU)
    field = executor.deblur(frame, FIELD, CERTAIN, NOISE)
    constant = torch.from_numpy(
        FAMILY.constant(FAMILY.at(FIELD, FAMILY.view.grid(9)).mean(0).numpy())
    ).float()
    one = executor.deblur(frame, constant, CERTAIN, NOISE)
    raw, by_one, by_field = (
        psnr(image.numpy(), sharp.numpy()) for image in (frame, one, field)
    )
    assert by_one > raw + 2
    assert by_field > by_one + 1


def test_a_constant_field_is_the_uniform_family(pack, scene):
    frame, _ = scene
    gamma = FAMILY.local.sample_rms(1, torch.Generator().manual_seed(1))[0]
    constant = torch.from_numpy(FAMILY.constant(gamma.numpy())).float()
    found = TorchExecutor(pack, FAMILY, CPU).deblur(frame, constant, CERTAIN, NOISE)
    expected = TorchExecutor(pack, FAMILY.local, CPU).deblur(
        frame, gamma, torch.zeros(7, 7), NOISE
    )
    assert psnr(found.numpy(), expected.numpy()) > 50


def test_the_graphs_buffers_take_any_field(pack, scene):
    """As recorded: kernels of one shape, and results that are the executor's."""
    frame = scene[0][:140, :110]
    fista, fold = FoldedFista(pack.deblurring), pack.deblurring.proximal.shrink
    graph = FrameGraph(fista, (140, 110), FAMILY, fold, CPU)
    executor = TorchExecutor(pack, FAMILY, CPU)
    uncertain = torch.from_numpy(FAMILY.prior.covariance).float() * 0.01
    for field in (FIELD, torch.zeros_like(FIELD)):
        kernels = FAMILY.expected_kernels(field[None], uncertain[None])
        found = graph.run(frame, kernels, NOISE).clone()
        expected = executor.deblur(frame, field, uncertain, NOISE)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_the_guard_blurs_again_with_the_field(scene):
    frame, sharp = scene
    guard = FrameGuard(FAMILY)
    found = guard.evidence(frame, sharp, FIELD, NOISE)
    assert found.fine == pytest.approx(1, abs=0.1)
    assert found.unexplained < 0.02
    assert guard.verdict(frame, sharp, FIELD, CERTAIN, NOISE).strength == 1
    # The field of another part of the sensor leaves detail unexplained.
    elsewhere = replace(FAMILY, view=FieldView(480, 600, 0, 0, *FRAME))
    other = FrameGuard(elsewhere).evidence(frame, sharp, FIELD, NOISE)
    assert other.unexplained > 3 * found.unexplained
