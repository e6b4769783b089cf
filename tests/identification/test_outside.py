"""A blur outside the set that a family was learned from is refused, and only that."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from specimens import ERRORS, FAMILY, LENIENT, blurred, cells

from deepblur_live.blur import wide_prior
from deepblur_live.calibration.learning import learn_family
from deepblur_live.identification import Identifier, outside, welch
from deepblur_live.identification.search import LOCAL
from deepblur_live.identification.specimen import SpecimenSpectrum

SPECIMEN = SpecimenSpectrum.learned(
    torch.stack([welch(cells(seed=100 + i))[0] for i in range(8)]), 6
)
MIDDLE = np.array([0.0, 0.05, -0.04, 0.06, 0.03, -0.02, 0.04])
LEARNED = learn_family(
    MIDDLE + 0.01 * np.random.default_rng(0).normal(size=(20, 7)), FAMILY
)
# In oblique astigmatism and coma, 40 nm: the states scatter by 5 nm in each.
AWAY = np.array([0.0, 0.05, 0.0, 0.05, 0.0, 0.0, 0.0])


def solved(gamma):
    """Return identifier, problem and estimate of a frame, by a quick search."""
    identifier = Identifier(LEARNED, LENIENT, specimen=SPECIMEN)
    identifier.refiner._library_size = 200
    identifier.motion = None
    image = blurred(cells(256, 3), gamma, 0.003, 3)
    identifier.observe(image, 0.0)
    problem = identifier.prepare(image, np.zeros(7))
    quick = replace(problem, search=LOCAL, phases=False)
    return identifier, quick, identifier.solve(quick).estimate


@pytest.fixture(autouse=True, scope="module")
def small_library():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outside, "_LIBRARY", 200)
        yield


def test_the_wide_family_has_the_same_blurs_and_the_prior_of_the_optics():
    wide = wide_prior(LEARNED)
    c = 0.02 * torch.arange(7)
    assert torch.equal(wide.psf(c), LEARNED.psf(c))
    order = [FAMILY.names.index(name) for name in LEARNED.names]
    spread = np.diag(FAMILY.prior.covariance)[order]
    np.testing.assert_allclose(np.diag(wide.prior.covariance), spread)
    # Of its own there is nothing to compare it with.
    assert wide_prior(FAMILY) is None
    assert Identifier(FAMILY, ERRORS, specimen=SPECIMEN).outside is None


@pytest.fixture(scope="module")
def inside():
    return solved(MIDDLE)


def test_a_calibrated_blur_is_trusted(inside):
    identifier, problem, found = inside
    assert found.trusted, found.reason
    compared = identifier.outside.compare(problem, found.coefficients)
    assert compared.gain < 3
    assert compared.missed is None


def test_a_blur_outside_is_refused_and_says_what_to_do():
    identifier, problem, found = solved(MIDDLE + AWAY)
    assert not found.trusted
    assert "outside the calibrated set: calibrate again" in found.reason
    assert identifier.outside.compare(problem, found.coefficients).gain > 8


def test_a_blur_of_the_set_that_the_search_missed_is_found(inside, monkeypatch):
    identifier, problem, found = inside
    learned, fits = identifier.outside._learned, []
    fit = learned.fit

    def stuck_at_first(data, starts):
        fits.append(fit(data, starts))
        worse = 30 if len(fits) == 1 else 0
        return replace(fits[-1], objective=fits[-1].objective + worse)

    monkeypatch.setattr(learned, "fit", stuck_at_first)
    compared = identifier.outside.compare(problem, found.coefficients)
    assert compared.gain < 3
    error = np.linalg.norm(compared.missed[0].numpy() - found.coefficients)
    assert FAMILY.wavelength_nm * error < 10


def test_a_refusal_keeps_its_reason_unless_a_blur_outside_explains_the_frames(inside):
    identifier, _, found = inside
    refused = replace(found, trusted=False, reason="no blur of the family fits")
    for gain, quality, reason in (
        (3.0, 0.5, refused.reason),
        (30.0, 5.0, refused.reason),
        (30.0, 0.5, "calibrated set"),
    ):
        compared = outside.Comparison(gain, quality)
        assert reason in identifier.outside.judge(compared, refused).reason
