"""Simulated slides of beads, computed without the program's own PSF code."""

import math

import numpy as np
from scipy.special import j1

from deepblur_live.blur.zernike import ZernikeFamily

__all__ = ["FAMILY", "bead_image", "slide"]

FAMILY = ZernikeFamily(noll=(4, 5, 6, 7, 8, 9, 10, 11))
_SAMPLES = 101


def _modes(rho, theta):
    """Noll 4-11, written out."""
    cube = 3 * rho**3 - 2 * rho
    return np.stack(
        [
            math.sqrt(3) * (2 * rho**2 - 1),
            math.sqrt(6) * rho**2 * np.sin(2 * theta),
            math.sqrt(6) * rho**2 * np.cos(2 * theta),
            math.sqrt(8) * cube * np.sin(theta),
            math.sqrt(8) * cube * np.cos(theta),
            math.sqrt(8) * rho**3 * np.sin(3 * theta),
            math.sqrt(8) * rho**3 * np.cos(3 * theta),
            math.sqrt(5) * (6 * rho**4 - 6 * rho**2 + 1),
        ]
    )


def bead_image(gamma, place, side, diameter=1.0, sigma=0.0, family=FAMILY):
    """(side, side), sum 1: PSF, sphere and Gaussian, `place` from the middle."""
    u = np.linspace(-1, 1, _SAMPLES)
    y, x = np.meshgrid(u, u, indexing="ij")
    rho = np.hypot(x, y)
    share = np.clip((1 - rho) * (_SAMPLES - 1) / 2 + 0.5, 0, 1)
    phase = np.tensordot(gamma, _modes(np.minimum(rho, 1), np.arctan2(y, x)), 1)
    wide = side + 20
    pixels = np.arange(wide) - wide // 2
    rows, columns = (
        np.exp(2j * np.pi * family.cutoff * (pixels - off)[:, None] * u)
        for off in place
    )
    image = np.abs(rows @ (share * np.exp(-2j * np.pi * phase)) @ columns.T) ** 2
    f = np.fft.fftfreq(wide)
    f = np.hypot(f[:, None], f)
    # The sphere as a stack of discs, whose transforms are Airy amplitudes.
    height, weight = np.polynomial.legendre.leggauss(40)
    transfer = np.zeros_like(f)
    for h, w in zip(height, weight, strict=True):
        q = np.maximum(math.pi * diameter * math.sqrt(1 - h**2) * f, 1e-9)
        transfer += 0.75 * w * (1 - h**2) * 2 * j1(q) / q
    transfer *= np.exp(-2 * (math.pi * sigma * f) ** 2)
    image = np.fft.ifft2(np.fft.fft2(image) * transfer).real[10:-10, 10:-10]
    return image / image.sum()


def slide(gamma, photons=1e4, seed=0, background=20.0, rows=3, **bead):
    """A frame of isolated beads with shot noise, and their places.

    `rows` × `rows` beads, 70 pixels apart.
    """
    rng = np.random.default_rng(seed)
    frame, places = np.full((70 * rows, 70 * rows), background), []
    for row in range(rows):
        for column in range(rows):
            place = 70 * np.array([row + 0.5, column + 0.5]) + rng.uniform(-4, 4, 2)
            near = np.round(place).astype(int)
            part = tuple(slice(n - 25, n + 26) for n in near)
            frame[part] += photons * bead_image(gamma, place - near, 51, **bead)
            places.append(place)
    return rng.poisson(frame).astype(float), np.array(places)
