"""The form for a profile: made from the model, with the checks of the file."""

from __future__ import annotations

import pytest
from qtpy.QtWidgets import QFileDialog

from deepblur_live.gui.profile_dialog import ProfileDialog
from deepblur_live.profile import Drift, Profile, check_profile, load_profile
from deepblur_live.settings import Section


@pytest.fixture
def profile() -> Profile:
    optics = {"pixel_size_nm": 108.0}
    return check_profile({"name": "room 12", "optics": optics}, "")


@pytest.fixture
def dialog(profile, qtbot):
    dialog = ProfileDialog(profile)
    qtbot.addWidget(dialog)
    return dialog


def test_it_has_every_key(dialog) -> None:
    sections = {name: value for name, value in Profile() if isinstance(value, Section)}
    keys = {
        (s, key) for s, value in sections.items() for key in type(value).model_fields
    }
    assert set(dialog.fields) == keys | {("", "name")}


def test_only_changes_are_added(dialog, profile) -> None:
    given = {"name": "room 12", "optics": {"pixel_size_nm": 108.0}}
    assert dialog.content == given
    dialog.fields["optics", "numerical_aperture"].box.setText("1.2")
    dialog.fields["display", "units"].box.setCurrentText("waves")
    dialog.fields["optics", "noll"].box.setText("[4, 5, 6]")
    assert dialog.content == {
        "name": "room 12",
        "optics": {
            "pixel_size_nm": 108.0,
            "numerical_aperture": 1.2,
            "noll": [4, 5, 6],
        },
        "display": {"units": "waves"},
    }
    assert dialog.save.isEnabled() and dialog.mistakes.text() == ""


@pytest.mark.parametrize(
    ("place", "text", "said"),
    [
        (("optics", "numerical_aperture"), "9", "numerical_aperture"),
        (("optics", "wavelength_nm"), "0.54", "micrometres"),
        (("drift", "warn"), "many", "drift.warn"),
        (("model", "threads"), "2.5", "model.threads"),
    ],
)
def test_a_mistake_is_reported_as_for_the_file(dialog, place, text, said) -> None:
    dialog.fields[place].box.setText(text)
    assert said in dialog.mistakes.text() and not dialog.save.isEnabled()
    dialog.fields[place].box.setText(dialog.fields[place].begun_with)
    assert dialog.mistakes.text() == "" and dialog.save.isEnabled()


def test_it_is_saved_as_toml(dialog, tmp_path, monkeypatch) -> None:
    path = tmp_path / "rig.toml"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))
    saved = []
    dialog.saved.connect(saved.append)
    dialog.fields["drift", "warn"].box.setText("0.02")
    dialog.fields["model", "bead_diameter_nm"].box.setText("200.0")
    dialog.save.click()
    assert saved == [path]
    written = load_profile(path)
    assert written.drift.warn == 0.02 != Drift().warn
    assert written.model.bead_diameter_nm == 200.0
    assert written.optics.pixel_size_nm == 108.0


def test_a_file_that_cannot_be_written_is_reported(
    dialog, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path), ""))
    dialog.save.click()
    assert str(tmp_path) in dialog.mistakes.text()
