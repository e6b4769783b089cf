"""Accuracy of a session where the truth is known: of the PSFs and of the images."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from deepblur_live.blur.places import places
from deepblur_live.optics import psf_snr, psnr, ssim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily
    from deepblur_live.runtime.frame import FrameResult
    from deepblur_live.session.history import History

__all__ = [
    "ImageFidelity",
    "ImageSample",
    "PsfFidelity",
    "image_fidelity",
    "psf_fidelity",
    "take_sample",
    "with_truth",
]

_MAX_SIDE = 512
_MAX_PSFS = 200
_BATCH = 50


@dataclass(frozen=True)
class ImageSample:
    """The centre of a frame, raw and deblurred, kept for the end of the session.

    Parameters
    ----------
    time, number
        Time of the capture and number of the frame.
    raw, deblurred
        (h, w) float32, at most 512² from the centre of the frame, in its unit.
    truth
        The same region of the sharp image, or None where it is not known.
    metadata
        The frame's metadata.
    frame_shape
        (H, W) of the whole frame.
    pixel_size_nm
        Pixel size in the specimen; None if it is not known, or contradicted.
    """

    time: float
    number: int
    raw: NDArray[np.float32]
    deblurred: NDArray[np.float32]
    metadata: Mapping[str, Any]
    frame_shape: tuple[int, int]
    truth: NDArray[np.float32] | None = None
    pixel_size_nm: float | None = None


@dataclass(frozen=True)
class PsfFidelity:
    """PSF SNR of the track against the truth, dB; NaN where the truth is unknown.

    Parameters
    ----------
    mean, median
        Over points spread evenly over the session.
    constant
        Mean for the family's mean PSF: the score of a constant guess.
    n
        Number of points compared.
    """

    mean: float = math.nan
    median: float = math.nan
    constant: float = math.nan
    n: int = 0


@dataclass(frozen=True)
class ImageFidelity:
    """Means over the kept frames whose sharp image is known; NaN if there are none.

    Parameters
    ----------
    psnr_raw, psnr_deblurred
        dB, with the sharp image's range as the peak.
    ssim_raw, ssim_deblurred
        Structural similarity, same range.
    n
        Number of frames compared.
    """

    psnr_raw: float = math.nan
    psnr_deblurred: float = math.nan
    ssim_raw: float = math.nan
    ssim_deblurred: float = math.nan
    n: int = 0


def take_sample(result: FrameResult, pixel_size_nm: float | None) -> ImageSample:
    """Copy the centre of a deblurred result."""
    assert result.deblurred is not None
    height, width = result.deblurred.shape
    window = _centre((height, width))
    return ImageSample(
        time=result.frame.time,
        number=result.frame.number,
        raw=np.array(result.frame.pixels[window], dtype=np.float32),
        deblurred=np.array(result.deblurred[window], dtype=np.float32),
        metadata=dict(result.frame.metadata),
        frame_shape=(height, width),
        pixel_size_nm=pixel_size_nm,
    )


def with_truth(
    samples: Sequence[ImageSample],
    truth_image: Callable[[Mapping[str, Any]], NDArray[Any] | None] | None,
    on_error: Callable[[str], None],
) -> tuple[ImageSample, ...]:
    """Return the samples with their sharp images, where these are known.

    Parameters
    ----------
    truth_image
        From a frame's metadata to its sharp image (H, W), or None. An exception, or an
        image of another shape, is reported to `on_error`.
    """
    if truth_image is None:
        return tuple(samples)
    found = []
    for sample in samples:
        truth = None
        try:
            truth = _true_region(sample, truth_image(sample.metadata))
        except Exception as error:
            # The caller's code: its failure must not spoil the session's end.
            on_error(f"true image of frame {sample.number}: {error!r}")
        found.append(replace(sample, truth=truth))
    return tuple(found)


def _true_region(
    sample: ImageSample, image: NDArray[Any] | None
) -> NDArray[np.float32] | None:
    if image is None:
        return None
    if image.shape != sample.frame_shape:
        raise ValueError(
            f"its shape is {image.shape}, that of the frame {sample.frame_shape}"
        )
    return np.array(image[_centre(sample.frame_shape)], dtype=np.float32)


def image_fidelity(samples: Sequence[ImageSample]) -> ImageFidelity:
    """Compare raw and deblurred samples with the truth, where it is known."""
    scores = [
        (
            psnr(sample.raw, sample.truth, peak),
            psnr(sample.deblurred, sample.truth, peak),
            ssim(sample.raw, sample.truth, peak),
            ssim(sample.deblurred, sample.truth, peak),
        )
        for sample in samples
        if sample.truth is not None and (peak := float(np.ptp(sample.truth))) > 0
    ]
    if not scores:
        return ImageFidelity()
    means = np.mean(scores, axis=0).tolist()
    return ImageFidelity(means[0], means[1], means[2], means[3], len(scores))


def psf_fidelity(history: History, family: BlurFamily) -> PsfFidelity:
    """Compare the PSFs of the track with the true ones, at up to 200 points.

    For a field, the mean in dB over nine places of the frame.
    """
    known = np.flatnonzero(np.isfinite(history.truth).all(axis=1))
    if not known.size:
        return PsfFidelity()
    spread = np.linspace(0, known.size - 1, min(known.size, _MAX_PSFS)).round()
    chosen = known[spread.astype(int)]
    mean_psf = _mean_psf(family)
    scores, constant = [], []
    for start in range(0, len(chosen), _BATCH):
        batch = chosen[start : start + _BATCH]
        gammas = (
            torch.as_tensor(values[batch].copy())
            for values in (history.truth, history.coefficients)
        )
        found = [
            (psf_snr(track, truth), psf_snr(mean_psf, truth))
            for truth, track in _at_places(family, *gammas)
        ]
        of_track, of_mean = zip(*found, strict=True)
        scores.append(torch.stack(of_track).mean(0))
        constant.append(torch.stack(of_mean).mean(0))
    all_scores = torch.cat(scores).numpy()
    return PsfFidelity(
        float(all_scores.mean()),
        float(np.median(all_scores)),
        float(torch.cat(constant).mean()),
        len(chosen),
    )


def _at_places(
    family: BlurFamily, *coefficients: torch.Tensor
) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yield the PSFs (N, K, K) of coefficients (N, P) at each place of the field."""
    for place in places(family):
        yield tuple(family.psf(gamma, place) for gamma in coefficients)


def _mean_psf(family: BlurFamily) -> torch.Tensor:
    drawn = family.sample(4 * _BATCH, torch.Generator().manual_seed(0)).double()
    batches = range(0, len(drawn), _BATCH)
    psfs = [family.psf(drawn[start : start + _BATCH]) for start in batches]
    return torch.cat(psfs).mean(0)


def _centre(shape: tuple[int, int]) -> tuple[slice, slice]:
    starts = [max(0, (side - _MAX_SIDE) // 2) for side in shape]
    rows, columns = (slice(start, start + _MAX_SIDE) for start in starts)
    return rows, columns
