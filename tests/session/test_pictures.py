"""The pictures of a session: there, of the right size, with one contrast."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from deepblur_live.drift import Alert, DriftState
from deepblur_live.profile import Display, Profile
from deepblur_live.session.fidelity import ImageSample
from deepblur_live.session.history import HistoryBuffer
from deepblur_live.session.pictures import save_comparison
from deepblur_live.session.plot import save_drift_plot


def sample(shape, truth=True) -> ImageSample:
    raw = np.full(shape, 300.0, np.float32)
    raw[: shape[0] // 2] = 700.0
    spread = np.linspace(100, 1100, raw.size, dtype=np.float32).reshape(shape)
    return ImageSample(5.0, 17, raw, spread, {}, shape, spread if truth else None)


def pixels(path, mode):
    with Image.open(path) as picture:
        return np.asarray(picture.convert(mode), float)


def panel_greys(path, panels):
    """Return the pixels of each panel as a list of arrays."""
    picture = pixels(path, "L")
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


def test_constant_image_is_drawn(tmp_path):
    flat = np.full((32, 32), 5.0, np.float32)
    one = ImageSample(0.0, 0, flat, flat, {}, (32, 32), flat)
    save_comparison(tmp_path / "flat.png", one, Profile())
    assert (tmp_path / "flat.png").stat().st_size > 1000


@pytest.mark.parametrize("points", [1, 2, 200])
@pytest.mark.parametrize("units", ["nm", "waves"])
@pytest.mark.parametrize("known", [True, False])
def test_drift_plot_of_any_length(tmp_path, family, start, points, units, known):
    buffer = HistoryBuffer(7)
    for k in range(points):
        change = np.nan if k < 20 else k / 2000
        buffer.append(
            40.0 * k, start, start * 0 + 0.01, start if known else None, change
        )
    alert = Alert(
        2400.0, DriftState.WARN, 0.04, 21.6, 0.004, ("defocus",), (0.04,), 0.0, "moved"
    )
    profile = Profile(display=Display(units=units))
    path = tmp_path / "drift.png"
    save_drift_plot(path, buffer.snapshot(), family.names, profile, [alert])
    picture = pixels(path, "RGB")
    assert picture.shape[0] > 600
    # Something coloured is drawn: curves, limits.
    assert (np.ptp(picture, axis=2) > 60).sum() > 500
