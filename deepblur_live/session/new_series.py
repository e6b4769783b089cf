"""How a session begins to follow a channel, position and plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.blur import ResolvedBy, orbit
from deepblur_live.calibration.rig import rig_family
from deepblur_live.drift import DriftMonitor, DriftWatch, EstimateCheck, SpectralMonitor
from deepblur_live.session.absolute import AbsoluteEstimates
from deepblur_live.session.comparability import Comparability
from deepblur_live.session.history import HistoryBuffer
from deepblur_live.session.measured_blur import monitor_of
from deepblur_live.session.series_watch import SeriesWatch
from deepblur_live.session.strength import StrengthWatch

if TYPE_CHECKING:
    from deepblur_live.blur import BlurFamily
    from deepblur_live.blur.estimate import ErrorModel
    from deepblur_live.profile import Profile
    from deepblur_live.runtime.series_key import SeriesKey
    from deepblur_live.session.notifier import Notifier

__all__ = ["begin_series"]


def begin_series(
    key: SeriesKey,
    profile: Profile,
    family: BlurFamily,
    errors: ErrorModel,
    notifier: Notifier,
) -> SeriesWatch:
    """Return a series with its own baseline, charts and history, all empty.

    Parameters
    ----------
    key
        Channel, position and plane of its frames.
    profile, family
        The rig and its blurs; for a channel of another wavelength the blurs are
        recomputed.
    errors
        Error model of the estimates.
    notifier
        Where its events go.
    """
    wavelength = profile.wavelength_of(key.channel)
    if wavelength != profile.optics.wavelength_nm:
        family = rig_family(profile.at_wavelength(wavelength))
    monitor = DriftWatch(
        monitor_of(profile, family, errors)
        or DriftMonitor(family, profile.drift, errors),
        SpectralMonitor(family.cutoff, profile.drift),
        check=EstimateCheck(family, profile.drift),
    )
    return SeriesWatch(
        key,
        family,
        monitor,
        Comparability(monitor, notifier, profile.camera.offset_adu),
        AbsoluteEstimates(
            family,
            errors,
            monitor,
            notifier,
            profile.drift,
            beads=profile.model.bead_diameter_nm is not None,
        ),
        HistoryBuffer(family.n_coefficients),
        StrengthWatch(notifier),
        orbit(family, ResolvedBy.NEVER),
    )
