"""Sums and extremes over neighbours equal torch's pooling."""

import pytest
import torch
from torch.nn import functional as F

from deepblur_live.deblurring.background import background
from deepblur_live.optics import box_mean, sliding


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 17])
@pytest.mark.parametrize("axis", [-1, -2])
def test_runs_are_combined_along_an_axis(length, axis):
    values = torch.randint(0, 100, (2, 20, 23), generator=torch.Generator()).float()
    runs = values.unfold(axis, length, 1)
    assert torch.equal(sliding(values, axis, length, torch.add), runs.sum(-1))
    assert torch.equal(sliding(values, axis, length, torch.minimum), runs.amin(-1))


def test_a_box_mean_repeats_the_border():
    image = torch.rand(2, 30, 41, generator=torch.Generator().manual_seed(0))
    wide = F.pad(image[:, None], (8, 8, 8, 8), mode="replicate")
    assert torch.allclose(box_mean(image, 17), F.avg_pool2d(wide, 17, 1)[:, 0])


@pytest.mark.parametrize("shape", [(64, 48), (70, 41)])
def test_the_background_is_the_minimum_over_cells_smoothed(shape):
    image = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    cells = F.avg_pool2d(image[:, None], 4, ceil_mode=True, count_include_pad=False)
    lowest = -F.max_pool2d(-cells, 7, 1, 3)
    for _ in range(2):
        lowest = F.avg_pool2d(lowest, 7, 1, 3, count_include_pad=False)
    expected = F.interpolate(lowest, shape, mode="bilinear", align_corners=False)
    assert torch.allclose(background(image), expected[:, 0], atol=1e-6)
