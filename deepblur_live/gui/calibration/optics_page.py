"""Step 1: the optics and the beads; what the profile does not state is asked for."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepblur_live.gui.binding import QtWidgets
from deepblur_live.gui.calibration.page import Page, text_label
from deepblur_live.profile import Optics, Profile, ProfileError, check_profile
from deepblur_live.session.stated_optics import same_pixel_size
from deepblur_live.settings import meaning

if TYPE_CHECKING:
    from deepblur_live.gui.calibration.page import CalibrationJob

__all__ = ["OpticsPage"]

_ORIGIN = "optics"
_OPTICS = {
    "numerical_aperture": "NA",
    "wavelength_nm": "Emission (nm)",
    "refractive_index": "Index of the immersion",
    "pixel_size_nm": "Pixel in the specimen (nm)",
}
_BEAD = "Diameter of the beads (nm)"
# As the profile's key allows.
_SMALLEST_NM, _LARGEST_NM = 20.0, 20_000.0
_DEEPER = {
    "larger": "larger positions are deeper in the specimen",
    "smaller": "smaller positions are deeper in the specimen",
}


class OpticsPage(Page):
    """Shows the optics that the profile states, and asks for the others."""

    title = "Optics"

    def __init__(self, job: CalibrationJob) -> None:
        super().__init__(job)
        profile = job.session.profile
        self._problem = ""
        self._size_nm = self._core_pixel_nm()
        form = QtWidgets.QFormLayout()
        form.setFieldGrowthPolicy(
            QtWidgets.QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow
        )
        self.fields: dict[str, QtWidgets.QLineEdit] = {}
        for key, name in _OPTICS.items():
            box = self.fields[key] = QtWidgets.QLineEdit()
            explained = meaning(Optics.model_fields[key])
            box.setToolTip(explained)
            box.setPlaceholderText(explained)
            if key in profile.optics.model_fields_set:
                box.setText(f"{getattr(profile.optics, key):g}")
            elif key == "pixel_size_nm" and self._size_nm is not None:
                box.setText(f"{self._size_nm:.4g}")
            form.addRow(name, box)
        self.bead = QtWidgets.QLineEdit()
        self.bead.setPlaceholderText("as stated on the bottle; 100 to 200 work well")
        if profile.model.bead_diameter_nm is not None:
            self.bead.setText(f"{profile.model.bead_diameter_nm:g}")
        form.addRow(_BEAD, self.bead)
        self.deeper = QtWidgets.QComboBox()
        for key, text in _DEEPER.items():
            self.deeper.addItem(text, key)
        self.deeper.setCurrentIndex(self.deeper.findData(profile.stage.deeper))
        self.deeper.setToolTip(
            "To find out, compare the positions of the coverslip and of a cell on it. "
            "This sets the sign of defocus, astigmatism and spherical aberration"
        )
        form.addRow("Focus drive", self.deeper)
        self.folder = QtWidgets.QLineEdit(str(job.folder))
        browse = QtWidgets.QPushButton("Browse …")
        browse.clicked.connect(self._on_browse)
        row = QtWidgets.QHBoxLayout()
        row.addWidget(self.folder, 1)
        row.addWidget(browse)
        form.addRow("Save in", row)
        self.message = text_label()
        column = QtWidgets.QVBoxLayout(self)
        column.addWidget(
            text_label(
                "A stack of a bead slide through focus measures this microscope's own "
                "blur. Put a slide of fluorescent beads of one size under the "
                "objective, with the immersion and a coverslip as in your experiments, "
                "and check the optics."
            )
        )
        column.addSpacing(8)
        column.addLayout(form)
        column.addSpacing(8)
        column.addWidget(self.message)
        column.addStretch(1)
        for box in (*self.fields.values(), self.bead, self.folder):
            box.textChanged.connect(self._check)
        self.deeper.currentIndexChanged.connect(self._check)
        self._check()

    @property
    def problem(self) -> str:
        """What is missing or wrong."""
        return self._problem

    def _check(self) -> None:
        self._problem, note = "", ""
        try:
            rig, bead_nm = self._answers()
        except ValueError as error:
            self._problem = str(error)
        else:
            self.job.rig, self.job.bead_nm = rig, bead_nm
            self.job.folder = Path(self.folder.text().strip())
            own_nm = rig.optics.pixel_size_nm
            if self._size_nm and not same_pixel_size(self._size_nm, own_nm):
                note = (
                    f"The microscope states pixels of {self._size_nm:.4g} nm, and "
                    f"{own_nm:g} nm are given here. Which is right?"
                )
        text = self._problem or note
        self.message.setText(f"⚠ {text}" if text else "")
        self.changed.emit()

    def _answers(self) -> tuple[Profile, float]:
        """Return the rig and the beads' diameter.

        Raises
        ------
        ValueError
            Something is missing or wrong; the text says what.
        """
        content = self.job.session.profile.model_dump(mode="json", exclude_unset=True)
        optics: dict[str, Any] = content.setdefault("optics", {})
        missing = [name for k, name in _OPTICS.items() if not self.fields[k].text()]
        if not self.bead.text().strip():
            missing.append(_BEAD)
        if missing:
            raise ValueError(f"Please give: {', '.join(missing)}.")
        for key, name in _OPTICS.items():
            optics[key] = _number(name, self.fields[key].text())
        bead_nm = _number(_BEAD, self.bead.text())
        if not _SMALLEST_NM <= bead_nm <= _LARGEST_NM:
            raise ValueError(
                f"{_BEAD}: must be from {_SMALLEST_NM:g} to {_LARGEST_NM:g}, "
                f"not {bead_nm:g}."
            )
        if not self.folder.text().strip():
            raise ValueError("Please choose a folder for the stacks.")
        content.setdefault("stage", {})["deeper"] = self.deeper.currentData()
        try:
            return check_profile(content, _ORIGIN), bead_nm
        except ProfileError as error:
            raise ValueError(str(error).replace(f"{_ORIGIN}: ", "")) from error

    def _core_pixel_nm(self) -> float | None:
        core = self.job.session.core
        size_um = 0.0 if core is None else core.getPixelSizeUm()
        return 1000 * size_um if size_um > 0 else None

    def _on_browse(self) -> None:
        parent = Path(self.folder.text()).parent
        name = QtWidgets.QFileDialog.getExistingDirectory(
            self, "Create the folder in", str(parent)
        )
        if name:
            self.folder.setText(str(Path(name) / self.job.folder.name))


def _number(name: str, text: str) -> float:
    """Return a number, written with a point or a comma."""
    try:
        value = float(text.strip().replace(",", "."))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{name}: {text.strip()} is not a number.")
    return value
