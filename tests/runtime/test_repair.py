"""Hot and dead pixels are repaired; what optics can form is not."""

import numpy as np
import pytest
import torch

from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.runtime.calibration import scale
from deepblur_live.runtime.repair import repair_pixels, repair_unread

FAMILY = ZernikeFamily()
SIGMA = 0.01


def sharpest(density, pixel_size_nm=100.0, seed=0):
    """Return randomly placed points in focus (256, 256), and the cut-off."""
    family = ZernikeFamily(pixel_size_nm=pixel_size_nm)
    generator = torch.Generator().manual_seed(seed)
    where = torch.rand(256, 256, generator=generator) < density
    points = where * torch.empty(256, 256).exponential_(1, generator=generator)
    image = family.operator(torch.zeros(7), (256, 256)).forward(points)
    return image / image.max(), family.cutoff


def noise(sigma=SIGMA, seed=1):
    return sigma * torch.randn(256, 256, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sign", [1, -1], ids=["hot", "dead"])
@pytest.mark.parametrize("share", [0.0002, 0.001, 0.003])
def test_defects_are_repaired_without_a_trace(sign, share):
    clean, cutoff = sharpest(0.01)
    clean = clean + noise()
    generator = torch.Generator().manual_seed(2)
    where = torch.rand(256, 256, generator=generator) < share
    excess = torch.empty(256, 256).exponential_(2.0, generator=generator)
    frame = clean + sign * where * excess
    repair_pixels(frame, cutoff)
    left = (frame - clean).square().mean() / SIGMA**2
    before = (where * excess).square().mean() / SIGMA**2
    # What is left of them does not matter beside the noise.
    assert before > 0.3
    assert left < 0.12


def test_defects_at_the_border_and_adjacent_ones_are_repaired():
    frame = noise()
    clean = frame.clone()
    for place in ((0, 0), (0, 77), (255, 3), (100, 255), (50, 60), (50, 61)):
        frame[place] += 1 + 0.1 * place[1]
    assert repair_pixels(frame, FAMILY.cutoff) == 6
    assert float((frame - clean).abs().max()) < 6 * SIGMA


@pytest.mark.parametrize("sigma", [0.0, 0.001, 0.01])
@pytest.mark.parametrize("pixel_size_nm", [70.0, 100.0, 140.0, 170.0])
@pytest.mark.parametrize("density", [0.0003, 0.02])
def test_points_in_focus_are_kept(density, pixel_size_nm, sigma):
    clean, cutoff = sharpest(density, pixel_size_nm)
    frame = clean + noise(sigma)
    before = frame.clone()
    repair_pixels(frame, cutoff)
    # Of a crowd of points, chance may isolate a faint one.
    changed = (frame - before).square().sum() / clean.square().sum()
    assert float(changed) < 2e-3
    assert float((frame - before).abs().max()) < 0.3


def test_a_thin_line_with_a_maximum_is_kept():
    y, x = torch.meshgrid(torch.arange(256.0), torch.arange(256.0), indexing="ij")
    line = (x == 128) * torch.exp(-((y - 128) ** 2) / 8)
    image = FAMILY.operator(torch.zeros(7), (256, 256)).forward(line)
    before = image.clone()
    repair_pixels(image, FAMILY.cutoff)
    torch.testing.assert_close(image, before)


def test_many_isolated_pixels_are_what_the_frame_shows():
    frame = noise()
    spots = torch.rand(256, 256, generator=torch.Generator().manual_seed(4)) < 0.02
    frame[spots] += 1
    before = frame.clone()
    assert repair_pixels(frame, FAMILY.cutoff) == 0
    torch.testing.assert_close(frame, before)


def test_hot_pixels_do_not_set_the_range():
    clean = (1000 + 2000 * (sharpest(0.02)[0] + noise())).numpy().astype("u2")
    hot = clean.copy()
    hot[np.random.default_rng(0).random(clean.shape) < 0.002] = 20_000
    scaled, expected = (scale(x, cutoff=FAMILY.cutoff) for x in (hot, clean))
    assert scaled.low == pytest.approx(expected.low, abs=5)
    assert scaled.span == pytest.approx(expected.span, rel=0.02)
    # In grey values all but the defects is as it was.
    grey = scaled.restore(scaled.image).numpy()
    kept = hot < 20_000
    assert np.mean(np.abs(grey - hot)[kept] < 0.05) > 0.999
    assert grey[~kept].max() < 3500


@pytest.mark.parametrize("share", [0.0, 0.001, 0.02])
def test_without_reading_back_the_same_pixels_are_repaired(share):
    """Hot and dead ones, at the border, adjacent ones, and none of too many."""
    frame, cutoff = sharpest(0.01)
    frame = frame + noise()
    generator = torch.Generator().manual_seed(2)
    where = torch.rand(256, 256, generator=generator) < share
    frame += where * torch.randn(256, 256, generator=generator)
    if share:
        for place in ((0, 0), (255, 3), (100, 255), (50, 60), (50, 61)):
            frame[place] += 1 + 0.1 * place[1]
    expected = frame.clone()
    repair_pixels(expected, cutoff)
    repair_unread(frame, cutoff)
    assert torch.equal(frame, expected)
