"""Which optics are assumed, and whether microscope or recording contradict them."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from deepblur_live.session.stated_optics import assumed_optics, same_pixel_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from deepblur_live.profile import Profile
    from deepblur_live.runtime.frame import Frame
    from deepblur_live.session.notifier import Notifier

__all__ = ["OpticsCheck"]

_log = logging.getLogger(__name__)


class OpticsCheck:
    """Compares the profile's pixel size with the one that frames state.

    A contradiction is reported once and lasts until it is confirmed or gone; until then
    the coefficients are unreliable. All methods may be called from any thread.

    Parameters
    ----------
    profile
        The rig.
    notifier
        Logs a contradiction, and its confirmation or end, as events.
    denied
        Called with the reason while the optics are contradicted, with every frame.
    settled
        Called when they no longer are, with the last reason.

    Attributes
    ----------
    assumed
        Text on the optics that are not stated; empty if all are.
    contradiction
        Text on what contradicts them; empty if nothing does, or it was confirmed.
    """

    def __init__(
        self,
        profile: Profile,
        notifier: Notifier,
        denied: Callable[[str], None],
        settled: Callable[[str], None],
    ) -> None:
        self.assumed = assumed_optics(profile)
        self.contradiction = ""
        self._own_nm = profile.optics.pixel_size_nm
        self._notifier = notifier
        self._denied, self._settled = denied, settled
        self._lock = threading.Lock()
        self._confirmed_nm: float | None = None
        self._seen_nm: float | None = None
        if self.assumed:
            _log.warning("%s", self.assumed)

    @property
    def pixel_size_nm(self) -> float | None:
        """The profile's pixel size, for distances; None while it is contradicted."""
        return None if self.contradiction else self._own_nm

    def check_frame(self, frame: Frame) -> None:
        """Compare with the pixel size in a frame's metadata, if there is one.

        A core that has stated one before reports 0 for an objective without one.
        """
        size = frame.metadata.get("pixel_size_nm")
        if isinstance(size, int | float):
            recorded = frame.source == "replay"
            self.check(size, "the recording" if recorded else "the microscope")

    def check(self, size_nm: float, origin: str) -> None:
        """Compare with a pixel size from another source."""
        with self._lock:
            self._seen_nm = size_nm
            same = same_pixel_size(size_nm, self._own_nm)
            known = self._confirmed_nm
            if known is not None and same_pixel_size(size_nm, known):
                same = True
            before, text = self.contradiction, ""
            if not same:
                stated = (
                    f"states pixels of {size_nm:.4g} nm"
                    if size_nm > 0
                    else "no longer states a pixel size (another objective?)"
                )
                text = f"{origin} {stated}, the profile {self._own_nm:g} nm"
            self.contradiction = text
        if text and text != before:
            _log.warning("the optics are contradicted: %s", text)
            self._notifier.event("opticsContradicted", reason=text)
        if text:
            self._denied(text)
        elif before:
            self._notifier.event("opticsAgree", reason=before)
            self._settled(before)

    def confirm(self) -> None:
        """Continue with the profile's pixel size, although another one was stated."""
        with self._lock:
            reason, self.contradiction = self.contradiction, ""
            self._confirmed_nm = self._seen_nm
        if reason:
            self._notifier.event("opticsConfirmed", reason=reason)
            self._settled(reason)
