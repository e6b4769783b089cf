"""Frames whose blur is identified as a field, or with one PSF where that fails."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.blur.field_basis import FieldView
from deepblur_live.drift import Gaussian
from deepblur_live.identification.field.identifier import LEAST_SIDE
from deepblur_live.runtime.frame_view import frame_view
from deepblur_live.runtime.inner_pipelines import InnerFuture, RetiredPipelines

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily, Estimate
    from deepblur_live.blur.zernike_field import ZernikeField
    from deepblur_live.drift import TrackState
    from deepblur_live.runtime.frame import (
        Frame,
        FrameFuture,
        FramePipeline,
        FrameResult,
    )

__all__ = ["FieldPipeline"]


class FieldPipeline:
    """Passes frames to a pipeline for the part of the sensor that they show.

    All results are in the field's coefficients, relative to the sensor: when the ROI
    changes, the next pipeline continues from those of the last. A frame that
    cannot be identified as a field is passed to a pipeline with one PSF, whose result
    is that of a constant field; a note says why, once.

    Parameters
    ----------
    field
        The blurs, for any view.
    make
        Builds the pipeline for a family: a field with a view, or its local family.
    sensor
        Rows and columns of the sensor; None if the profile does not state them.
    least_side
        Least side of a frame for a field, in pixels.
    """

    def __init__(
        self,
        field: ZernikeField,
        make: Callable[[BlurFamily], FramePipeline],
        sensor: tuple[int, int] | None = None,
        least_side: int = LEAST_SIDE,
    ) -> None:
        self._field, self._make = field, make
        self._sensor, self._least_side = sensor, least_side
        # (M, P): the constant field of each mode.
        self._constant = field.constant(np.eye(field.local.n_coefficients))
        self._pipeline: FramePipeline | None = None
        self._view: FieldView | None = None
        self._time = -np.inf
        self._track: TrackState | None = None
        self._known: Gaussian | None = None
        self._reason = ""
        self._notes: list[str] = []
        self._retired = RetiredPipelines()

    def submit(self, frame: Frame) -> FrameFuture:
        """As in `deepblur_live.runtime.frame.FramePipeline`."""
        pipeline = self._pipeline_for(frame)
        self._time = frame.time
        notes, self._notes = tuple(self._notes), []
        complete = partial(self._result, view=self._view, notes=notes)
        return InnerFuture(pipeline.submit(frame), complete)

    def start_from(self, known: Gaussian) -> None:
        """As in `deepblur_live.runtime.frame.FramePipeline`; in the field's terms."""
        self._known = known
        if self._pipeline is not None:
            self._start(self._pipeline, known)

    def close(self) -> None:
        """End all background work."""
        if self._pipeline is not None:
            self._pipeline.close()
        self._retired.join()

    def _pipeline_for(self, frame: Frame) -> FramePipeline:
        view = self._view_of(frame)
        current = self._pipeline
        if current is not None and view == self._view:
            return current
        if current is not None:
            # If building the next pipeline fails, no frame may go to the old one.
            self._pipeline = None
            self._retired.retire(current)
        local = self._field.local
        family = local if view is None else replace(self._field, view=view)
        pipeline = self._make(family)
        before, self._view, self._pipeline = self._view, view, pipeline
        known = self._known
        if known is not None and known.time > self._time:
            # No frame has been captured since.
            self._start(pipeline, known)
        elif self._track is not None and before is not None and view is not None:
            track = self._track
            self._start(
                pipeline, Gaussian(frame.time, track.coefficients, track.covariance)
            )
        return pipeline

    def _view_of(self, frame: Frame) -> FieldView | None:
        """Return the part of the sensor that a frame shows; None for one PSF."""
        shape, metadata = frame.pixels.shape, frame.metadata
        found = frame_view(shape, metadata, self._sensor, self._least_side)
        if isinstance(found, FieldView):
            if self._reason:
                self._notes.append("the blur is identified as a field again")
            self._reason = ""
            if "region" not in metadata:
                # A later frame of another size has an unknown place on it.
                self._sensor = found.rows, found.columns
            return found
        if found != self._reason:
            self._notes.append(
                f"one PSF is used for the whole frame instead of a field: {found}"
            )
        self._reason = found
        return None

    def _start(self, pipeline: FramePipeline, known: Gaussian) -> None:
        if self._view is None:
            constant = self._constant
            known = Gaussian(
                known.time,
                constant @ known.coefficients,
                constant @ known.covariance @ constant.T,
            )
        pipeline.start_from(known)

    def _result(
        self, result: FrameResult, view: FieldView | None, notes: tuple[str, ...]
    ) -> FrameResult:
        """Return a result in the field's coefficients; keep its track."""
        estimate, track = result.estimate, result.track
        if view is None:
            estimate, track = self._of_estimate(estimate), self._of_track(track)
        self._track = track or self._track
        return replace(
            result,
            estimate=estimate,
            track=track,
            view=view,
            notes=(*notes, *result.notes),
        )

    def _of_estimate(self, estimate: Estimate | None) -> Estimate | None:
        if estimate is None:
            return None
        return replace(
            estimate,
            coefficients=estimate.coefficients @ self._constant,
            covariance=self._spread(estimate.covariance),
        )

    def _of_track(self, track: TrackState | None) -> TrackState | None:
        if track is None:
            return None
        measured = track.measured
        return replace(
            track,
            coefficients=track.coefficients @ self._constant,
            covariance=self._spread(track.covariance),
            measured=None if measured is None else measured @ self._constant,
        )

    def _spread(self, covariance: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the covariance (P, P) of a constant field from that of γ (M, M)."""
        spread: NDArray[np.float64] = self._constant.T @ covariance @ self._constant
        return spread
