"""The window shows names, units and quality of a family that is not Zernike."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from deepblur_live.blur import ChangeMetric, Quality, ResolvedBy, Symmetry
from deepblur_live.blur.fixed_psf import FixedPsf
from deepblur_live.drift import DriftState, DriftStatus
from deepblur_live.gui.binding import QtWidgets
from deepblur_live.gui.main_window import MainWindow
from deepblur_live.profile import Display, Drift, Profile
from deepblur_live.session.display_unit import (
    DisplayUnit,
    change_unit,
    coefficient_unit,
)


class Gaussian:
    """What the window uses of a family: a Gaussian blur of two widths in pixels."""

    n_coefficients = 2
    names = ("width <x>", "width y")
    unit = "pixels"
    metric = ChangeMetric(np.eye(2), "pixels", "pixels")
    prior = SimpleNamespace(scale=np.array([1.0, 1.0]))
    symmetries = (
        Symmetry("sign", -np.eye(2), np.zeros(2), ResolvedBy.NEVER, "Both signs blur."),
        Symmetry("swap", np.eye(2), np.zeros(2), ResolvedBy.IMAGE, "Seen in images."),
    )

    def psf(self, coefficients: torch.Tensor) -> torch.Tensor:
        grid = torch.arange(-7, 8)
        profiles = [torch.exp(-((grid / (1 + abs(w))) ** 2)) for w in coefficients]
        return torch.outer(*profiles) / torch.outer(*profiles).sum()

    def quality(self, coefficients: np.ndarray) -> tuple[Quality, ...]:
        return (Quality("mean width", float(np.abs(coefficients).mean()), "pixels"),)


@pytest.fixture(params=["nm", "waves"])
def window(request, session_of, make_history, image, qtbot) -> Iterator[MainWindow]:
    profile = Profile(
        display=Display(units=request.param), drift=Drift(warn=0.2, alarm=0.4)
    )
    session = session_of(profile, Gaussian())
    session.history = make_history(100, 2)
    session.publish(image)
    window = MainWindow(session)
    qtbot.addWidget(window)
    window.show()
    window.refresh()
    yield window
    assert window.error == ""


def texts(window: MainWindow) -> list[str]:
    """Return all texts of the window but those of the controls and the status line."""
    drift = window.drift
    labels = [
        item.text for item in drift.change.scene().items() if hasattr(item, "setAttr")
    ]
    tips = [line for title in drift._titles for line in title.toolTip().split("\n")]
    return [
        *labels,
        *tips,
        drift.legend.text(),
        drift.legend.toolTip(),
        window.psf.estimated.text.text(),
        window.psf.true.text.text(),
    ]


def test_only_the_units_of_the_family_are_shown(window: MainWindow) -> None:
    shown = texts(window)
    for expected in (
        "coefficients, pixels",
        "change from baseline, pixels",
        "warn 0.2",
        "alarm 0.4",
        "Both signs blur.",
        "mean width\n0.050 pixels",
    ):
        assert expected in shown
    legend = window.drift.legend.text()
    assert "pixels · band" in legend
    assert "width &lt;x&gt;" in legend
    for foreign in ("wave", "nm", "Strehl", "focus"):
        assert not any(foreign in text for text in shown)


def test_values_are_not_scaled(window: MainWindow) -> None:
    history = window._session.history
    _, values = window.drift._curves[0].getData()
    assert values[-1] == history.coefficients[-1, 0]
    assert f"{history.coefficients[-1, 1]:+.2f}" in window.drift.legend.text()


def test_coefficients_may_have_another_unit_than_changes() -> None:
    family = Gaussian()
    family.metric = ChangeMetric(np.eye(2), "waves rms", "nm", 500.0)
    display = Display(units="nm")
    assert change_unit(family, display) == DisplayUnit("nm rms", 500.0)
    assert coefficient_unit(family, display) == DisplayUnit("pixels", 1.0)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0361, "0.036 px"), (38.88, "39 px"), (151.0, "150 px"), (1, "1 px")],
)
def test_text_has_two_significant_digits(value: float, text: str) -> None:
    assert DisplayUnit("px", 1.0).text(value) == text


def test_a_fixed_psf_has_no_curves(session_of, image, qtbot) -> None:
    psf = np.zeros((9, 9))
    psf[3:6, 3:6] = 1 / 9
    session = session_of(Profile(), FixedPsf(psf, 0.25))
    reason = "a fixed PSF is used"
    session.status = DriftStatus(DriftState.NOT_FOLLOWED, 0, 0, reason=reason)
    session.publish(image)
    window = MainWindow(session)
    qtbot.addWidget(window)
    window.show()
    window.refresh()
    assert window.error == ""
    assert window.drift.isHidden()
    labels = [label.text() for label in window.findChildren(QtWidgets.QLabel)]
    assert "PSF, measured" in labels
    assert "NOT FOLLOWED" in labels
    assert window.toolbar.chip.toolTip().startswith(reason)
    assert window.psf.estimated.text.text() == ""
