"""How many Zernike modes the beads of a slide support."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from deepblur_live.calibration.fit import ToFit, fit_beads
from deepblur_live.calibration.held_out import held_out, with_fits

if TYPE_CHECKING:
    from collections.abc import Callable

    from deepblur_live.calibration.held_out import Bead
    from deepblur_live.calibration.least_squares import PixelNoise
    from deepblur_live.calibration.model import StackModel

__all__ = ["choose_modes", "fewest_modes"]

# Sets of modes that are tried: whole radial orders up to this Noll index. The next set
# must explain held-out beads better by this much.
_LAST_MODES, _BETTER_DB = (15, 21, 28), 0.3
# Number of beads from which the number of modes is chosen.
_FOR_MODES = 24


def fewest_modes() -> tuple[int, ...]:
    """Return the Noll indices of the smallest set, without defocus."""
    return _modes(_LAST_MODES[0])


def _modes(last: int) -> tuple[int, ...]:
    return tuple(range(5, last + 1))


def choose_modes(
    model: StackModel,
    noise: PixelNoise,
    beads: dict[int, Bead],
    shape: tuple[int, int],
    progress: Callable[[str, float], None],
) -> tuple[StackModel, dict[int, Bead], tuple[tuple[int, float], ...]]:
    """Return the model with as many modes as held-out beads support, and its fits.

    Beads that cannot be fitted with these modes are left out.

    Parameters
    ----------
    model, noise
        Model with the fewest modes, and the noise of a pixel.
    beads
        Beads by number, with their fits by this model.
    shape
        (H, W) of the frame.
    progress
        As for `calibrate_stack`.

    Returns
    -------
    model, beads
        The model, and the fits, with the chosen modes.
    tried
        Last mode of each set that was tried, and held-out beads explained, dB.
    """
    some = dict(list(beads.items())[:_FOR_MODES])
    best = held_out(model, list(some.values()), noise, shape)
    if best is None:
        return model, beads, ()
    tried = [(model.noll[-1], best.total_db)]
    for count, last in enumerate(_LAST_MODES[1:]):
        progress(f"trying modes up to Noll {last}", 0.4 + 0.2 * count)
        richer = replace(model, noll=_modes(last))
        more = _with_modes(richer, noise, some)
        score = held_out(richer, list(more.values()), noise, shape)
        if score is None:
            break
        tried.append((last, score.total_db))
        if score.total_db < best.total_db + _BETTER_DB:
            break
        others = {k: bead for k, bead in beads.items() if k not in some}
        beads = more | _with_modes(richer, noise, others)
        model, some, best = richer, more, score
    return model, beads, tuple(tried)


def _with_modes(
    model: StackModel, noise: PixelNoise, beads: dict[int, Bead]
) -> dict[int, Bead]:
    """Return the beads that can be fitted with more modes, from their present fits."""
    starts = []
    for bead in beads.values():
        old = bead.fit.bead.coefficients
        gamma = torch.zeros(len(model.noll), dtype=torch.float64)
        gamma[: len(old)] = old
        start = bead.fit.bead._replace(coefficients=gamma)
        starts.append(ToFit(bead.crop, start, beside=bead.fit.beside))
    return with_fits(beads, fit_beads(model, starts, noise))
