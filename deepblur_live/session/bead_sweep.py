"""A z-stack of a bead slide, recorded in a running session for a calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import tifffile

from deepblur_live.acquisition.focus_sweep import acquire_sweep
from deepblur_live.calibration.stack import LARGEST_DEFOCUS
from deepblur_live.identification import SweepError
from deepblur_live.optics.pupil import defocus_per_um
from deepblur_live.session.focus_sweep import microscope, undisturbed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray
    from pymmcore_plus import CMMCorePlus

    from deepblur_live.acquisition.focus_sweep import AcquiredSweep
    from deepblur_live.profile import Optics
    from deepblur_live.session.live import LiveSession

__all__ = ["BeadSweep", "SweepCancelled", "suggested_sweep", "sweep_beads"]

# Range of the sweep over the defocus within which planes are used, as the beads may be
# a little out of focus at the start; and planes within that defocus.
_ROOM, _PLANES = 1.25, 4
# Fewest planes that a calibration can use, and most that are kept in memory.
_LEAST_PLANES, _MOST_PLANES = 3, 101


class SweepCancelled(SweepError):
    """The user has cancelled the sweep; the focus drive is back."""


@dataclass(frozen=True)
class BeadSweep:
    """The planes of a sweep around the present focus.

    Parameters
    ----------
    range_um
        Largest offset, to each side.
    step_um
        Distance between planes.

    Raises
    ------
    ValueError
        There would be fewer than three planes, or more than 101.
    """

    range_um: float
    step_um: float

    def __post_init__(self) -> None:
        """Check the number of planes."""
        if not 0 < self.step_um <= self.range_um:
            raise ValueError(
                f"a step of {1000 * self.step_um:g} nm in a range of "
                f"{1000 * self.range_um:g} nm: a calibration needs at least "
                f"{_LEAST_PLANES} planes"
            )
        if (count := len(self.offsets_um)) > _MOST_PLANES:
            raise ValueError(
                f"{count} planes: at most {_MOST_PLANES} are recorded; make the step "
                "larger or the range smaller"
            )

    @property
    def offsets_um(self) -> NDArray[np.float64]:
        """Offsets (K,) of the planes from the present focus, increasing."""
        # A range of a whole number of steps may be a little less after rounding.
        count = int(self.range_um / self.step_um + 1e-6)
        return self.step_um * np.arange(-count, count + 1, dtype=np.float64)


def suggested_sweep(optics: Optics) -> BeadSweep:
    """Return a sweep whose planes reach a little beyond those that a fit uses.

    Those within 0.4 waves rms of defocus, nine of them, with a quarter more range
    (docs/decisions/0183-bead-stacks.md).
    """
    waves_per_um = defocus_per_um(
        optics.numerical_aperture / optics.refractive_index,
        optics.refractive_index,
        optics.wavelength_nm,
    )
    step_nm = 1000 * LARGEST_DEFOCUS / waves_per_um / _PLANES
    step_um = round(step_nm, -1 if step_nm >= 100 else 0) / 1000
    return BeadSweep(round(_ROOM * _PLANES) * step_um, step_um)


def sweep_beads(
    session: LiveSession,
    sweep: BeadSweep,
    path: Path,
    pixel_size_nm: float,
    progress: Callable[[float], None] = lambda share: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> None:
    """Record the planes of a sweep of a session's microscope as an OME-TIFF.

    Live mode or a running MDA is paused for the sweep. The focus drive returns to its
    position, also after an error or when the sweep is cancelled. The frames do not
    reach the session; the sweep is an event in its log. Call it from a separate thread.

    Parameters
    ----------
    session
        A session with a microscope.
    sweep
        The planes.
    path
        The file, which must not exist; its folder is created.
    pixel_size_nm
        Pixel size in the specimen, which is written to the file.
    progress
        Called with the share that is done, 0 to 1, on the calling thread.
    cancelled
        Asked before each plane.

    Raises
    ------
    SweepCancelled
        `cancelled` has returned True.
    SweepError
        The session has no microscope, the acquisition does not pause, or camera or
        stage fail; the text says what failed, and where the focus drive is.
    OSError
        The file cannot be written.
    """
    core, offsets = microscope(session), sweep.offsets_um
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0

    def advance(done: int) -> None:
        nonlocal count
        count = done
        progress(done / len(offsets))
        if cancelled():
            raise SweepCancelled("cancelled")

    with undisturbed(session, core):
        try:
            made = acquire_sweep(
                core, offsets, range_um=float(offsets.max()), progress=advance
            )
        except SweepCancelled:
            raise SweepCancelled(f"The sweep was cancelled. {_place(core)}") from None
        except SweepError as error:
            raise SweepError(_failed("", error, core)) from error
        # Whatever the driver of a camera or a stage raises.
        except Exception as error:
            where = f" at plane {count + 1} of {len(offsets)}"
            raise SweepError(_failed(where, error, core)) from error
    _write(path, made, pixel_size_nm / 1000)
    session.note(
        "beadSweep",
        file=str(path),
        planes=len(made.frames),
        step_um=_step_um(made),
        position_um=made.start_um,
    )
    progress(1.0)


def _failed(where: str, error: Exception, core: CMMCorePlus) -> str:
    reason = str(error) or type(error).__name__
    end = "" if reason.endswith((".", "?")) else "."
    return f"The sweep failed{where}: {reason}{end} {_place(core)}"


def _place(core: CMMCorePlus) -> str:
    """Return a sentence about where the focus drive is."""
    try:
        stage = core.getFocusDevice()
        at_um = core.getPosition(stage)
    except Exception:  # whatever a driver raises
        return "The position of the focus drive cannot be read: check it."
    return f"{stage} is at {at_um:.3f} µm."


def _step_um(made: AcquiredSweep) -> float:
    return float(np.ptp(made.z_um)) / (len(made.z_um) - 1)


def _write(path: Path, made: AcquiredSweep, pixel_um: float) -> None:
    metadata = {
        "axes": "ZYX",
        "PhysicalSizeX": pixel_um,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": pixel_um,
        "PhysicalSizeYUnit": "µm",
        # As reported by the stage, which is more accurate than the requested step.
        "PhysicalSizeZ": round(_step_um(made), 6),
        "PhysicalSizeZUnit": "µm",
    }
    with path.open("xb") as stream:
        try:
            tifffile.imwrite(
                stream,
                np.stack(made.frames),
                ome=True,
                photometric="minisblack",
                metadata=metadata,
            )
        except BaseException:  # leave no file that is cut off
            stream.close()
            path.unlink()
            raise
