"""Raw and deblurred image: side by side, split, overlaid, or alternating."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from deepblur_live.gui.binding import QtCore, QtWidgets
from deepblur_live.gui.contrast import AutoContrast
from deepblur_live.gui.image_pane import ImagePane
from deepblur_live.gui.opacity_bar import OpacityBar
from deepblur_live.gui.rendering import displayable
from deepblur_live.gui.state_text import session_time
from deepblur_live.runtime.frame import FrameState

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.runtime.frame import FrameResult

__all__ = ["KEYS", "CompareMode", "ImagePair"]

RAW = "raw"
DEBLURRED = "deblurred (estimate)"
_FLICKER_MS = 600
_STEP = 0.1
"""Change of an overlay's opacity by a key."""

KEYS = (
    ("Space, held", "The deblurred image in place of the raw one"),
    ("← → ↑ ↓", "Move the view"),
    ("+ −", "Zoom in or out"),
    (", .", "In an overlay, more of the raw or of the deblurred image"),
)
"""The keys that `ImagePair.press` handles, with what they do."""


class CompareMode(StrEnum):
    """How the two images are compared."""

    SIDE = "side"
    SPLIT = "split"
    FLICKER = "flicker"
    OVERLAY = "overlay"


class ImagePair(QtWidgets.QWidget):
    """The raw and the deblurred image, with one zoom and two contrasts.

    Parameters
    ----------
    clip_percent
        Percentage of the pixels ignored at each end by the autocontrast.
    pixel_size_nm
        Size of a pixel, for the scale bars.
    """

    def __init__(self, clip_percent: float, pixel_size_nm: float) -> None:
        super().__init__()
        self._contrasts = (AutoContrast(clip_percent), AutoContrast(clip_percent))
        self._result: FrameResult | None = None
        self._held = self._swapped = self._locked = self._turned = False
        self._mode = CompareMode.SIDE
        self._auto = self._crosshair = True
        self._point: tuple[int, int] | None = None
        self._region: tuple[slice, slice] | None = None
        self.opacity = OpacityBar()
        self.opacity.hide()
        self.opacity.changed.connect(self._draw)
        self.raw = ImagePane(pixel_size_nm)
        self.deblurred = ImagePane(pixel_size_nm)
        self.deblurred.view_box.setXLink(self.raw.view_box)
        self.deblurred.view_box.setYLink(self.raw.view_box)
        column = QtWidgets.QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        row = QtWidgets.QHBoxLayout()
        row.setSpacing(8)
        for pane in (self.raw, self.deblurred):
            row.addWidget(pane, 1)
            pane.pointed.connect(self._on_pointed)
        column.addLayout(row, 1)
        column.addWidget(self.opacity)
        self._turns = QtCore.QTimer(self)
        self._turns.setInterval(_FLICKER_MS)
        self._turns.timeout.connect(self._on_turn)

    @property
    def mode(self) -> CompareMode:
        """How the two images are compared."""
        return self._mode

    @property
    def arrays(self) -> tuple[NDArray[Any] | None, NDArray[Any] | None]:
        """The raw and the deblurred image shown; None for one that is missing."""
        return self._images()

    @property
    def measured(self) -> tuple[NDArray[Any] | None, NDArray[Any] | None]:
        """The parts of both images from which levels and histograms are computed."""
        region = self._region
        if region is None:
            return self._images()
        raw, deblurred = (
            None if image is None else image[region] for image in self._images()
        )
        return raw, deblurred

    @property
    def levels(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Levels of the raw and of the deblurred image."""
        raw, deblurred = (contrast.levels for contrast in self._contrasts)
        return raw, raw if self._locked else deblurred

    def set_mode(self, mode: CompareMode) -> None:
        """Compare the images in this way."""
        self._mode, self._turned = mode, False
        self.deblurred.setVisible(mode is CompareMode.SIDE)
        self.opacity.setVisible(mode is CompareMode.OVERLAY)
        if mode is CompareMode.FLICKER:
            self._turns.start()
        else:
            self._turns.stop()
        self._draw()

    def set_levels(self, index: int, low: float, high: float) -> None:
        """Set the levels of the raw image (0) or the deblurred one (1) by hand."""
        self._contrasts[0 if self._locked else index].set(low, high)
        self._draw()

    def set_region(self, region: tuple[slice, slice] | None) -> None:
        """Take histograms and autocontrast from a region, or from the whole images."""
        self._region = region
        if self._auto and self._result is not None:
            for contrast in self._contrasts:
                contrast.restart()
            self._follow_contrast()
        self._draw()

    def set_pixel_size(self, pixel_size_nm: float | None) -> None:
        """Set the size of a pixel, for the scale bars; None if it isn't known."""
        for pane in (self.raw, self.deblurred):
            pane.set_pixel_size(pixel_size_nm)

    def show_waiting(self, text: str) -> None:
        """Show a text in both panes, before the first result."""
        for pane in (self.raw, self.deblurred):
            pane.show_nothing(text)

    def show_result(self, result: FrameResult) -> None:
        """Show a new result, with its own contrast if autocontrast is on."""
        self._result = result
        if self._auto:
            self._follow_contrast()
        self._draw()

    def paint_if_needed(self) -> None:
        """Redraw what has changed since the last call."""
        self.raw.paint_if_needed()
        self.deblurred.paint_if_needed()

    def press(self, key: int) -> bool:
        """Handle a key: Space swaps, arrows pan, plus and minus zoom, and so on.

        Returns
        -------
        handled
            False for any other key.
        """
        keys = QtCore.Qt.Key
        steps: dict[int, tuple[float, float]] = {
            keys.Key_Left: (-0.1, 0.0),
            keys.Key_Right: (0.1, 0.0),
            keys.Key_Up: (0.0, -0.1),
            keys.Key_Down: (0.0, 0.1),
        }
        if key in steps:
            self.raw.pan(*steps[key])
        elif key in (keys.Key_Plus, keys.Key_Equal, keys.Key_Minus):
            self.raw.zoom(0.8 if key == keys.Key_Minus else 1.25)
        elif key == keys.Key_Space:
            self.set_held(True)
        elif key in (keys.Key_Comma, keys.Key_Period):
            self.opacity.step(-_STEP if key == keys.Key_Comma else _STEP)
        else:
            return False
        return True

    def set_held(self, held: bool) -> None:
        """Show the deblurred image on the left while a key is held."""
        self._held = held
        self._draw()

    def set_swapped(self, swapped: bool) -> None:
        """Show the deblurred image on the left, or the raw one again."""
        self._swapped = swapped
        self._draw()

    def set_auto(self, auto: bool) -> None:
        """Adjust the levels to each frame, or keep the present ones."""
        self._auto = auto
        if auto and self._result is not None:
            self._follow_contrast()
        self._draw()

    def set_locked(self, locked: bool) -> None:
        """Use the levels of the raw image for both, or separate levels."""
        self._locked = locked
        self._draw()

    def set_frozen(self, frozen: bool) -> None:
        """Mark the images as frozen, or remove the mark."""
        for pane in (self.raw, self.deblurred):
            pane.set_badge("FROZEN" if frozen else "")

    def set_crosshair(self, shown: bool) -> None:
        """Show or hide the crosshair at the pointer in both images."""
        self._crosshair = shown
        if not shown:
            self._on_pointed(None)

    def _images(self) -> tuple[NDArray[Any] | None, NDArray[Any] | None]:
        result = self._result
        if result is None:
            return None, None
        deblurred = result.deblurred
        return displayable(result.raw), (
            None if deblurred is None else displayable(deblurred)
        )

    def _follow_contrast(self) -> None:
        for contrast, image in zip(self._contrasts, self.measured, strict=True):
            if image is not None:
                contrast.update(image)

    def _draw(self) -> None:
        result = self._result
        if result is None:
            return
        raw, deblurred = self._images()
        raw_levels, levels = self.levels
        # The reason of a result much below full strength also states the strength.
        why = f"\n{result.reason}" if result.reason else ""
        name = DEBLURRED
        if result.averaged > 1:
            name += f", mean of {result.averaged} frames"
        if result.strength < 1 and not why:
            name += f", {result.strength:.0%} strength"
        caption = _caption(name, levels) + why
        if raw is None:
            pixels = result.raw
            array = f"{pixels.dtype} array of shape {pixels.shape}"
            self.raw.show_nothing(f"cannot display a {array}", RAW)
        elif self._shows_deblurred() and deblurred is not None:
            self.raw.show_image(deblurred, caption, levels)
        else:
            text, second, share = _caption(RAW, raw_levels), None, None
            if self._mode is not CompareMode.SIDE and deblurred is None:
                text += f"\nnot deblurred{why}"
            elif self._mode is CompareMode.SPLIT and deblurred is not None:
                text, second = f"{text}\nright: {caption}", (deblurred, levels)
            elif self._mode is CompareMode.OVERLAY and deblurred is not None:
                share, second = self.opacity.share, (deblurred, levels)
                text += f"\n{share:.0%} {caption}"
            self.raw.show_image(raw, text, raw_levels, second, share)
        if deblurred is None:
            # An older image could be mistaken for this frame's.
            text = "raw only" if result.state is FrameState.RAW_ONLY else "no image"
            self.deblurred.show_nothing(f"{text}{why}", "not deblurred")
        else:
            self.deblurred.show_image(deblurred, caption, levels)
        self._write_readouts()

    def _shows_deblurred(self) -> bool:
        return (self._held != self._swapped) != self._turned

    def _on_turn(self) -> None:
        self._turned = not self._turned
        self._draw()

    def _on_pointed(self, point: tuple[int, int] | None) -> None:
        self._point = point if self._crosshair else None
        self._write_readouts()

    def _write_readouts(self) -> None:
        point = self._point
        for pane in (self.raw, self.deblurred):
            pane.set_cross(point if pane.image is not None else None)
            value = "" if point is None else pane.value_at(point)
            at = "" if point is None else f"x {point[0]}   y {point[1]}   "
            pane.set_readout(f"{at}{value}" if value else "")
        if point is None and self._result is not None:
            frame = self._result.info
            self.raw.set_readout(f"frame {frame.number}   {session_time(frame.time)}")


def _caption(name: str, levels: tuple[float, float]) -> str:
    low, high = (f"{v:.0f}" if abs(v) >= 1000 else f"{v:.4g}" for v in levels)
    return f"{name}   {low} – {high}"
