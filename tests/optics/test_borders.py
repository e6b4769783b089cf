"""Periodic continuation of frames: sizes, smoothness, the frame untouched."""

import pytest
import torch

from deepblur_live.optics import extend, frame_part, seven_smooth
from deepblur_live.optics.borders import frame_mask


def test_seven_smooth_sizes():
    assert [seven_smooth(n) for n in (1, 31, 127, 542, 2078, 2200)] == [
        2,
        32,
        128,
        560,
        2100,
        2240,
    ]


def test_sizes_may_be_asked_to_be_multiples():
    assert seven_smooth(630, 4) == 640
    assert seven_smooth(512 + 30, 8) == 560
    assert extend(torch.rand(600, 64), 30, 4).shape[0] % 4 == 0


@pytest.mark.parametrize("shape", [(64, 64), (63, 101), (33, 200), (1, 5)])
def test_the_frame_is_kept_and_continued(shape):
    image = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    whole = extend(image, 30)
    part = frame_part(whole.shape[-2:], shape)
    assert torch.equal(whole[:, *part], image)
    for side, place in zip(whole.shape[-2:], part, strict=True):
        assert abs(place.start - (side - place.stop)) <= 1
    assert whole.shape[-2] == seven_smooth(shape[0] + 30)
    assert whole.shape[-1] == seven_smooth(shape[1] + 30)
    assert whole.min() >= image.min() - 1e-6
    assert whole.max() <= image.max() + 1e-6


def test_no_step_at_the_seams_of_a_ramp():
    ramp = torch.linspace(0, 1, 100)[:, None].expand(100, 60).contiguous()
    whole = extend(ramp, 30)
    wrapped = torch.cat([whole, whole[:1]])
    assert torch.all(whole[frame_part(whole.shape, ramp.shape)] == ramp)
    # The whole ramp must come back within the margin: some 10 % a pixel at most,
    # where plain wrapping would step by 100 %.
    assert wrapped.diff(dim=0).abs().max() < 0.1


def test_the_mask_is_one_inside_the_frame_and_falls_at_its_edges():
    mask = frame_mask((60, 70), (40, 33), torch.zeros((), dtype=torch.float64))
    assert mask.shape == (60, 70)
    assert mask.dtype == torch.float64
    inside = frame_part((60, 70), (40, 33))
    assert float(mask.sum()) == pytest.approx(float(mask[inside].sum()))
    mask = mask[inside]
    assert torch.all(mask[8:32, 8:25] == 1)
    edge = mask[:9, 16]
    assert 0 < edge[0] < 0.05
    assert torch.all(edge.diff() > 0)
    torch.testing.assert_close(mask, mask.flip(0, 1))
