"""The opacity of the deblurred image where it is laid over the raw one."""

from __future__ import annotations

from deepblur_live.gui.binding import QtCore, QtWidgets, Signal

__all__ = ["OpacityBar"]


class OpacityBar(QtWidgets.QWidget):
    """A slider from the raw image to the deblurred one, initially in the middle."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.slider = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal)
        self.slider.setRange(0, 100)
        self.slider.setValue(50)
        self.slider.setPageStep(10)
        self.slider.setMaximumWidth(260)
        self.slider.setAccessibleName("Opacity of the deblurred image")
        self.slider.setToolTip("Opacity of the deblurred image (, and .)")
        # After a click, the arrows still move the view.
        self.slider.setFocusPolicy(QtCore.Qt.FocusPolicy.TabFocus)
        self.slider.valueChanged.connect(self.changed)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addStretch(1)
        row.addWidget(QtWidgets.QLabel("raw"))
        row.addWidget(self.slider, 4)
        row.addWidget(QtWidgets.QLabel("deblurred"))
        row.addStretch(1)

    @property
    def share(self) -> float:
        """The opacity, from 0 to 1."""
        return self.slider.value() / 100

    def step(self, change: float) -> None:
        """Change the opacity by `change`, within its range of 0 to 1."""
        self.slider.setValue(self.slider.value() + round(100 * change))
