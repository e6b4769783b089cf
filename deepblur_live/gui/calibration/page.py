"""What the steps of a calibration have in common, and what they hand on."""

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
    """What has been given and recorded so far.

    Parameters
    ----------
    session
        Whose frames and microscope are used.
    rig
        The session's profile with the optics that the user has confirmed.
    bead_nm
        Diameter of the beads.
    folder
        Where stacks and calibrations are written; made when the first one is.
    stacks
        One recording a state of the microscope.
    made
        Folder of the latest calibration, or None.
    printed
        What `deepblur-live calibrate` has said of it.
    """

    session: LiveSession
    rig: Profile
    bead_nm: float = 0.0
    folder: Path = field(init=False)
    stacks: list[Path] = field(default_factory=list)
    made: Path | None = None
    printed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Propose a folder beside the session's own."""
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
    """In the list of steps."""

    following = "Next"
    """What the button to the next step says."""

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
        """Do what is to be done when the step is shown."""

    def leave(self) -> None:
        """End what only the shown step needs."""

    def end(self, timeout_s: float) -> bool:
        """End everything, as the window closes; False if something still runs."""
        self.leave()
        return True


def text_label(text: str = "") -> QtWidgets.QLabel:
    """Return a label for sentences: wrapped, plain, and copied with a pointer."""
    label = QtWidgets.QLabel(text)
    label.setWordWrap(True)
    label.setTextFormat(QtCore.Qt.TextFormat.PlainText)
    label.setTextInteractionFlags(QtCore.Qt.TextInteractionFlag.TextSelectableByMouse)
    return label
