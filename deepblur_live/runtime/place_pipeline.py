"""Frames of a calibrated microscope, each with the prior at its place in the field."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.blur.field_basis import FieldView
from deepblur_live.drift import Gaussian
from deepblur_live.runtime.frame_view import frame_view
from deepblur_live.runtime.inner_pipelines import InnerFuture, RetiredPipelines

if TYPE_CHECKING:
    from collections.abc import Callable

    from deepblur_live.blur import BlurFamily
    from deepblur_live.drift import TrackState
    from deepblur_live.runtime.frame import (
        Frame,
        FrameFuture,
        FramePipeline,
        FrameResult,
    )

__all__ = ["PlacePipeline", "Region"]

Region = tuple[int, int, int, int]
"""(top, left, height, width) of frames in the calibrated frame, in its pixels."""


class PlacePipeline:
    """Passes frames to a pipeline for the region of the calibrated frame they show.

    The coefficients are the same in all regions, relative to the mean over the
    calibrated frame: when the region of interest changes, the next pipeline continues
    from those of the last, shifted by the difference in the calibration. Frames whose
    place is not known have the prior of the whole field; a note says why, once.

    Parameters
    ----------
    whole
        The blurs of frames that show the whole calibrated frame.
    anywhere
        The blurs of frames of unknown place.
    at
        Returns the blurs of frames of a region.
    make
        Builds the pipeline for a family.
    shape
        (H, W) of the calibrated frame.
    sensor
        Rows and columns of the sensor; None if the profile does not state them.
    """

    def __init__(
        self,
        whole: BlurFamily,
        anywhere: BlurFamily,
        at: Callable[[Region], BlurFamily],
        make: Callable[[BlurFamily], FramePipeline],
        shape: tuple[int, int],
        sensor: tuple[int, int] | None = None,
    ) -> None:
        self._whole, self._anywhere, self._at = whole, anywhere, at
        self._make, self._shape, self._sensor = make, shape, sensor
        # Made while the worker starts: most frames are whole.
        self._family: BlurFamily | None = whole
        self._pipeline: FramePipeline | None = make(whole)
        self._place: Region | str | None = None
        self._track: TrackState | None = None
        self._time = -np.inf
        self._size: tuple[int, ...] = ()
        self._known: Gaussian | None = None
        self._pending: InnerFuture | None = None
        self._notes: list[str] = []
        self._retired = RetiredPipelines()

    def submit(self, frame: Frame) -> FrameFuture:
        """As in `deepblur_live.runtime.frame.FramePipeline`."""
        pipeline = self._pipeline_for(frame)
        self._time = frame.time
        future = pipeline.submit(frame)
        notes, self._notes = tuple(self._notes), []
        self._pending = InnerFuture(
            future,
            partial(self._completed, notes),
            partial(self._lost, notes),
            self._collected,
        )
        return self._pending

    def start_from(self, known: Gaussian) -> None:
        """As in `deepblur_live.runtime.frame.FramePipeline`."""
        self._known = known
        if self._pipeline is not None:
            self._pipeline.start_from(known)

    def close(self) -> None:
        """End all background work."""
        if self._pipeline is not None:
            self._pipeline.close()
        self._retired.join()

    def _pipeline_for(self, frame: Frame) -> FramePipeline:
        place = self._place_of(frame)
        current = self._pipeline
        if place == self._place and current is not None:
            return current
        family, before = self._family_of(place), self._family
        if current is not None:
            if family == before:
                # The place is unknown, and so is that of the next frames.
                self._place = place
                return current
            if self._pending is not None:
                # Pipelines share the card's buffers: finish the last frame first.
                self._pending.settle()
            # If building the next pipeline fails, no frame may go to the old one.
            self._pipeline = self._family = None
            self._retired.retire(current)
        pipeline = self._make(family)
        self._place, self._pipeline, self._family = place, pipeline, family
        known, track = self._known, self._track
        if known is not None and known.time > self._time:
            # No frame has been captured since.
            pipeline.start_from(known)
        elif track is not None and before is not None and before.n_coefficients:
            moved = family.prior.mean - before.prior.mean
            coefficients = track.coefficients + moved
            pipeline.start_from(Gaussian(frame.time, coefficients, track.covariance))
        return pipeline

    def _family_of(self, place: Region | str | None) -> BlurFamily:
        if place is None:
            return self._whole
        return self._anywhere if isinstance(place, str) else self._at(place)

    def _place_of(self, frame: Frame) -> Region | str | None:
        """Return the region that a frame shows, None for the whole, or why unknown."""
        shape, metadata = frame.pixels.shape, frame.metadata
        same, self._size = shape == self._size, shape
        if same and metadata.get("region", shape) is None:
            # The camera was busy; a region of this size has hardly moved since.
            return self._place
        view = frame_view(shape, metadata, self._sensor, least_side=1)
        place: Region | str | None
        if isinstance(view, FieldView):
            known = "region" in metadata or self._sensor is not None
            place = self._in_calibrated(view, metadata.get("binning", 1), known)
        else:
            place = view
        if place != self._place:
            self._notes.append(_note_on(place))
        return place

    def _in_calibrated(
        self, view: FieldView, binning: int, known: bool
    ) -> Region | str | None:
        """Return the region of a view of the sensor, or why it has no known place.

        Only its size shows that the calibrated frame is the whole sensor; `known` is
        whether the size of the sensor is known.
        """
        rows, columns = view.rows // binning, view.columns // binning
        if (rows, columns) != self._shape:
            # Without a region a frame counts as the whole sensor.
            return (
                f"the calibrated frame has {self._shape[0]} × {self._shape[1]} pixels, "
                f"and {'the sensor' if known else 'these frames have'} "
                f"{rows} × {columns}"
            )
        region = tuple(
            value // binning for value in (view.top, view.left, view.height, view.width)
        )
        top, left, height, width = region
        return None if region == (0, 0, rows, columns) else (top, left, height, width)

    def _completed(self, notes: tuple[str, ...], result: FrameResult) -> FrameResult:
        self._track = result.track or self._track
        return replace(result, notes=(*notes, *result.notes))

    def _collected(self, future: InnerFuture) -> None:
        # Drop the frame: its memory may now be reused.
        if self._pending is future:
            self._pending = None

    def _lost(self, notes: tuple[str, ...]) -> None:
        """Pass a failed frame's notes on to the next frame."""
        self._notes[:0] = notes


def _note_on(place: Region | str | None) -> str:
    if place is None:
        return "the calibration is used with its mean over the whole field"
    if isinstance(place, str):
        return (
            "the calibration is used with its mean over the field, as the place of "
            f"these frames in it is not known: {place}"
        )
    top, left, height, width = place
    return (
        f"the calibration is used with its value at rows {top} to {top + height}, "
        f"columns {left} to {left + width} of the calibrated frame"
    )
