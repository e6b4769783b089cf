"""A session of a field: its log, its alert, its summary and its report."""

from __future__ import annotations

import csv
import json

import pytest
import torch

from deepblur_live.session.report.figures import coefficients_figure
from deepblur_live.session.report.moments import moments
from deepblur_live.session.report.page import _coefficients
from deepblur_live.session.report.psf_figure import psf_figure
from deepblur_live.session.report.read import read_session


def test_the_alarm_names_the_tilt(closed_field_session):
    alerts = closed_field_session.summary.alerts
    assert alerts[-1].level.name == "ALARM"
    assert alerts[-1].coefficients == ("defocus, linear, along x",)
    assert "specimen or the camera" in alerts[-1].text
    assert not closed_field_session.background_errors


def test_the_log_has_a_plain_column_for_each_term(closed_field_session):
    folder = closed_field_session.folder
    with (folder / "drift.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert not any("," in name for name in rows[0])
    assert len([name for name in rows[0] if name.startswith("truth_")]) == 48
    moved = [float(row["defocus_linear_along_x_waves"]) for row in (rows[0], rows[-1])]
    assert moved[1] - moved[0] == pytest.approx(0.25, abs=0.02)
    assert 0 < float(rows[-1]["worst_strehl"]) < float(rows[0]["worst_strehl"])
    about = json.loads((folder / "session.json").read_text())
    assert about["coefficients"] == list(closed_field_session.family.names)


def test_the_summary_is_of_the_whole_frame(closed_field_session):
    psf = closed_field_session.summary.psf
    assert psf.n == 50
    assert 20 < psf.mean < 60
    assert psf.constant < 10


def test_the_report_shows_the_named_terms(closed_field_session):
    data = read_session(closed_field_session.folder)
    axes = coefficients_figure(data).axes
    titles = [axis.get_title(loc="left") for axis in axes if axis.get_visible()]
    assert titles == list(data.family.names[:17])
    assert titles[-1] == "spherical"
    table = _coefficients(data, moments(data))
    assert "trefoil, linear, along y" in table
    assert "rotationally symmetric" not in table
    assert "31 more terms are in drift.csv" in table


def test_the_report_shows_nine_psfs_a_moment(closed_field_session):
    data = read_session(closed_field_session.folder)
    start, *_ = shown = moments(data)
    first = psf_figure(data, shown).axes[0].images[0].get_array()
    side = first.shape[0] // 3
    upper_left, middle = first[:side, :side], first[side : 2 * side, side : 2 * side]
    family, c = data.blurs, torch.as_tensor(start.point.coefficients)
    expected = [family.psf(c, (at, at)).max() for at in (1 / 6, 1 / 2)]
    # Drawn as square roots, on one scale.
    assert (upper_left.max() / middle.max()) ** 2 == pytest.approx(
        float(expected[0] / expected[1]), rel=0.05
    )
