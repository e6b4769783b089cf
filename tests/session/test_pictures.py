"""The pictures of frames: of the right size, with one contrast."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from deepblur_live.profile import Profile
from deepblur_live.session.fidelity import ImageSample
from deepblur_live.session.pictures import save_comparison


def sample(shape, truth=True) -> ImageSample:
    raw = np.full(shape, 300.0, np.float32)
    raw[: shape[0] // 2] = 700.0
    spread = np.linspace(100, 1100, raw.size, dtype=np.float32).reshape(shape)
    return ImageSample(5.0, 17, raw, spread, {}, shape, spread if truth else None)


def panel_greys(path, panels):
    """Return the pixels of each panel as a list of arrays."""
    with Image.open(path) as opened:
        picture = np.asarray(opened.convert("L"), float)
    width = picture.shape[1] // panels
    return [picture[:, k * width : (k + 1) * width] for k in range(panels)]


@pytest.mark.parametrize("truth", [True, False])
def test_panels_share_one_contrast(tmp_path, truth):
    path = tmp_path / "frame.png"
    save_comparison(path, sample((200, 200), truth), Profile())
    raw, deblurred, *_ = panel_greys(path, 3 if truth else 2)
    # Grey levels of 700 and 300 on a contrast of 100 to 1100: 0.6 and 0.2.
    assert raw[150, 150] == pytest.approx(0.6 * 255, abs=3)
    assert raw[-150, 150] == pytest.approx(0.2 * 255, abs=3)
    levels = np.unique(deblurred[100:-30, 100:-100])
    assert levels.min() < 40
    assert levels.max() > 200


@pytest.mark.parametrize("shape", [(30, 400), (400, 30), (1, 1), (64, 48)])
def test_odd_shapes_are_drawn(tmp_path, shape):
    path = tmp_path / "frame.png"
    save_comparison(path, sample(shape), Profile())
    with Image.open(path) as picture:
        assert min(picture.size) > 150


def test_a_scale_bar_counts_pixels_whose_size_is_not_known(tmp_path, monkeypatch):
    texts = []
    monkeypatch.setattr(Axes, "text", lambda *args, **_: texts.append(args[3]))
    one = sample((200, 200))
    save_comparison(tmp_path / "px.png", one, Profile())
    known = replace(one, pixel_size_nm=100.0)
    save_comparison(tmp_path / "um.png", known, Profile())
    assert texts == ["50 px", "5 µm"]


def test_constant_image_is_drawn(tmp_path):
    flat = np.full((32, 32), 5.0, np.float32)
    one = ImageSample(0.0, 0, flat, flat, {}, (32, 32), flat)
    save_comparison(tmp_path / "flat.png", one, Profile())
    assert (tmp_path / "flat.png").stat().st_size > 1000
