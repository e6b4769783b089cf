"""What is known of one PSF, as a field."""

import numpy as np

from deepblur_live.blur.one_psf import as_field, local_family, of_mean
from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.blur.zernike_field import ZernikeField


def test_of_a_field():
    field = ZernikeField()
    gamma = np.linspace(-0.05, 0.05, 7)
    known = 1e-4 * np.eye(7) + 1e-5
    c, covariance = as_field(field, gamma, known)
    assert local_family(field) is field.local
    middle, corner = field.design(np.array([[0.5, 0.5], [0.0, 0.0]]))
    for place in (middle, corner):
        np.testing.assert_allclose(place @ c, gamma)
    np.testing.assert_allclose(middle @ covariance @ middle.T, known, atol=1e-18)
    # Away from the middle as uncertain as a field is beforehand.
    prior = corner @ field.prior.covariance @ corner.T
    constant = middle @ field.prior.covariance @ middle.T
    np.testing.assert_allclose(
        corner @ covariance @ corner.T, known + prior - constant, atol=1e-18
    )


def test_the_mean_blur_is_as_uncertain_as_the_one_psf():
    field = ZernikeField()
    gamma, known = np.linspace(-0.05, 0.05, 7), 1e-4 * np.eye(7) + 1e-5
    c, covariance = as_field(field, gamma, known)
    mean = of_mean(field, c, covariance)
    for place in field.design(np.array([[0.5, 0.5], [0.0, 0.0], [1.0, 0.3]])):
        np.testing.assert_allclose(place @ mean @ place.T, known, atol=1e-18)
    # A field that does vary keeps all of its covariance.
    c[-1] = 1e-3
    assert of_mean(field, c, covariance) is covariance


def test_of_another_family():
    family = ZernikeFamily()
    gamma, covariance = np.zeros(7), np.eye(7)
    assert as_field(family, gamma, covariance) == (gamma, covariance)
    assert of_mean(family, gamma, covariance) is covariance
    assert local_family(family) is family
