"""Means over neighbours equal torch's pooling."""

import pytest
import torch
from torch.nn import functional as F

from deepblur_live.optics import box_mean


@pytest.mark.parametrize("side", [1, 3, 7, 17])
def test_a_box_mean_repeats_the_border(side):
    image = torch.rand(2, 30, 41, generator=torch.Generator().manual_seed(0))
    wide = F.pad(image[:, None], 4 * [side // 2], mode="replicate")
    assert torch.allclose(box_mean(image, side), F.avg_pool2d(wide, side, 1)[:, 0])
