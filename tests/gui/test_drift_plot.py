"""The plots of the drift panel fit it: no text over another, nor over a curve."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from deepblur_live.blur import family_from_profile
from deepblur_live.gui.drift_plot import DriftPlot
from deepblur_live.profile import Profile

# Of the panel: wide and low as below the images, in a small dock, high at the side.
SIZES = [(1900, 190), (1000, 190), (400, 100), (300, 600)]


@pytest.fixture(scope="module")
def family():
    return family_from_profile(Profile())


@pytest.fixture
def plot(qtbot, family, make_history):
    plot = DriftPlot(Profile(), family)
    qtbot.addWidget(plot)
    plot.show()
    plot.show_history(make_history(100, family.n_coefficients), ())
    return plot


@pytest.mark.parametrize("size", SIZES)
def test_titles_stay_on_their_plots_and_tick_labels_apart(plot, qtbot, size):
    plot.resize(*size)
    qtbot.wait(50)
    plots = (plot.coefficients, plot.change, plot.contrast)
    low = plot.height() < 320
    assert len({round(p.pos().x()) for p in plots}) == (3 if low else 1)
    for title, drawn in zip(plot._titles, plots, strict=True):
        words = title.mapRectToScene(title.itemRect())
        assert words.right() <= drawn.sceneBoundingRect().right() + 1
        assert words.bottom() <= drawn.sceneBoundingRect().top() + 1
        axis = drawn.getAxis("left")
        (low, high), height = axis.range, axis.height()
        step, _ = axis.tickSpacing(low, high, height)[0]
        pixels = [k * step * height / (high - low) for k in range(3)]
        assert all(b - a >= 15 for a, b in itertools.pairwise(pixels))


def test_a_title_says_the_limits_where_there_is_room(plot, qtbot):
    plot.resize(1900, 190)
    qtbot.wait(50)
    assert "warn 19" in plot._titles[1].item.toPlainText()
    assert "alarm 8" in plot._titles[2].item.toPlainText()
    plot.resize(400, 100)
    qtbot.wait(50)
    assert plot._titles[2].item.toPlainText() == "contrast, %"
    assert "alarm 8" in plot._titles[2].toolTip()


def test_limits_are_drawn_as_they_were_in_force(plot, family, make_history):
    history = make_history(100, family.n_coefficients)
    # Provisional at first, then none, as a change is not certain yet.
    limits = np.tile([0.03, 0.08], (100, 1))
    limits[:40, 0], limits[80:] = 0.05, np.nan
    plot.show_history(
        replace(history, times=history.times + 1, strength_limits=limits), ()
    )
    warn, alarm = plot._contrast_lines._curves
    # Each until the next point.
    np.testing.assert_allclose(warn.yData[:80], 5)
    np.testing.assert_allclose(warn.yData[80:160], 3)
    assert warn.xData[79] == warn.xData[80] == 41
    np.testing.assert_allclose(alarm.yData[:160], 8)
    assert np.isnan(warn.yData[160:]).all()
    assert "warn 3" in plot._titles[2].toolTip()
    now = replace(
        history, times=history.times + 2, strength_limits=limits[:40][[0] * 100]
    )
    plot.show_history(now, ())
    assert "warn 5" in plot._titles[2].toolTip()
