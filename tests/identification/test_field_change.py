"""Whether new spectra of cells contradict the field of their average."""

import numpy as np
import pytest
import torch

from deepblur_live.blur.field_basis import FieldView
from deepblur_live.blur.zernike import PAPER_MODES, ZernikeFamily
from deepblur_live.blur.zernike_field import ZernikeField
from deepblur_live.identification import SpecimenSpectrum
from deepblur_live.identification.field.cells import Cells
from deepblur_live.identification.field.change import ChangeOfField
from deepblur_live.identification.field.search import model_of, terms
from deepblur_live.identification.field.verdict import variation
from deepblur_live.identification.observed import observe
from deepblur_live.identification.otf import LinearOtf, log_otf

LOCAL = ZernikeFamily(noll=PAPER_MODES, ranges=0.15)
FIELD = ZernikeField(LOCAL, FieldView(768, 768))
CELLS = Cells.of_frame(768, 768)
# Windows of a cell, frames of the average, and noise.
AVERAGES, FRAMES, NOISE = 20.0, 10.0, 1e-5
SHAPE = (64, 33)


def field(**values):
    coefficients = torch.zeros(FIELD.n_coefficients, dtype=torch.float64)
    for name, value in values.items():
        names = [n.replace(",", "").replace(" ", "_") for n in FIELD.names]
        coefficients[names.index(name)] = value
    return coefficients


BEFORE = field(
    defocus=0.06,
    field_curvature=0.08,
    vertical_astigmatism=0.05,
    horizontal_coma=0.06,
    coma_linear=0.06,
)
MODEL = model_of(FIELD, CELLS.positions)


def spectra(coefficients, frames, seed, specimens=0):
    """Spectra of cells whose specimens differ, with the scatter of their averages."""
    logs = log_otf(LOCAL, MODEL.at(coefficients).float())
    chance = np.random.default_rng(1 + specimens)
    strength, slope = chance.normal(0, [[1.0], [0.3]], (2, len(CELLS)))
    radius = np.hypot(*np.meshgrid(np.fft.rfftfreq(64), np.fft.fftfreq(64)))
    falls = np.log(radius.clip(1 / 64)).ravel()
    own = strength[:, None] - (2 + slope[:, None]) * falls[None] - 5
    mean = torch.exp(torch.from_numpy(own) + logs) + NOISE
    shape = AVERAGES * frames
    scatter = np.random.default_rng(seed).gamma(shape, 1 / shape, mean.shape)
    return (mean * torch.from_numpy(scatter)).float().view(-1, *SHAPE)


@pytest.fixture(scope="module")
def change():
    average = spectra(BEFORE, FRAMES, 0)
    data = observe(
        average, AVERAGES, FRAMES, LOCAL.cutoff, SpecimenSpectrum.smooth(), None
    )
    linear = LinearOtf.near(LOCAL, MODEL.at(BEFORE).float(), data.keep)
    nodal = MODEL.within(terms(FIELD).nodal)
    compared = ChangeOfField(linear, nodal, data, LOCAL.cutoff)

    def between(after):
        return compared.between(average, after, AVERAGES, FRAMES)

    return between


def test_the_same_field_has_not_changed(change):
    found = change(spectra(BEFORE, 1.0, 1))
    assert not found.clear
    assert found.ratio < 4


@pytest.mark.parametrize("name", ["defocus_linear_along_x", "coma_linear"])
def test_a_change_of_the_field_is_found_in_one_frame(change, name):
    moved = BEFORE + field(**{name: 0.06})
    found = change(spectra(moved, 1.0, 1))
    assert found.clear
    assert found.ratio > 10
    size = (MODEL.at(moved - BEFORE) / LOCAL.prior.scale[0]).square().sum(1).mean()
    # To first order, and drawn to zero by the prior.
    assert 0.3 < found.size / float(size.sqrt()) < 1.2


def test_other_specimens_in_the_cells_are_no_change_of_the_field(change):
    found = change(spectra(BEFORE, 1.0, 1, specimens=1))
    assert not found.clear


def test_variation_is_relative_to_the_stated_error():
    every = np.diag(np.full(FIELD.n_coefficients, 1e-4))
    tilt = field(defocus_linear_along_x=0.1)
    constant = field(defocus=0.1)
    assert variation(FIELD, constant, every) == pytest.approx(0, abs=1e-9)
    # The same whatever is constant; half with twice the error.
    found = variation(FIELD, tilt + constant, every)
    assert found == pytest.approx(variation(FIELD, tilt, every))
    assert variation(FIELD, tilt, 4 * every) == pytest.approx(found / 2)
    design = FIELD.design(FIELD.view.grid(7))
    rms = np.square(design @ tilt.numpy()).mean() ** 0.5
    error = np.square(0.01 * design).sum(2).mean() ** 0.5
    assert found == pytest.approx(rms / error, rel=1e-6)
