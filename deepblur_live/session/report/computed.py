"""The blurs of a report, computed only if the session has not stored them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.blur.calibrated import CalibratedZernikeFamily
from deepblur_live.blur.charted import curve_kinds
from deepblur_live.blur.places import places
from deepblur_live.blur.zernike_field import ZernikeField
from deepblur_live.drift import distance
from deepblur_live.session.blur_facts import BlurFacts
from deepblur_live.session.measured_blur import compared_modes
from deepblur_live.session.quality import blur_quality
from deepblur_live.session.report.moment import Moment, Point

if TYPE_CHECKING:
    from deepblur_live.blur import BlurFamily

__all__ = ["blur_facts", "moment"]

# Cells along each side of a map.
_MAP = 32


def blur_facts(family: BlurFamily) -> BlurFacts:
    """Return the facts about a family that a report states."""
    mean = family.prior.mean
    name = "mean of the prior" if mean.any() else "all coefficients zero"
    left_out, expected = None, 0.0
    if isinstance(family, CalibratedZernikeFamily):
        name = "mean of the calibration"
        compared = compared_modes(family)
        learned = family.learned.covariance[np.ix_(compared, compared)]
        left_out = tuple(np.array(family.names)[~compared].tolist())
        expected = math.sqrt(float(np.trace(learned)))
    view = family.view if isinstance(family, ZernikeField) else None
    return BlurFacts(
        names=tuple(family.names),
        unit=family.unit,
        metric=family.metric,
        cutoff=family.cutoff,
        kinds=curve_kinds(family),
        notes=tuple(one.explanation for one in family.symmetries if one.explanation),
        mean=mean,
        mean_name=name,
        mean_quality=family.quality(mean),
        sensor=None if view is None else (view.rows, view.columns),
        left_out=left_out,
        expected=expected,
    )


def moment(family: BlurFamily, point: Point) -> Moment:
    """Return a point with its PSFs and the measures of its quality."""
    covariance = np.diag(np.square(point.sigma))
    gamma = torch.as_tensor(point.coefficients)
    psfs = torch.stack([family.psf(gamma, place) for place in places(family)])
    errors = None
    if isinstance(family, ZernikeField):
        local = family.at(gamma, family.view.grid(_MAP)).numpy()
        errors = np.sqrt(np.square(local).sum(-1)).reshape(_MAP, _MAP)
    apart = None
    if isinstance(family, CalibratedZernikeFamily):
        compared = compared_modes(family)
        apart = distance(family, compared, point.coefficients, covariance)
    known = point.time is not None
    return Moment(
        point,
        blur_quality(family, point.coefficients, covariance if known else None),
        psfs.numpy().astype(np.float32),
        None if errors is None else errors.astype(np.float32),
        apart,
    )
