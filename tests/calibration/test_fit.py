"""Fits in batches: as single ones, and none ends the others."""

import numpy as np
import pytest
import torch
from test_neighbours import MODEL, NOISE, crop

from deepblur_live.calibration import fit
from deepblur_live.calibration.fit import fit_beads
from deepblur_live.calibration.neighbours import to_fit


@pytest.fixture(scope="module")
def starts():
    """Beads alone, with neighbours, with known light, and with a residual."""
    alone = [to_fit(MODEL, crop(seed=k)) for k in range(5)]
    together = [to_fit(MODEL, crop((3.4, 2.2, 0.8), seed=k)) for k in (7, 8)]
    light = torch.full_like(alone[0].crop, 5.0)
    light[:, 3:6] = 40.0
    beside = alone[1]._replace(crop=alone[1].crop + light, beside=light)
    extra = alone[2]._replace(extra=light / 2e4)
    return [together[0], *alone, beside, together[1], extra]


@pytest.mark.parametrize(
    ("options", "fixed"),
    [
        ({}, 0),
        ({"fit_blur": False}, 1),
        ({"fit_coefficients": False, "fit_blur": False}, 1 + len(MODEL.noll)),
    ],
)
def test_a_batch_gives_the_answers_of_single_fits(starts, options, fixed):
    done = []
    batch = fit_beads(MODEL, starts, NOISE, on_fitted=done.append, **options)
    assert done[-1] == len(starts)
    for start, found in zip(starts, batch, strict=True):
        (single,) = fit_beads(MODEL, [start], NOISE, **options)
        deviation = np.sqrt(np.diag(single.covariance))
        free = deviation > 0
        assert (~free).sum() == fixed
        off = (found.bead.vector() - single.bead.vector()).numpy()
        assert np.abs(off[free] / deviation[free]).max() < 0.02
        assert not off[~free].any()
        assert np.allclose(found.covariance, single.covariance, rtol=0.01)
        assert (found.beside is None) == (single.beside is None)


def test_known_light_is_no_part_of_the_bead(starts):
    alone, beside = fit_beads(MODEL, [starts[2], starts[6]], NOISE)
    deviation = np.sqrt(np.diag(alone.covariance))
    off = (beside.bead.vector() - alone.bead.vector()).numpy() / deviation
    # The variance of the known light is another one.
    assert np.abs(off).max() < 1


def test_a_crop_that_cannot_be_fitted_does_not_end_the_others(starts):
    small = starts[1]._replace(crop=starts[1].crop[:, :9])
    broken = starts[2]._replace(crop=starts[2].crop * torch.nan)
    found = fit_beads(MODEL, [small, *starts[3:5], broken], NOISE)
    assert [one is None for one in found] == [True, False, False, True]


def test_no_more_crops_than_a_batch_are_fitted_at_once(starts, monkeypatch):
    sizes, of_batch = [], fit._fitted

    def counted(model, crops, *others):
        sizes.append((len(crops), len(crops[0].neighbours)))
        return of_batch(model, crops, *others)

    monkeypatch.setattr(fit, "_fitted", counted)
    fit_beads(MODEL, starts, NOISE, steps=1)
    assert sizes == [(4, 0), (3, 0), (2, 1)]
