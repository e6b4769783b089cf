"""A form for a profile, made from its model: the same keys, ranges and checks."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from deepblur_live.gui.binding import QtWidgets, Signal
from deepblur_live.profile import Profile, ProfileError, check_profile, write_profile
from deepblur_live.settings import Section, meaning

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

__all__ = ["ProfileDialog"]

_ORIGIN = "profile"


class ProfileDialog(QtWidgets.QDialog):
    """Edits a copy of a profile and writes it to a file; a session keeps its own.

    Parameters
    ----------
    profile
        The initial values.
    parent
        The window.
    """

    saved = Signal(object)
    """The path of the file."""

    def __init__(
        self, profile: Profile, parent: QtWidgets.QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle(f"Profile · {profile.name}")
        self._begun_with = profile.model_dump(mode="json", exclude_unset=True)
        # By section and key; the section of the plain keys is empty.
        self.fields: dict[tuple[str, str], _Field] = {}
        self._tabs = QtWidgets.QTabWidget()
        plain = {
            key: field
            for key, field in Profile.model_fields.items()
            if not isinstance(getattr(profile, key), Section | Mapping)
        }
        self._add_tab("rig", "", profile, plain)
        for key in Profile.model_fields:
            section = getattr(profile, key)
            if isinstance(section, Section):
                self._add_tab(key, key, section, type(section).model_fields)
        self.mistakes = QtWidgets.QLabel()
        self.mistakes.setWordWrap(True)
        self.save = QtWidgets.QPushButton("Save as …")
        self.save.clicked.connect(self._on_save)
        row = QtWidgets.QHBoxLayout()
        row.addWidget(self.mistakes, 1)
        row.addWidget(self.save)
        column = QtWidgets.QVBoxLayout(self)
        column.addWidget(self._tabs)
        column.addLayout(row)
        self.resize(640, 520)
        self._check()

    @property
    def content(self) -> dict[str, Any]:
        """The settings that were given before, or have been changed here."""
        content = {
            key: dict(value) if isinstance(value, dict) else value
            for key, value in self._begun_with.items()
        }
        for (section, key), field in self.fields.items():
            if field.text == field.begun_with:
                continue
            table = content.setdefault(section, {}) if section else content
            if field.value is None:
                table.pop(key, None)
            else:
                table[key] = field.value
        return content

    def _add_tab(
        self, title: str, section: str, values: Section, fields: dict[str, FieldInfo]
    ) -> None:
        form = QtWidgets.QWidget()
        layout = QtWidgets.QFormLayout(form)
        for key, info in fields.items():
            field = _Field(info, getattr(values, key))
            field.changed.connect(self._check)
            self.fields[section, key] = field
            layout.addRow(key, field)
        area = QtWidgets.QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QtWidgets.QFrame.Shape.NoFrame)
        area.setWidget(form)
        self._tabs.addTab(area, title)

    def _check(self) -> None:
        """Show the errors that loading the file would report."""
        try:
            check_profile(self.content, _ORIGIN)
        except ProfileError as error:
            self.mistakes.setText("⚠ " + str(error).replace(f"{_ORIGIN}: ", ""))
            self.save.setEnabled(False)
        else:
            self.mistakes.setText("")
            self.save.setEnabled(True)

    def _on_save(self) -> None:
        profile = check_profile(self.content, _ORIGIN)
        name, _ = QtWidgets.QFileDialog.getSaveFileName(
            self, "Save the profile", str(Path.home() / "rig.toml"), "Profiles (*.toml)"
        )
        if not name:
            return
        path = Path(name)
        try:
            write_profile(profile, path)
        except OSError as error:
            self.mistakes.setText(f"⚠ {path}: {error.strerror}")
            return
        self.saved.emit(path)
        self.close()


class _Field(QtWidgets.QWidget):
    """A value as TOML has it, or a choice, with its meaning below."""

    changed = Signal()

    def __init__(self, info: FieldInfo, value: Any) -> None:
        super().__init__()
        self._is_text = info.annotation is str or get_origin(info.annotation) is Literal
        extra = info.json_schema_extra
        example = extra.get("example") if isinstance(extra, dict) else None
        self.begun_with = self._written(value)
        self.box: QtWidgets.QComboBox | QtWidgets.QLineEdit
        if get_origin(info.annotation) is Literal:
            self.box = QtWidgets.QComboBox()
            self.box.addItems([str(choice) for choice in get_args(info.annotation)])
            self.box.setCurrentText(self.begun_with)
            self.box.currentTextChanged.connect(self.changed)
        else:
            self.box = QtWidgets.QLineEdit(self.begun_with)
            self.box.textChanged.connect(self.changed)
            if example is not None:
                self.box.setPlaceholderText(f"not set; such as {json.dumps(example)}")
        explained = QtWidgets.QLabel(meaning(info))
        explained.setWordWrap(True)
        explained.setForegroundRole(self.palette().ColorRole.PlaceholderText)
        column = QtWidgets.QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 6)
        column.setSpacing(1)
        column.addWidget(self.box)
        column.addWidget(explained)
        self.setFocusProxy(self.box)

    @property
    def text(self) -> str:
        """Text in the box."""
        if isinstance(self.box, QtWidgets.QComboBox):
            return self.box.currentText()
        return self.box.text().strip()

    @property
    def value(self) -> Any:
        """The value; or the text if it is not valid TOML, for the check to reject."""
        if not self.text:
            return None
        if self._is_text:
            return self.text
        try:
            return tomllib.loads(f"value = {self.text}")["value"]
        except tomllib.TOMLDecodeError:
            return self.text

    def _written(self, value: Any) -> str:
        if value is None:
            return ""
        return str(value) if self._is_text else json.dumps(value, ensure_ascii=False)
