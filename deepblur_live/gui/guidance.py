"""Texts of an empty window, and the reasons why actions are greyed out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.gui.state_text import waiting_text

if TYPE_CHECKING:
    from deepblur_live.gui.camera_link import CameraLink
    from deepblur_live.session import LiveSession

__all__ = ["idle_text", "needs_folder", "needs_frame", "needs_session"]


def idle_text(session: LiveSession, link: CameraLink | None = None) -> str:
    """Return the text of the image panes before the first result.

    Parameters
    ----------
    session
        The session.
    link
        The window's controls of the camera, or None.
    """
    statistics = session.listener.statistics
    if link is not None and statistics.captured == 0:
        if link.acquiring:
            return "an acquisition is running: waiting for its first frame"
        if link.exposure_ms is None:
            return "the core has no camera: load its configuration"
        if not link.live:
            return (
                "No frames yet. Press Live (L) for the camera's frames or Snap (S) for "
                "one, or start an acquisition."
            )
    return waiting_text(statistics)


def needs_session(session: LiveSession) -> str:
    """Return why an action cannot reach the session, or empty."""
    return "the session has ended" if session.closed else ""


def needs_frame(shown: object | None) -> str:
    """Return why there is no frame to save, or empty."""
    return "" if shown is not None else "no frame has been shown yet"


def needs_folder(session: LiveSession) -> str:
    """Return why there is nothing to report, or empty."""
    if session.folder is None:
        return "this session writes nothing to disk"
    if not session.family.n_coefficients:
        return "a fixed PSF is used: nothing is identified"
    return "" if session.listener.latest is not None else "no frame has a result yet"
