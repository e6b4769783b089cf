"""The plot of an eight-hour session has few points and all extremes."""

from __future__ import annotations

import numpy as np

from deepblur_live.gui.drift_plot import DriftPlot
from deepblur_live.session.history import HistoryBuffer


def test_eight_hours_are_drawn_with_few_points_and_all_extremes(session, qtbot) -> None:
    buffer = HistoryBuffer(8)
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.003, (8 * 3600, 8))
    sigma = np.full(8, 0.003)
    noise[12_345, 3] = 0.2
    noise[20_001, 5] = -0.3
    for k, gamma in enumerate(noise):
        change = 0.5 if k == 777 else float(np.linalg.norm(gamma))
        buffer.append(float(k), gamma, sigma, None, change)
    plot = DriftPlot(session.profile, session.family)
    qtbot.addWidget(plot)
    plot.show()
    plot.show_history(buffer.snapshot(), [])
    factor = session.profile.optics.wavelength_nm
    curves = [curve.getData() for curve in plot._curves]
    change = plot._change_curve.getData()
    drawn = [*curves, change, *(edge.getData() for b in plot._bands for edge in b)]
    # Few enough to paint in about 10 ms.
    assert sum(len(times) for times, _ in drawn) <= 6000
    assert np.nanmax(curves[3][1]) == 0.2 * factor
    assert np.nanmin(curves[5][1]) == -0.3 * factor
    assert np.nanmax(change[1]) == 0.5 * factor
    # The maximum is in view.
    assert plot.change.getViewBox().viewRange()[1][1] > 0.5 * factor
    assert abs(curves[3][0][np.argmax(curves[3][1])] - 12_345) < 30
