"""Frames of several channels, positions and planes, each with its own pipeline."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from deepblur_live.drift import Gaussian
from deepblur_live.runtime.inner_pipelines import InnerFuture, RetiredPipelines
from deepblur_live.runtime.series_key import MOST_SERIES, SeriesKey, series_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from deepblur_live.drift import TrackState
    from deepblur_live.runtime.frame import (
        Frame,
        FrameFuture,
        FramePipeline,
        FrameResult,
    )

__all__ = ["ColourParts", "SeriesPipeline"]

# Maximum number of dropped series that are named: a scan may have thousands.
_MOST_NAMED = 8


class ColourParts(NamedTuple):
    """The parts that the series of one wavelength share.

    Parameters
    ----------
    make
        Builds the pipeline of one of them.
    covariance
        (P, P) of the family's prior.
    """

    make: Callable[[], FramePipeline]
    covariance: NDArray[np.float64]


@dataclass
class _Series:
    key: SeriesKey
    pipeline: FramePipeline
    wavelength_nm: float
    track: TrackState | None = None


class SeriesPipeline:
    """Passes each frame to the pipeline of its channel, position and plane.

    Each series thus has its own running average, track and noise. A series with the
    plane and wavelength of another begins its search at the other's blur, with the
    prior's uncertainty: signs that no frame determines then stay the same in all of
    them. A series begins with its first frame; when there are too many, the one whose
    last frame is oldest ends.

    Parameters
    ----------
    parts
        Returns the parts for a wavelength, in nm; called once for each wavelength.
    wavelength_nm
        Wavelength of the profile; its parts are built at once.
    channels
        Wavelengths of channels by name, where they have their own.
    most
        Maximum number of series.
    close
        Closes the parts that the pipelines share.
    """

    def __init__(
        self,
        parts: Callable[[float], ColourParts],
        wavelength_nm: float,
        channels: Mapping[str, float],
        *,
        most: int = MOST_SERIES,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self._make_parts, self._default, self._channels = parts, wavelength_nm, channels
        self._most, self._close = most, close
        self._parts = {wavelength_nm: parts(wavelength_nm)}
        # Made while the worker starts, for the first series of its wavelength.
        self._spare: FramePipeline | None = self._parts[wavelength_nm].make()
        # In the order of use, the most recent last.
        self._series: OrderedDict[SeriesKey, _Series] = OrderedDict()
        self._pending: InnerFuture | None = None
        # The series of the last frame.
        self._current: _Series | None = None
        self._known: Gaussian | None = None
        self._notes: list[str] = []
        # In the order of their first frames.
        self._channels_seen: dict[str, None] = {}
        self._unlisted: set[str] = set()
        self._dropped: set[str] = set()
        self._retired = RetiredPipelines()

    def submit(self, frame: Frame) -> FrameFuture:
        """As in `deepblur_live.runtime.frame.FramePipeline`."""
        series = self._series_of(frame)
        if self._pending is not None and self._current is not series:
            # Two pipelines share a card's buffers: one frame at a time.
            self._pending.settle()
        if self._known is not None:
            series.pipeline.start_from(self._known)
            self._known = None
        notes, self._notes = tuple(self._notes), []
        future = series.pipeline.submit(frame)
        complete = partial(_completed, series, notes)
        self._pending = InnerFuture(future, complete, collected=self._collected)
        self._current = series
        return self._pending

    def start_from(self, known: Gaussian) -> None:
        """As in `deepblur_live.runtime.frame.FramePipeline`; for the next frame's."""
        self._known = known

    def close(self) -> None:
        """End all background work."""
        pipelines = [series.pipeline for series in self._series.values()]
        if self._spare is not None:
            pipelines.append(self._spare)
        for pipeline in pipelines:
            pipeline.close()
        self._retired.join()
        self._close()

    def _collected(self, future: InnerFuture) -> None:
        # Drop the frame: its memory may now be reused.
        if self._pending is future:
            self._pending = None

    def _series_of(self, frame: Frame) -> _Series:
        key = series_key(frame.metadata)
        series = self._series.get(key)
        if series is None:
            series = self._begin(key, frame.time)
        self._series.move_to_end(key)
        return series

    def _begin(self, key: SeriesKey, time: float) -> _Series:
        wavelength = self._wavelength_of(key.channel)
        if wavelength not in self._parts:
            self._parts[wavelength] = self._make_parts(wavelength)
        parts = self._parts[wavelength]
        if self._spare is not None and wavelength == self._default:
            pipeline, self._spare = self._spare, None
        else:
            pipeline = parts.make()
        series = _Series(key, pipeline, wavelength)
        for other in reversed(self._series.values()):
            alike = other.wavelength_nm == wavelength and other.key.z == key.z
            # A fixed PSF has nothing to search for.
            if alike and other.track is not None and parts.covariance.size:
                coefficients = other.track.coefficients
                pipeline.start_from(Gaussian(time, coefficients, parts.covariance))
                break
        self._series[key] = series
        while len(self._series) > self._most:
            _, oldest = self._series.popitem(last=False)
            self._end(oldest)
        return series

    def _end(self, series: _Series) -> None:
        if self._pending is not None and self._current is series:
            self._pending.settle()
        self._retired.retire(series.pipeline)
        name = series.key.text
        if name not in self._dropped and len(self._dropped) < _MOST_NAMED:
            self._dropped.add(name)
            last = "" if len(self._dropped) < _MOST_NAMED else "; others are not named"
            self._notes.append(
                f"{name or 'frames outside an MDA'}: no longer followed, as at most "
                f"{self._most} channels, positions and planes can be; it starts "
                f"again with its next frame{last}"
            )

    def _wavelength_of(self, channel: str) -> float:
        if channel:
            self._channels_seen[channel] = None
        # [optics] describes a single channel without its own wavelength.
        if self._channels or len(self._channels_seen) > 1:
            for name in self._channels_seen:
                if name not in self._channels and name not in self._unlisted:
                    self._unlisted.add(name)
                    self._notes.append(
                        f"channel {name} is not in the profile: its emission is "
                        f"assumed to be at {self._default:g} nm, as in [optics]; if it "
                        f"is not, its blur is wrong: give [channels.{name}] emission_nm"
                    )
        return self._channels.get(channel, self._default)


def _completed(
    series: _Series, notes: tuple[str, ...], result: FrameResult
) -> FrameResult:
    """Return a result with its series' notes; the series keeps its track."""
    series.track = result.track or series.track
    return replace(result, notes=(*notes, *result.notes))
