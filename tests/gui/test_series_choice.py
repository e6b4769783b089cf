"""Which channel, position and plane the drift plot shows, and in which nanometres."""

from __future__ import annotations

import numpy as np
import pytest

from deepblur_live.blur import family_from_profile
from deepblur_live.gui.drift_plot import DriftPlot
from deepblur_live.gui.series_choice import SeriesChoice
from deepblur_live.profile import Profile
from deepblur_live.runtime.series_key import SeriesKey

GFP, DAPI = SeriesKey("GFP", 0), SeriesKey("DAPI", 0, name="dish A")


@pytest.fixture
def choice(qtbot, session):
    made = SeriesChoice(session)
    qtbot.addWidget(made)
    return made


def test_there_is_no_choice_of_one(choice, session):
    assert choice.shown(0.0).key == SeriesKey()
    assert choice.isHidden()


def test_the_newest_frames_series_stays_for_a_while(choice, session):
    """Frames of an MDA alternate, several times a second."""
    session.series = (GFP,)
    assert choice.shown(0.0).key == GFP
    session.series = (GFP, DAPI)
    assert choice.shown(1.0).key == GFP
    assert not choice.isHidden()
    assert choice.shown(3.5).key == DAPI
    assert choice.name.text() == "DAPI, dish A"


def test_a_chosen_series_is_kept(choice, session):
    session.series = (GFP, DAPI)
    choice.shown(0.0)
    assert [choice.box.itemText(k) for k in range(3)] == [
        "that of the newest frame",
        "GFP, position 0",
        "DAPI, dish A",
    ]
    choice.box.setCurrentIndex(1)
    choice.box.activated.emit(1)
    assert choice.shown(10.0).key == GFP
    session.series = (GFP, DAPI, SeriesKey("GFP", 1))
    assert choice.shown(20.0).key == GFP
    assert choice.box.currentText() == "GFP, position 0"
    # It has ended, as too many others have come.
    session.series = (DAPI, SeriesKey("GFP", 1))
    assert choice.shown(30.0).key == SeriesKey("GFP", 1)
    assert choice.box.currentIndex() == 0


def test_another_channel_has_its_own_nanometres(qtbot, make_history):
    profile = Profile()
    family = family_from_profile(profile)
    plot = DriftPlot(profile, family)
    qtbot.addWidget(plot)
    history = make_history(50, family.n_coefficients)
    plot.show_history(history, ())
    curve = plot._curves[0]
    alarm = plot._change_lines._settings[1]
    before, limit = curve.yData.copy(), alarm.value()
    other = family_from_profile(profile.at_wavelength(460.0))
    plot.follow(DAPI, other)
    assert len(curve.yData) == 0
    plot.show_history(history, ())
    np.testing.assert_allclose(curve.yData, before * 460 / 540)
    assert alarm.value() == pytest.approx(limit * 460 / 540)
    assert "alarm 33" in plot._titles[1].toolTip()
