"""What the spectra's statistics say: of stacks, of simulated changes, of sessions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.ndimage import gaussian_filter, map_coordinates, rotate, zoom
from scipy.signal import fftconvolve

from deepblur_live.drift import DriftState
from deepblur_live.drift.spectral_baseline import SpectralBaseline
from deepblur_live.drift.spectral_change import MeanSpectrum, SpectralComparison
from deepblur_live.drift.spectral_monitor import SpectralMonitor
from deepblur_live.identification.whole_frame import WholeFrameSpectrum
from deepblur_live.profile import Drift
from evaluation.held_out import scene
from evaluation.true_optics import TrueOptics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from evaluation.stacks import Stack
    from evaluation.table import Row

    Image = NDArray[np.float64]

__all__ = ["changes", "moving", "through_focus", "unchanged"]

_MODES = range(4, 12)
_HALF, _FRAMES = 31, 10
_OPTICS = TrueOptics(pixel_integration=True, aplanatic=True)
_CUTOFF = _OPTICS.numerical_aperture * _OPTICS.pixel_size_nm / _OPTICS.wavelength_nm
_HAZE_PX, _HAZE = 15.0, 0.3
# Steps in which the blur of a session drifts.
_STEPS = 48


def _psf(coefficients: NDArray[np.float64]) -> Image:
    return _OPTICS.psf(dict(zip(_MODES, coefficients.tolist(), strict=True)))


def _direction(rng: np.random.Generator) -> NDArray[np.float64]:
    direction = rng.standard_normal(len(_MODES))
    return direction / np.linalg.norm(direction)


@dataclass
class _Camera:
    """Exposes images, and keeps the window on the specimen.

    Parameters
    ----------
    sigma
        Standard deviation of the noise.
    """

    sigma: float
    seed: int = 0
    window: WholeFrameSpectrum = field(default_factory=WholeFrameSpectrum)

    def __post_init__(self) -> None:
        self._noise = torch.Generator().manual_seed(self.seed)

    def expose(self, image: Image, noisier: float = 1.0) -> Any:
        clean = torch.from_numpy(image).float()
        noise = torch.randn(clean.shape, generator=self._noise)
        return self.window.reduce(clean + noisier * self.sigma * noise)

    def mean(self, image: Image, noisier: float = 1.0) -> tuple[MeanSpectrum, float]:
        """Return the mean spectrum of some frames, and their coherence."""
        seen = [self.expose(image, noisier) for _ in range(_FRAMES)]
        power = np.mean([one.power for one in seen], axis=0, dtype=np.float64)
        coherence = float(np.mean([one.coherence for one in seen]))
        return MeanSpectrum(power, _FRAMES, seen[0].fine), coherence


def _figures(comparison: SpectralComparison, now: MeanSpectrum) -> Row:
    change = comparison.compare(now)
    metric = comparison.metric
    square = change.shapes @ metric @ change.shapes
    square -= np.sum(metric * change.covariance)
    return {
        "chi_squared": change.chi_squared,
        "residual": change.residual,
        "strength": float(np.sqrt(max(0.0, square))),
        "sharpening": float(comparison.sharpening @ change.shapes),
    }


def through_focus(stack: Stack, planes: NDArray[Any]) -> list[Row]:
    """Return the statistics of each plane (Z, H, W), one frame, against the focus."""
    given = stack.optics
    cutoff = given.numerical_aperture * given.pixel_size_nm / given.wavelength_nm
    rows = []
    z_um = stack.z_um(len(planes))
    for side in (1, -1):
        window, comparison = WholeFrameSpectrum(), None
        # From the focus outwards, so that the window can follow.
        for k in range(stack.focus, len(planes) if side > 0 else -1, side):
            seen = window.reduce(torch.from_numpy(planes[k].astype(np.float32)))
            now = MeanSpectrum(seen.power.astype(np.float64), 1, seen.fine)
            if comparison is None:
                comparison = SpectralComparison(now, cutoff)
                continue
            row = {"z_um": float(z_um[k]), "coherence": seen.coherence}
            rows.append(row | _figures(comparison, now))
    return sorted(rows, key=lambda row: row["z_um"])


def _moved(image: Image, pixels: float, rng: np.random.Generator) -> Image:
    """Return an image whose parts have moved, each by so many pixels rms an axis."""
    cells = [zoom(rng.normal(0, 1, (20, 20)), 40, order=1) for _ in range(2)]
    rows, columns = np.indices(image.shape)
    offsets = [c[: image.shape[0], : image.shape[1]] for c in cells]
    scale = pixels / np.sqrt(np.mean(np.square(offsets)))
    places = [rows + scale * offsets[0], columns + scale * offsets[1]]
    moved: Image = map_coordinates(image, places, order=3, mode="reflect")
    return moved


def changes(path: Path, other: Path, seed: int, sigma: float = 0.01) -> list[Row]:
    """Return the statistics of each kind of change, on one picture."""
    rng = np.random.default_rng(seed)
    side = 512 + 2 * _HALF
    wide = scene(path, side + 40).numpy().astype(float)
    picture = wide[:side, :side]
    start, along = rng.uniform(-0.06, 0.06, len(_MODES)), _direction(rng)

    def frame(image: Image, step: float = 0.0, haze: float = _HAZE) -> Image:
        sharp = fftconvolve(image, _psf(start + step * along), "valid")
        hazy = gaussian_filter(image, _HAZE_PX)[_HALF:-_HALF, _HALF:-_HALF]
        return (1 - haze) * sharp + haze * hazy

    kinds: dict[str, Callable[[], tuple[Image, float]]] = {
        "nothing": lambda: (frame(picture), 1.0),
        "light × 0.7": lambda: (0.7 * frame(picture), 1.0),
        "noise × 1.3": lambda: (frame(picture), 1.3),
        "haze 30 → 50 %": lambda: (frame(picture, haze=0.5), 1.0),
        "1 px": lambda: (frame(wide[1 : side + 1, :side]), 1.0),
        "20 px": lambda: (frame(wide[20 : side + 20, 20 : side + 20]), 1.0),
        "turned by 1°": lambda: (
            frame(rotate(picture, 1, reshape=False, mode="reflect")),
            1.0,
        ),
        "cells 0.3 px rms": lambda: (frame(_moved(picture, 0.3, rng)), 1.0),
        "cells 1 px rms": lambda: (frame(_moved(picture, 1, rng)), 1.0),
        "cells 5 px rms": lambda: (frame(_moved(picture, 5, rng)), 1.0),
        "another specimen": lambda: (frame(scene(other, side).numpy()), 1.0),
    }
    for step in (0.01, 0.02, 0.036, 0.072, 0.15):
        kinds[f"blur {step:g} waves"] = lambda step=step: (frame(picture, step), 1.0)
    camera = _Camera(sigma, seed)
    reference, _ = camera.mean(frame(picture))
    try:
        comparison = SpectralComparison(reference, _CUTOFF)
    except ValueError:
        return []
    rows = []
    for kind, make in kinds.items():
        now, coherence = camera.mean(*make())
        rows.append({"kind": kind, "coherence": coherence} | _figures(comparison, now))
    return rows


def unchanged(path: Path, seed: int, pairs: int = 30) -> list[Row]:
    """Return T of batches of an unchanged specimen that bleaches, frame 256 × 256."""
    rng = np.random.default_rng(seed)
    picture = scene(path, 256 + 2 * _HALF).numpy().astype(float)
    image = fftconvolve(picture, _psf(rng.uniform(-0.1, 0.1, len(_MODES))), "valid")
    camera = _Camera(float(rng.choice([0.003, 0.01, 0.03])), seed)
    baseline = SpectralBaseline(_CUTOFF, Drift(batch_s=6))
    rows: list[Row] = []
    total = 6 * (20 + pairs) + 2
    for k in range(total):
        seen = camera.expose((1 - 0.3 * k / total) * image)
        if (point := baseline.add(float(k), seen)) is not None:
            signal = baseline.chart(point).signal
            rows.append({"test": point.test, "signal": signal})
        if k > 6 * 22 and baseline.comparison is None:
            break
    return rows


def _cells(path: Path, count: int, rng: np.random.Generator) -> list[Image]:
    """Return round pieces (40, 40) of a picture, of those with structure."""
    picture = scene(path, 512).numpy().astype(float)
    rows, columns = np.indices((40, 40)) - 19.5
    mask = np.clip((19 - np.hypot(rows, columns)) / 4, 0, 1)
    places = rng.integers(0, 472, (4 * count, 2))
    pieces = [picture[y : y + 40, x : x + 40] * mask for y, x in places]
    pieces.sort(key=lambda piece: -float(piece.std()))
    return [np.rot90(piece, rng.integers(4)) for piece in pieces[:count]]


def _positions(
    count: int, side: int, step: float, rng: np.random.Generator
) -> Iterator[NDArray[np.int_]]:
    """Yield the places of cells that wander by `step` pixels rms a frame and axis."""
    room = side - 40
    places = rng.uniform(0, room, (count, 2))
    while True:
        yield np.round(places).astype(int)
        places = np.abs(places + rng.normal(0, step, places.shape))
        places = np.where(places > room, 2 * room - places, places)


def moving(
    path: Path, seed: int, drift: float, side: int = 320, every_s: float = 15.0
) -> Row:
    """Return what a session of two hours on wandering cells reports.

    The cells wander by 1 px rms between frames, the light falls to 0.7, the exposure is
    1.5 times as long for half an hour; the blur drifts by `drift` waves rms within an
    hour, from half an hour on.
    """
    rng = np.random.default_rng(seed)
    whole = side + 2 * _HALF
    count = whole**2 // 1700
    cells, camera = _cells(path, count, rng), _Camera(0.01, seed)
    start, along = rng.uniform(-0.06, 0.06, len(_MODES)), _direction(rng)
    monitor = SpectralMonitor(_CUTOFF, Drift())
    row: Row = {"watched": 0.0, "first": None, "alerts": 0}
    frames = round(7200 / every_s)
    steps = _positions(count, whole, 1.0, rng)
    # A frame of `whole` pixels holds the blur of all of `side`: no border is needed.
    length = next_fast_len(whole, real=True)
    otf, drawn = np.zeros((1, 1)), -1
    for k, places in zip(range(frames), steps, strict=False):
        now = k * every_s
        part = round(_STEPS * float(np.clip((now - 1800) / 3600, 0, 1)))
        if part != drawn:
            psf = _psf(start + drift * part / _STEPS * along)
            otf, drawn = rfft2(psf, s=(length, length)), part
        image = np.zeros((whole, whole))
        for cell, (y, x) in zip(cells, places, strict=True):
            image[y : y + 40, x : x + 40] += cell
        light = (1 - 0.3 * k / frames) * (1.5 if 2400 < now < 4200 else 1)
        spread = irfft2(rfft2(image, s=(length, length)) * otf, s=(length, length))
        seen = camera.expose(light * spread[2 * _HALF : whole, 2 * _HALF : whole])
        if monitor.update(now, seen):
            row["alerts"] += 1
            row["first"] = now if row["first"] is None else row["first"]
        row["watched"] += monitor.armed / frames
    status = monitor.status
    raised = status.state in (DriftState.WARN, DriftState.ALARM)
    return row | {"strength": status.strength, "raised": raised}
