"""Zernike polynomials on the unit disc: Noll's order, unit rms."""

from __future__ import annotations

import math

import torch

__all__ = ["MODE_NAMES", "noll_to_nm", "zernike"]

# Names for x to the right and y down, as images are shown: θ runs clockwise. Odd
# indices are sines; conventions with y up give the sine modes the opposite sign.
MODE_NAMES = {
    1: "piston",
    2: "tilt x",
    3: "tilt y",
    4: "defocus",
    5: "oblique astigmatism",
    6: "vertical astigmatism",
    7: "vertical coma",
    8: "horizontal coma",
    9: "vertical trefoil",
    10: "oblique trefoil",
    11: "spherical",
    12: "vertical secondary astigmatism",
    13: "oblique secondary astigmatism",
    14: "vertical quadrafoil",
    15: "oblique quadrafoil",
}


def noll_to_nm(noll: int) -> tuple[int, int]:
    """Return radial order n and signed azimuthal order m of a Noll index.

    Negative m is a sine, positive a cosine.

    Raises
    ------
    ValueError
        If `noll` is below 1.

    References
    ----------
    R. J. Noll, *Zernike polynomials and atmospheric turbulence*, JOSA 66 (1976).
    """
    if noll < 1:
        raise ValueError(f"Noll indices start at 1, got {noll}")
    n = (math.isqrt(8 * noll - 7) - 1) // 2
    index = noll - n * (n + 1) // 2 - 1
    m = 2 * ((index + (n + 1) % 2) // 2) + n % 2
    return n, m if noll % 2 == 0 else -m


def zernike(noll: int, rho: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    """Zernike polynomial at polar coordinates of the unit disc, of unit rms over it.

    Parameters
    ----------
    noll
        Noll index, from 1.
    rho, theta
        Radius in [0, 1] and angle in radians, of one shape.
    """
    n, m = noll_to_nm(noll)
    a = abs(m)
    radial = torch.zeros_like(rho)
    for k in range((n - a) // 2 + 1):
        factor = (-1) ** k * math.factorial(n - k)
        factor //= (
            math.factorial(k)
            * math.factorial((n + a) // 2 - k)
            * math.factorial((n - a) // 2 - k)
        )
        radial = radial + factor * rho ** (n - 2 * k)
    if m == 0:
        return math.sqrt(n + 1) * radial
    angular = torch.cos(a * theta) if m > 0 else torch.sin(a * theta)
    return math.sqrt(2 * (n + 1)) * radial * angular
