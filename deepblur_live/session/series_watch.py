"""The state of a session for each channel, position and plane."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from deepblur_live.drift import DriftState
from deepblur_live.runtime.series_key import MOST_SERIES, SeriesKey

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from deepblur_live.blur import BlurFamily
    from deepblur_live.blur.symmetry import Symmetry
    from deepblur_live.drift import Alert, DriftStatus, DriftWatch
    from deepblur_live.session.absolute import AbsoluteEstimates
    from deepblur_live.session.comparability import Comparability
    from deepblur_live.session.history import History, HistoryBuffer
    from deepblur_live.session.strength import StrengthWatch
    from deepblur_live.session.verification import Verification

__all__ = ["SeriesHistory", "SeriesWatch", "SeriesWatches", "overall"]

# The session shows the most severe state of its series.
_SEVERITY = {DriftState.BASELINING: 1, DriftState.WARN: 2, DriftState.ALARM: 3}


@dataclass(eq=False)
class SeriesWatch:
    """One series with its baseline, charts and history.

    Parameters
    ----------
    key
        Channel, position and plane of its frames.
    family
        The blurs, at the channel's wavelength.
    monitor, comparability, absolute, history, strength
        The series' own drift monitor, comparisons, verification, history and notes.
    equivalents
        Symmetries of the family that nothing resolves.
    contradiction
        Last reported contradiction of the estimates.
    """

    key: SeriesKey
    family: BlurFamily
    monitor: DriftWatch
    comparability: Comparability
    absolute: AbsoluteEstimates
    history: HistoryBuffer
    strength: StrengthWatch
    equivalents: Sequence[Symmetry]
    contradiction: str = field(default="")

    def named(self, alert: Alert) -> Alert:
        """Return an alert whose text names the series."""
        name = self.key.text
        if not name:
            return alert
        return replace(alert, series=name, text=f"{name}: {alert.text}")


@dataclass(frozen=True)
class SeriesHistory:
    """The part of a session that a drift plot shows.

    Parameters
    ----------
    key
        The series.
    family
        The blurs, at its wavelength.
    points
        Coefficients and change over time.
    alerts
        Alerts of the series, oldest first.
    verification
        Whether evidence beyond the frames confirms the coefficients.
    """

    key: SeriesKey
    family: BlurFamily
    points: History
    alerts: Sequence[Alert]
    verification: Verification


class SeriesWatches:
    """The series of a session, begun with their first frames.

    There is always one. Written by the thread that takes in results, read by any.

    Parameters
    ----------
    make
        Creates a series.
    default_optics
        Whether a channel has the wavelength of the profile: the first series of such a
        channel is the one that exists from the start.
    most
        Maximum number of series: the one whose last frame is oldest ends.
    """

    def __init__(
        self,
        make: Callable[[SeriesKey], SeriesWatch],
        default_optics: Callable[[str], bool],
        most: int = MOST_SERIES,
    ) -> None:
        self._make, self._default_optics, self._most = make, default_optics, most
        self._spare: SeriesWatch | None = make(SeriesKey())
        # The most recent last.
        self._recent: OrderedDict[SeriesKey, SeriesWatch] = OrderedDict()
        self._newest = self._spare
        self._all: tuple[SeriesWatch, ...] = (self._spare,)

    def of(self, key: SeriesKey) -> SeriesWatch:
        """Return the series of a frame, which begins with its first."""
        watch = self._recent.get(key)
        if watch is None:
            watch = self._begin(key)
        self._recent.move_to_end(key)
        self._newest = watch
        return watch

    def _begin(self, key: SeriesKey) -> SeriesWatch:
        if self._spare is not None and self._default_optics(key.channel):
            watch, self._spare = self._spare, None
            watch.key = key
        else:
            watch = self._make(key)
        kept = self._all if self._recent else ()
        self._recent[key] = watch
        if len(self._recent) > self._most:
            _, oldest = self._recent.popitem(last=False)
            kept = tuple(other for other in kept if other is not oldest)
        self._all = (*kept, watch)
        return watch

    @property
    def all(self) -> tuple[SeriesWatch, ...]:
        """All series, in the order of their first frames."""
        return self._all

    @property
    def newest(self) -> SeriesWatch:
        """The series of the newest frame."""
        return self._newest

    def find(self, key: SeriesKey | None) -> SeriesWatch:
        """Return a series; that of the newest frame for None, or if it has ended."""
        return next((w for w in self._all if w.key == key), self._newest)


def overall(
    watches: Sequence[SeriesWatch], newest: SeriesWatch | None = None
) -> DriftStatus:
    """Return the status of the series that needs most attention, with its name.

    The first of several with the same state; a series without a baseline precedes
    unchanged ones. A preview without a baseline does not count during an MDA, nor an
    MDA's series during live mode: they get no more frames.
    """
    states = [(watch, watch.monitor.status) for watch in watches]

    def attention(pair: tuple[SeriesWatch, DriftStatus]) -> int:
        watch, status = pair
        ended = newest is not None and (watch.key == SeriesKey()) != (
            newest.key == SeriesKey()
        )
        if ended and status.state is DriftState.BASELINING:
            return -1
        return _SEVERITY.get(status.state, 0)

    watch, status = max(states, key=attention)
    if len(watches) == 1 or not watch.key.text:
        return status
    name = watch.key.text
    return replace(status, reason=": ".join(filter(None, (name, status.reason))))
