"""The window of a field: its map, its PSFs, and curves of its named terms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deepblur_live.blur.field_basis import FieldView
from deepblur_live.gui.binding import QtCore
from deepblur_live.gui.field_map import FieldMapView, _bars, _Maps
from deepblur_live.gui.main_window import MainWindow
from deepblur_live.profile import check_profile


@pytest.fixture
def profile():
    return check_profile({"model": {"blur": "field"}}, "test")


@pytest.fixture
def window(profile, session_of, make_history, image, qtbot):
    session = session_of(profile)
    session.history = make_history(100, session.family.n_coefficients)
    session.publish(image, view=FieldView(1024, 2048))
    window = MainWindow(session)
    qtbot.addWidget(window)
    window.show()
    window.refresh()
    yield window
    assert window.error == ""


def test_the_estimated_and_the_true_field_are_shown(window):
    shown = window.psf
    assert isinstance(shown, FieldMapView)
    for row, title in ((shown.estimated, "estimated"), (shown.true, "true")):
        assert row.map.isVisible()
        # The map has the frame's shape.
        assert row.map.pixmap().width() == 2 * row.map.pixmap().height()
        assert row.text.text().startswith(f"field, {title}")
        assert "worst Strehl" in row.text.text()


def test_a_curve_and_a_line_for_each_named_term_only(window):
    assert len(window.drift._curves) == 17
    assert "defocus, linear, along x" in window.drift.legend.text()
    assert "conjugate" not in window.drift.legend.text()


def test_one_psf_and_no_estimate_are_said(window, image):
    session = window._session
    session.publish(image)
    window._slow_at = -np.inf
    window.refresh()
    assert window.psf.estimated.text.text().startswith("one PSF, estimated")
    session.publish_raw_only(image, "constant")
    window._slow_at = -np.inf
    window.refresh()
    assert window.psf.estimated.text.text().endswith("no estimate")


def test_the_map_is_brightest_where_the_wavefront_error_is(window, tmp_path):
    family = replace(window._session.family, view=FieldView(512, 512))
    c = np.zeros(family.n_coefficients)
    c[family.names.index("defocus")] = 0.1
    c[family.names.index("defocus, linear, along x")] = 0.1
    maps = _Maps.of(family, c)
    at = (np.arange(28) + 0.5) / 14 - 1
    np.testing.assert_allclose(maps.error, np.tile(0.1 * np.abs(1 + at), (28, 1)))
    assert maps.psfs.shape[0] == 9


def test_bars_lie_along_the_axis_of_the_astigmatism():
    # Twice the angle: 0 along x, 180° along y, and 90° from the upper left downwards.
    axes = np.array([[0.15, 0.15j], [-0.15, 0.0]])
    along, falling, upright, none = _bars(axes, QtCore.QSize(100, 100))
    assert along.dy() == pytest.approx(0)
    assert along.dx() == pytest.approx(50)
    assert falling.dx() == pytest.approx(falling.dy())
    assert falling.dx() > 0
    assert upright.dx() == pytest.approx(0)
    assert none.length() == 0
