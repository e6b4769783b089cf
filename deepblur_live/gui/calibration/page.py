"""Base class of the steps of a calibration, and the data that they share."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from deepblur_live.gui.binding import QtCore, QtWidgets, Signal

if TYPE_CHECKING:
    from deepblur_live.profile import Profile
    from deepblur_live.session import LiveSession

__all__ = ["CalibrationJob", "Page", "text_label"]


@dataclass
class CalibrationJob:
    """Input and recordings so far.

    Parameters
    ----------
    session
        The session whose frames and microscope are used.
    rig
        The session's profile with the optics that the user has confirmed.
    bead_nm
        Diameter of the beads, nm.
    folder
        Where stacks and calibrations are written; created with the first one.
    stacks
        One recording per state of the microscope.
    made
        Folder of the latest calibration, or None.
    printed
        Messages of `deepblur-live calibrate` about it.
    """

    session: LiveSession
    rig: Profile
    bead_nm: float = 0.0
    folder: Path = field(init=False)
    stacks: list[Path] = field(default_factory=list)
    made: Path | None = None
    printed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Propose a folder next to the session's own."""
        own = self.session.folder
        parent = Path.home() if own is None else own.parent
        self.folder = parent / f"beads_{datetime.now():%Y-%m-%d_%H-%M-%S}"


class Page(QtWidgets.QWidget):
    """One step.

    Parameters
    ----------
    job
        Shared by all steps.
    """

    title = ""
    """Name in the list of steps."""
    following = "Next"
    """Text of the button to the next step."""

    changed = Signal()
    """`problem` may have changed."""

    def __init__(self, job: CalibrationJob) -> None:
        super().__init__()
        self.job = job

    @property
    def problem(self) -> str:
        """Why the next step is not possible yet; empty if it is."""
        return ""

    @property
    def busy(self) -> bool:
        """Whether something runs that must end before another step."""
        return False

    def enter(self) -> None:
        """Prepare the step; called when it is shown."""

    def leave(self) -> None:
        """Stop what only the visible step needs; called before another is shown."""

    def end(self, timeout_s: float) -> bool:
        """End everything, as the window closes; False if something still runs."""
        self.leave()
        return True


def text_label(text: str = "") -> QtWidgets.QLabel:
    """Return a label for sentences: wrapped, plain text, selectable by mouse."""
    label = QtWidgets.QLabel(text)
    label.setWordWrap(True)
    label.setTextFormat(QtCore.Qt.TextFormat.PlainText)
    label.setTextInteractionFlags(QtCore.Qt.TextInteractionFlag.TextSelectableByMouse)
    return label
