"""Every frame of a core: MDA and snapped frames by events, live ones by polling."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from deepblur_live.acquisition.core_region import CoreRegion
from deepblur_live.acquisition.core_signals import connect_direct, let_core_exit
from deepblur_live.acquisition.live import LiveTap
from deepblur_live.acquisition.metadata import mda_metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray
    from pymmcore_plus import CMMCorePlus

    from deepblur_live.acquisition.missed import Missed

__all__ = ["CoreSource"]


class CoreSource:
    """Connects to a core until `close`.

    Parameters
    ----------
    core
        Held weakly: a core that its owner drops is freed, and its frames end.
    accept
        Called with (pixels, metadata, source) of each frame, on the thread that
        acquires it: it must return quickly. The source is "mda", "live" or "snap".
    on_missed, every
        Passed to the `LiveTap`: called with missed live frames, and whether every frame
        is wanted.
    report
        Called from any thread with an error; nothing is raised into the core.
    """

    def __init__(
        self,
        core: CMMCorePlus,
        accept: Callable[[NDArray[Any], Mapping[str, Any], str], object],
        *,
        on_missed: Callable[[Missed], None],
        every: Callable[[], bool],
        report: Callable[[str], None],
    ) -> None:
        self._core = weakref.ref(core)
        self.sequence: object = None
        """The sequence of the most recent MDA."""
        self.live_mode = False
        """Whether the last sequence was live mode; False before the first one."""
        self._region = CoreRegion(core)
        self._accept = accept
        self._report = report
        let_core_exit(core)
        self._tap = LiveTap(
            core,
            lambda pixels, metadata: self._take(pixels, metadata, "live"),
            on_missed=on_missed,
            every=every,
            on_error=report,
        )
        mda, events = core.mda.events, core.events
        self._disconnects = [
            connect_direct(signal, slot)
            for signal, slot in (
                (mda.sequenceStarted, self._on_sequence_started),
                (mda.frameReady, self._on_frame_ready),
                (events.imageSnapped, self._on_image_snapped),
                (events.continuousSequenceAcquisitionStarted, self._on_live_started),
                (events.sequenceAcquisitionStarted, self._on_series_started),
                (events.sequenceAcquisitionStopped, self._on_sequence_stopped),
            )
        ]
        self._tap.start()

    @property
    def core(self) -> CMMCorePlus | None:
        """The core, or None once it has been freed."""
        return self._core()

    def close(self) -> None:
        """Disconnect everything and end the tap."""
        # Kept until then: disconnecting from a Qt signal that was freed with its core
        # would crash.
        core = self.core
        for disconnect in self._disconnects if core is not None else ():
            disconnect()
        self._disconnects = []
        self._tap.stop()

    def _take(
        self, pixels: NDArray[Any], metadata: Mapping[str, Any], source: str
    ) -> None:
        placed = {**metadata, **self._region.metadata(pixels.shape)}
        self._accept(pixels, placed, source)

    def _on_sequence_started(self, sequence: object = None, *_: object) -> None:
        self._region.changed()
        self.sequence = sequence

    def _on_frame_ready(
        self, image: Any, event: object = None, metadata: object = None
    ) -> None:
        try:
            self._take(image, mda_metadata(event, metadata), "mda")
        except Exception as error:
            self._report(f"a frame of the MDA was lost: {error!r}")

    def _on_image_snapped(self, *_: object) -> None:
        try:
            core = self.core
            if core is None or core.mda.is_running():
                return  # the MDA emits the same frame with frameReady
            metadata = {
                "exposure_ms": core.getExposure(),
                "camera": core.getCameraDevice(),
            }
            self._region.changed()
            self._take(core.getImage(), metadata, "snap")
        except Exception as error:
            self._report(f"a snapped frame was lost: {error!r}")

    def _on_live_started(self, *_: object) -> None:
        self._region.changed()
        self.live_mode = True
        self._tap.sequence_began(continuous=True)

    def _on_series_started(self, *_: object) -> None:
        self._region.changed()
        self.live_mode = False
        self._tap.sequence_began()

    def _on_sequence_stopped(self, *_: object) -> None:
        self._tap.sequence_stopped()
