"""Symmetries: orbits, nearest equivalents, transformed covariances."""

import numpy as np
import pytest
import torch

from deepblur_live.blur import ResolvedBy, Symmetry, nearest, orbit
from deepblur_live.blur.symmetry import nearest_rows
from deepblur_live.blur.zernike import ZernikeFamily

FAMILY = ZernikeFamily()
EVEN = FAMILY.even


def test_the_orbit_is_the_identity_and_all_products():
    elements = orbit(FAMILY)
    gamma = np.linspace(0.1, 0.2, 7)
    expected = [
        gamma,
        np.where(EVEN, -gamma, gamma),
        np.where(EVEN, gamma, -gamma),
        -gamma,
    ]
    assert len(elements) == 4
    for element, image in zip(elements, expected, strict=True):
        np.testing.assert_array_equal(element.apply(gamma), image)
    kinds = [element.resolved_by for element in elements]
    never, image = ResolvedBy.NEVER, ResolvedBy.IMAGE
    assert kinds == [never, never, image, image]
    assert len(orbit(FAMILY, ResolvedBy.NEVER)) == 2
    assert len(orbit(FAMILY, ResolvedBy.SPECTRUM)) == 1


def test_the_nearest_equivalent_is_found_by_brute_force_too():
    generator = np.random.default_rng(0)
    elements = orbit(FAMILY)
    for _ in range(20):
        gamma, reference = generator.normal(size=(2, 7))
        found = nearest(gamma, reference, elements)
        distances = [
            np.linalg.norm(np.where(EVEN, a * gamma, b * gamma) - reference)
            for a in (1, -1)
            for b in (1, -1)
        ]
        assert np.linalg.norm(found - reference) == pytest.approx(min(distances))
    # A metric that ignores the odd modes leaves their sign as it is.
    metric = np.diag(EVEN.astype(float))
    found = nearest(np.ones(7), -np.ones(7), elements, metric)
    np.testing.assert_array_equal(found, np.where(EVEN, -1.0, 1.0))


def test_each_row_is_aligned_separately():
    generator = torch.Generator().manual_seed(0)
    gamma = torch.randn(6, 7, generator=generator)
    reference = torch.randn(7, generator=generator)
    elements = orbit(FAMILY)
    found = nearest_rows(gamma, reference, elements)
    for row, one in zip(gamma, found, strict=True):
        expected = nearest(row.double().numpy(), reference.double().numpy(), elements)
        np.testing.assert_allclose(one, expected)
    assert nearest_rows(reference, gamma, elements).shape == (6, 7)


def test_a_covariance_follows_its_estimate():
    """Of samples, with an affine symmetry that is no sign change."""
    turn = Symmetry(
        "axes exchanged",
        np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]),
        np.array([0.0, 0.0, np.pi / 2]),
        ResolvedBy.NEVER,
    )
    generator = np.random.default_rng(0)
    samples = generator.normal(size=(500, 3)) @ generator.normal(size=(3, 3))
    expected = np.cov(turn.apply(samples).T)
    np.testing.assert_allclose(turn.covariance(np.cov(samples.T)), expected)
    assert turn.flipped is None
    assert FAMILY.symmetries[0].flipped.tolist() == EVEN.tolist()
    twice = turn.after(turn).apply(np.array([1.0, 2.0, 0.0]))
    np.testing.assert_allclose(twice, [1, 2, np.pi])
