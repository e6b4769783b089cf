"""The change of the blur from two spectra, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2
from spectra import ANGLE, CUTOFF, FINE, RADIUS, Specimen, gaussian

from deepblur_live.drift.spectral_change import (
    SHAPES,
    MeanSpectrum,
    SpectralComparison,
    noise_level,
)

BLUR = gaussian(1.2)


def mean(specimen: Specimen, blur=BLUR, frames: int = 20) -> MeanSpectrum:
    spectra = [specimen.frame(blur).power for _ in range(frames)]
    return MeanSpectrum(np.mean(spectra, axis=0, dtype=float), frames, FINE)


def compared(now: MeanSpectrum, specimen: Specimen, **settings):
    comparison = SpectralComparison(mean(specimen), CUTOFF, **settings)
    return comparison, comparison.compare(now)


def strength(comparison, change) -> float:
    return float(np.sqrt(change.shapes @ comparison.metric @ change.shapes))


def test_noise_is_measured_beyond_the_otf():
    power = mean(Specimen(noise=0.3)).power
    assert noise_level(power, CUTOFF) == pytest.approx(0.3, rel=0.02)
    assert noise_level(np.full((64, 33), 2.0), 0.49) == pytest.approx(2)


def test_the_squared_change_is_chi_squared_where_nothing_changes():
    specimen = Specimen(noise=1.0)
    found = [compared(mean(specimen), specimen)[1] for _ in range(40)]
    squares = [change.chi_squared for change in found]
    # A bin's share of noise is taken from its neighbourhood, whose speckle differs.
    assert 0.7 * SHAPES < np.mean(squares) < 1.5 * SHAPES
    assert 0.7 < np.mean([change.residual for change in found]) < 1.1


def test_a_wider_gaussian_is_recovered():
    # log|ĥ|² changes by -4π²f²(σ₁² - σ₀²), which the shapes contain.
    specimen = Specimen()
    comparison, change = compared(mean(specimen, gaussian(1.25)), specimen)
    true = np.log(gaussian(1.25) / BLUR)[comparison._used]
    fitted = comparison._shapes @ change.shapes
    off = (fitted - fitted.mean()) - (true - true.mean())
    assert np.sqrt(np.mean(off**2)) < 0.05 * np.ptp(true)
    assert change.residual < 1.3
    sharpening = comparison.sharpening @ change.shapes
    assert sharpening < 0
    # It is part of the strength, here most of it.
    assert 0.8 * strength(comparison, change) < -sharpening
    assert -sharpening <= strength(comparison, change)


def test_stretching_is_a_change_that_neither_softens_nor_sharpens():
    specimen = Specimen()
    blur = gaussian(1.2) * np.exp(0.5 * (RADIUS / 0.3) ** 2 * np.cos(2 * ANGLE))
    comparison, change = compared(mean(specimen, blur), specimen)
    assert strength(comparison, change) > 0.02
    sharpening = comparison.sharpening @ change.shapes
    assert abs(sharpening) < 0.2 * strength(comparison, change)


@pytest.mark.parametrize(
    "now", [Specimen(light=0.7), Specimen(light=2.0), Specimen(noise=0.02)]
)
def test_gain_and_noise_are_free(now):
    comparison, change = compared(mean(now), Specimen())
    assert change.chi_squared < chi2.ppf(0.999, SHAPES)
    assert change.residual < 1.3
    assert strength(comparison, change) < 0.01


def test_another_specimen_is_not_smooth():
    change = compared(mean(Specimen(seed=1)), Specimen())[1]
    assert change.residual > 20
    # The scatter of both speckles, with 12 independent values each.
    assert change.excess == pytest.approx(2 / 12, rel=0.25)


def test_scatter_of_the_specimen_widens_the_covariance():
    specimen = Specimen(moving=0.3)
    frames = [mean(specimen, frames=1) for _ in range(30)]
    reference = MeanSpectrum(np.mean([f.power for f in frames], axis=0), 30, FINE)
    still = SpectralComparison(reference, CUTOFF)
    moving = SpectralComparison(reference, CUTOFF, scatter=0.3)
    assert np.mean([still.compare(f).chi_squared for f in frames]) > 3 * SHAPES
    squares = [moving.compare(f).chi_squared for f in frames]
    assert np.mean(squares) == pytest.approx(SHAPES, rel=0.3)


def test_a_spectrum_of_noise_is_refused():
    with pytest.raises(ValueError, match="bins of the spectrum are above the noise"):
        SpectralComparison(mean(Specimen(noise=1e6)), CUTOFF)
