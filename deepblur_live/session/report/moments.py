"""Three moments of a session: how the optics were at its start, worst and end."""

from __future__ import annotations

import io
from base64 import b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image

from deepblur_live.optics import ZernikeFamily

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.session.report.read import SessionData

__all__ = ["Moment", "moments", "psf_picture", "psf_pictures"]

# Finer than the camera, so that a PSF looks like one.
_FINER = 4
_WIDE_UM = 1.6
_PIXELS = 260


@dataclass(frozen=True)
class Moment:
    """The optics at one moment, or without any aberration.

    Parameters
    ----------
    name
        ``"start"``, ``"worst"``, ``"end"`` or ``"diffraction limit"``.
    time
        Seconds since the session began; None for the limit.
    coefficients, sigma
        (P,) waves rms.
    rms, strehl
        Of the wavefront, waves; of the PSF.
    """

    name: str
    time: float | None
    coefficients: NDArray[np.float64]
    sigma: NDArray[np.float64]
    rms: float
    strehl: float


def moments(data: SessionData) -> list[Moment]:
    """Return start, worst, end and the diffraction limit.

    The start is the first tracked point; the worst has the largest change from the
    baseline, or the largest rms where there never was one.
    """
    family = ZernikeFamily.from_optics(data.profile.optics)
    tracked, sigma = data.coefficients(), data.coefficients("sigma_")
    known = np.flatnonzero(np.isfinite(tracked).all(axis=1))
    zero = np.zeros(family.n_coefficients)
    found = []
    if known.size:
        change = data.numbers["change_waves"][known]
        if not np.isfinite(change).any():
            change = data.numbers["wavefront_rms_waves"][known]
        worst = int(np.nanargmax(change)) if np.isfinite(change).any() else -1
        places = {"start": known[0], "worst": known[worst], "end": known[-1]}
        found = [
            _moment(family, name, float(data.times[k]), tracked[k], sigma[k])
            for name, k in places.items()
        ]
    return [*found, _moment(family, "diffraction limit", None, zero, zero)]


def _moment(
    family: ZernikeFamily,
    name: str,
    time: float | None,
    coefficients: NDArray[np.float64],
    sigma: NDArray[np.float64],
) -> Moment:
    rms = float(family.wavefront_rms(coefficients))
    strehl = float(family.strehl(coefficients))
    return Moment(name, time, coefficients, sigma, rms, strehl)


def psf_pictures(data: SessionData, found: list[Moment]) -> list[Image.Image]:
    """Return a picture of each moment's PSF, all on one scale of intensity.

    The square root of the intensity is shown, so that the rings are seen.
    """
    optics = data.profile.optics
    family = ZernikeFamily(
        optics.numerical_aperture,
        optics.wavelength_nm,
        optics.refractive_index,
        optics.pixel_size_nm / _FINER,
        tuple(optics.noll),
    )
    gammas = torch.as_tensor(np.array([moment.coefficients for moment in found]))
    psfs = family.psf(gammas).numpy()
    half = min(psfs.shape[-1] // 2, round(500 * _WIDE_UM / family.pixel_size_nm))
    middle = psfs.shape[-1] // 2
    window = slice(middle - half, middle + half + 1)
    shown = np.sqrt(psfs[:, window, window] / psfs.max())
    coloured = colormaps["inferno"](shown)[..., :3]
    side = (_PIXELS, _PIXELS)
    return [
        Image.fromarray(np.round(255 * image).astype(np.uint8)).resize(
            side, Image.Resampling.BICUBIC
        )
        for image in coloured
    ]


def psf_picture(picture: Image.Image) -> str:
    """Return a picture as a ``data:`` address."""
    content = io.BytesIO()
    picture.save(content, "PNG")
    return f"data:image/png;base64,{b64encode(content.getvalue()).decode()}"
