"""Offsets of columns and rows are removed; stripes of the specimen are not."""

import pytest
import torch

from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.identification import welch
from deepblur_live.runtime.line_offsets import _cosines, remove_line_offsets

SIGMA = 0.01


def random(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def frame(shape=(256, 320), sigma=SIGMA, seed=0):
    """Return a blurred specimen with noise."""
    detail = (random(*shape, seed=seed) > 1.5).float()
    family = ZernikeFamily()
    clean = family.operator(torch.zeros(7), shape).forward(detail)
    return clean + sigma * random(*shape, seed=seed + 1)


@pytest.mark.parametrize("rms", [0.003, 0.01, 0.1])
@pytest.mark.parametrize("axis", [0, 1], ids=["columns", "rows"])
def test_offsets_are_removed(axis, rms):
    clean = frame()
    offsets = rms * random(clean.shape[1 - axis], seed=5)
    noisy = clean + (offsets if axis == 0 else offsets[:, None])
    before = float((welch(noisy)[0] / welch(clean)[0]).log().abs().max())
    assert remove_line_offsets(noisy)
    assert noisy.mean() == pytest.approx(float(clean.mean() + offsets.mean()), abs=1e-4)
    change = (welch(noisy)[0] / welch(clean)[0]).log()
    along = change[0, 4:-1] if axis == 0 else change[4:29, 0]
    # Along the axis the specimen and the noise lose what a whole line's mean has.
    assert before > 1
    assert -0.3 < float(along.mean()) < 0.1
    assert float(change[4:29, 4:-1].abs().max()) < 0.1


def test_both_at_once():
    clean = frame((512, 512))
    noisy = clean + 0.01 * random(512, seed=5) + 0.01 * random(512, 1, seed=6)
    before = (welch(noisy)[0] / welch(clean)[0]).log()
    remove_line_offsets(noisy)
    after = (welch(noisy)[0] / welch(clean)[0]).log()
    for along in ((0, slice(8, -1)), (slice(8, 29), 0)):
        assert float(before[along].mean()) > 0.5
        assert abs(float(after[along].mean())) < 0.15


@pytest.mark.parametrize("sigma", [0.0, 0.001, 0.01, 0.1])
def test_a_frame_without_offsets_is_left_alone(sigma):
    for seed in range(5):
        clean = frame(sigma=sigma, seed=10 * seed)
        before = clean.clone()
        assert not remove_line_offsets(clean)
        torch.testing.assert_close(clean, before)


def test_stripes_of_the_specimen_are_kept():
    stripes = (torch.arange(320) % 8 < 2).float().expand(256, 320)
    family = ZernikeFamily()
    stripes = family.operator(torch.zeros(7), (256, 320)).forward(stripes.clone())
    clean = frame() + stripes
    noisy = clean + 0.01 * random(320, seed=5)
    remove_line_offsets(noisy)
    place = torch.exp(-2j * torch.pi * torch.arange(320) / 8)
    contrast = [float((image * place).mean().abs()) for image in (noisy, clean)]
    assert contrast[0] == pytest.approx(contrast[1], rel=0.02)


def test_the_weights_of_a_size_stay_where_a_recorded_graph_reads_them():
    """For more sizes than a rig has at once."""
    cpu = torch.device("cpu")
    first = _cosines(64, torch.float32, cpu)
    for size in range(65, 129):
        _cosines(size, torch.float32, cpu)
    assert _cosines(64, torch.float32, cpu) is first
