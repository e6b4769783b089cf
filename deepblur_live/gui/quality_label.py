"""How good the blur is, as a value, its error and a word, next to the state chip."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.gui.binding import QtCore, QtWidgets
from deepblur_live.gui.theme import GRADE_COLOURS
from deepblur_live.session.quality import BlurQuality, blur_quality

if TYPE_CHECKING:
    from deepblur_live.blur import BlurFamily
    from deepblur_live.drift import TrackState
    from deepblur_live.runtime.frame import FrameResult
    from deepblur_live.session.verification import Verification

__all__ = ["QualityLabel", "quality_texts"]


def quality_texts(
    quality: BlurQuality, verification: Verification
) -> tuple[str, str, str]:
    """Return the label's text, its tooltip, and its grade ("" for none).

    Estimates that were found to be wrong for this specimen get no grade.
    """
    if verification.unreliable:
        return f"{quality.text}?", f"{quality.details}\n{verification.text}", ""
    if quality.grade is None:
        return quality.text, quality.details, ""
    meaning = {
        "good": "a Strehl ratio of at least 0.8: practically free of aberrations",
        "fair": "a Strehl ratio of 0.5 to 0.8",
        "poor": "a Strehl ratio below 0.5: more than half of the peak is lost",
        "uncertain": "not known accurately enough to tell good from poor",
    }[quality.grade]
    tip = f"{quality.details}\n{quality.grade}: {meaning}\n{verification.text}"
    return f"{quality.text} · {quality.grade}", tip, str(quality.grade)


class QualityLabel(QtWidgets.QLabel):
    """Shows the quality of the blur from the first estimate on."""

    def __init__(self) -> None:
        super().__init__()
        self.setAlignment(QtCore.Qt.AlignmentFlag.AlignCenter)
        self._of: tuple[TrackState, Verification] | None = None
        self.hide()

    def show_result(
        self,
        result: FrameResult | None,
        family: BlurFamily,
        verification: Verification,
    ) -> None:
        """Show the quality of a result's blur; a result without one changes nothing."""
        track = None if result is None else result.track
        if (
            track is None
            or not family.n_coefficients
            or (
                self._of is not None
                and track is self._of[0]
                and verification is self._of[1]
            )
        ):
            return
        self._of = track, verification
        quality = blur_quality(family, track.coefficients, track.covariance)
        text, tip, grade = quality_texts(quality, verification)
        ground, ink = GRADE_COLOURS[grade]
        self.setStyleSheet(
            f"background: {ground}; color: {ink}; border-radius: 4px;"
            "padding: 3px 10px; font-weight: bold;"
        )
        self.setText(text)
        self.setToolTip(tip)
        self.show()
