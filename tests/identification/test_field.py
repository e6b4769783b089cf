"""A field identified from the cells of a frame."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from deepblur_live.blur.field_basis import FieldView
from deepblur_live.blur.zernike import PAPER_MODES, ZernikeFamily
from deepblur_live.blur.zernike_field import ZernikeField
from deepblur_live.identification import SpectralRefiner, weighted
from deepblur_live.identification.field import solver
from deepblur_live.identification.field.cells import (
    Cells,
    CellSpectra,
    observed_cells,
)
from deepblur_live.identification.field.fit import FieldFitter, _positive
from deepblur_live.identification.field.identifier import FieldIdentifier
from deepblur_live.identification.field.phase import (
    CellPhases,
    FieldOrientation,
    KeptPhases,
    over_one_psf,
    trust,
)
from deepblur_live.identification.field.search import (
    model_of,
    model_of_cells,
    terms,
)
from deepblur_live.identification.field.verdict import one_psf_estimate
from deepblur_live.identification.otf import LinearOtf, log_otf
from deepblur_live.identification.phase import LocalPhase
from deepblur_live.identification.specimen import SpecimenSpectrum
from deepblur_live.optics import psf_snr
from deepblur_live.runtime.pack import load_pack

SIDE, SIGMA = 512, 0.002
LOCAL = ZernikeFamily(noll=PAPER_MODES, ranges=0.15)
FIELD = ZernikeField(LOCAL, FieldView(SIDE, SIDE))
ERRORS = load_pack("zernike7").manifest.error_model


def specimen(side, seed=0):
    """Discs of many sizes, alike everywhere in the frame."""
    generator = np.random.default_rng(seed)
    image = np.zeros((side, side), np.float32)
    rows, columns = np.mgrid[:side, :side]
    for _ in range(side * side // 250):
        y, x = generator.uniform(0, side, 2)
        radius, light = generator.uniform(1, 6), generator.uniform(0.1, 1)
        top, left = max(0, int(y - 8)), max(0, int(x - 8))
        part = np.s_[top : int(y) + 9, left : int(x) + 9]
        inside = np.hypot(rows[part] - y, columns[part] - x) < radius
        image[part] += light * inside
    return torch.from_numpy(image / image.max())


def blurred(sharp, family, coefficients, seed=0):
    """A frame with the PSF of each of 8 × 8 places, blended: slow, and independent."""
    line = (torch.arange(SIDE) + 0.5) / SIDE * 8 - 0.5
    tents = (1 - (line.clamp(0, 7)[None] - torch.arange(8)[:, None]).abs()).clamp(min=0)
    transfer = torch.fft.rfft2(sharp)
    result = torch.zeros(SIDE, SIDE)
    for row in range(8):
        for column in range(8):
            place = (row + 0.5) / 8, (column + 0.5) / 8
            psf = family.psf(coefficients.float(), place)
            padded = torch.zeros(SIDE, SIDE)
            padded[: len(psf), : len(psf)] = psf
            shift = len(psf) // 2
            otf = torch.fft.rfft2(padded.roll((-shift, -shift), (0, 1)))
            image = torch.fft.irfft2(transfer * otf, s=(SIDE, SIDE))
            result += tents[row][:, None] * tents[column][None] * image
    noise = torch.Generator().manual_seed(seed)
    return result + SIGMA * torch.randn(SIDE, SIDE, generator=noise)


@pytest.fixture(scope="module")
def truth():
    coefficients = torch.zeros(FIELD.n_coefficients, dtype=torch.float64)
    values = {
        "defocus": 0.02,
        "defocus, linear, along x": 0.08,
        "field curvature": 0.05,
        "vertical astigmatism": 0.06,
        "horizontal coma": 0.07,
    }
    for name, value in values.items():
        coefficients[FIELD.names.index(name)] = value
    return coefficients


@pytest.fixture(scope="module")
def frame(truth):
    return blurred(specimen(SIDE), FIELD, truth)


def spectra(image, average_s=5.0, times=(0.0,)):
    found = CellSpectra(average_s, FIELD.cutoff)
    for time in times:
        found.add(image, time)
    return found


def test_each_window_belongs_to_one_cell():
    for height, width in ((512, 700), (1030, 768), (200, 64)):
        cells = Cells.of_frame(height, width)
        windows = ((height - 64) // 32 + 1) * ((width - 64) // 32 + 1)
        assert cells.members.shape == (len(cells), windows)
        assert (cells.members.sum(0) == 1).all()
        assert (cells.members.sum(1) >= 1).all()
        positions = cells.positions
        assert ((positions > 0) & (positions < 1)).all()


def test_a_cell_has_the_spectrum_of_its_part_of_the_frame(frame):
    average = spectra(frame).cells
    cells = Cells.of_frame(SIDE, SIDE)
    for number in (0, 4, len(cells) - 1):
        alone = weighted(frame[cells.parts[number]].contiguous(), FIELD.cutoff)
        torch.testing.assert_close(average.cell_power[number], alone.power)
        torch.testing.assert_close(average.cell_averages[number], alone.averages)
        assert float(average.cell_level[number]) == pytest.approx(alone.level)
    whole = weighted(frame, FIELD.cutoff)
    torch.testing.assert_close(average.power, whole.power)


def test_cells_are_averaged_over_frames_with_the_whole_frame(frame):
    brighter = 1.001 * frame
    found = CellSpectra(5.0, FIELD.cutoff)
    found.add(frame, 0.0)
    first = found.cells
    found.add(brighter, 1.0)
    share = float(np.exp(-1 / 5))
    second = CellSpectra(5.0, FIELD.cutoff)
    second.add(brighter, 0.0)
    expected = share * first.cell_power + second.cells.cell_power
    expected = expected / (share + 1)
    torch.testing.assert_close(found.cells.cell_power, expected, rtol=1e-3, atol=1e-9)


def test_cells_taken_together_have_the_mean_spectrum(frame):
    average, cells = spectra(frame).cells, Cells.of_frame(SIDE, SIDE)
    parts = cells.together(1)
    assert parts.shape == (1, len(cells))
    smooth = SpecimenSpectrum.smooth()
    data = observed_cells(average, 1.0, FIELD.cutoff, smooth, None, parts)
    mean = average.cell_power.mean(0)
    close = torch.log(mean + 1e-7 * mean.amax()).flatten()[data.keep]
    torch.testing.assert_close(data.log_power[0], close)


def fitter(image):
    average, cells = spectra(image).cells, Cells.of_frame(SIDE, SIDE)
    refiner = SpectralRefiner(LOCAL, ERRORS)
    data = observed_cells(average, 1.0, FIELD.cutoff, refiner.specimen, None)
    return FieldFitter(refiner, data), model_of(FIELD, cells.positions)


def test_normal_equations_are_those_of_all_unknowns_together(frame, truth):
    fit, every = fitter(frame)
    model = every.within(terms(FIELD).nodal)
    start = truth @ terms(FIELD).nodal
    nuisance = fit.begin(model.at(start).float())
    state = fit._evaluate(model, start, nuisance, None)
    equations = fit._equations(model, state, None)
    # With the cells' curvature known, or known for some of them, those are the same.
    wrong = FieldFitter(fit.refiner, fit.data)._equations(
        model, fit._evaluate(model, 0 * start, 0 * nuisance, None), None
    )
    some = torch.arange(len(nuisance)) < 2
    part = type(wrong.curvature)(*(x[some] for x in wrong.curvature))
    kept = equations.curvature.replaced(some, part)
    assert not torch.equal(kept.gamma, equations.curvature.gamma)
    for curvature, renewed in ((equations.curvature, ~some), (kept, some)):
        known = FieldFitter(fit.refiner, fit.data, curvature=curvature, renewed=renewed)
        torch.testing.assert_close(
            known._equations(model, state, None), equations, rtol=1e-4, atol=1e-3
        )
    step = 1e-4 * torch.linalg.solve(equations.hessian, equations.gradient)
    moved = fit._nuisance_step(model, equations, step)
    at_rest = fit._nuisance_step(model, equations, torch.zeros_like(step))
    # Along c with the nuisance parameters at their optimum: the slope is the gradient.
    ends = [
        fit._evaluate(
            model, start + s * step, nuisance + at_rest + s * (moved - at_rest), None
        ).objective
        for s in (-300.0, 300.0)
    ]
    slope = (ends[1] - ends[0]) / 600
    assert slope == pytest.approx(-float(step @ equations.gradient), rel=0.15)


def test_variances_are_not_negative():
    # A Schur complement that was rounded need not be positive.
    turn, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    values = torch.tensor([[2.0, 1.0, -0.5], [3.0, 2.0, 1.0]], dtype=torch.float64)
    found = _positive(turn @ torch.diag_embed(values) @ turn.T)
    expected = turn @ torch.diag_embed(values.clamp(min=0)) @ turn.T
    torch.testing.assert_close(found, expected)


def test_the_fit_finds_a_field(frame, truth):
    fit, every = fitter(frame)
    model = every.within(terms(FIELD).nodal)
    start = terms(FIELD).constant.sum(1) * 0.02 @ terms(FIELD).nodal
    begun = truth @ terms(FIELD).constant @ terms(FIELD).constant.T
    found = fit.fit(model, begun @ terms(FIELD).nodal + start)
    field = terms(FIELD).nodal @ found.coefficients
    places = FIELD.view.grid(3)
    true = LOCAL.psf(FIELD.at(truth, places).float())
    # A spectrum does not know the signs of even and of odd terms.
    odd = torch.from_numpy(np.where(FIELD.even, 1.0, -1.0))
    closeness = [
        float(psf_snr(LOCAL.psf(FIELD.at(c, places).float()), true).mean())
        for c in (field, odd * field)
    ]
    assert max(closeness) > 19
    constant = every.within(terms(FIELD).constant)
    worse = fit.fit(constant, truth @ terms(FIELD).constant)
    gain = found.log_evidence(model) - worse.log_evidence(constant)
    assert gain > 10


def test_a_linear_model_of_the_otf_is_one():
    gamma = LOCAL.sample(4, torch.Generator().manual_seed(1))
    linear = LinearOtf.near(LOCAL, gamma, torch.ones(64 * 33, dtype=torch.bool))
    near = gamma + 0.001
    assert linear.covers(near)
    assert not linear.covers(gamma + 0.1)
    change = log_otf(LOCAL, near) - linear.logs
    assert (
        linear(near)[0] - log_otf(LOCAL, near)
    ).abs().mean() < 0.05 * change.abs().mean()
    # Where γ has left the model, it is recomputed; the others stay.
    far = gamma.clone()
    far[2] += 0.1
    left = linear.left(far)
    assert left.tolist() == [False, False, True, False]
    renewed = linear.renewed(LOCAL, far, torch.ones(64 * 33, dtype=torch.bool), left)
    torch.testing.assert_close(renewed(far)[0], log_otf(LOCAL, far))
    assert torch.equal(renewed.slopes[0], linear.slopes[0])
    assert renewed.covers(far) and not linear.covers(far)


def test_a_cells_last_phase_model_is_used_until_it_is_old_or_far():
    scale = torch.as_tensor(LOCAL.prior.scale)
    bend = 3 * torch.eye(len(scale))[None]
    model = LocalPhase(
        torch.full((1, len(scale)), 0.01),
        torch.ones(1, len(scale)),
        bend,
        scale,
        torch.full((1, 1, 1), 0.5),
    )
    kept = KeptPhases.none(3, scale).renewed([1], [model], 5.0, [1])
    gamma = torch.zeros(3, len(scale))
    usable = kept.usable(6.0, 10.0, gamma)
    factor = trust(*model.slope(gamma[1, None]))
    expected = factor * model.cost(gamma[1, None])
    torch.testing.assert_close(usable.cost(gamma), expected * torch.eye(3)[1])
    slope, curvature = usable.slope(gamma)
    torch.testing.assert_close(slope[1], factor * model.slope(gamma[1, None])[0][0])
    torch.testing.assert_close(curvature[1], factor * bend[0])
    assert not slope[::2].any() and not curvature[::2].any()
    for now, at in ((16.0, gamma), (4.0, gamma), (6.0, gamma + 0.1)):
        assert not kept.usable(now, 10.0, at).cost(gamma).any()
    assert kept.edges(0, 6.0, 60.0) is None and kept.edges(1, 66.0, 60.0) is None
    torch.testing.assert_close(kept.edges(1, 6.0, 60.0), model.edges)
    # Not measured again: it keeps its time.
    again = kept.renewed([1], [model], 9.0, [])
    assert again.time[1] == 9.0 and again.edges_time[1] == 5.0


def test_phases_that_contradict_a_fit_count_for_less():
    scale = torch.as_tensor(LOCAL.prior.scale)
    curvature = torch.diag(1 / scale**2).expand(3, -1, -1)
    # Slopes of 0, 1 and 10 standard deviations of what the curvature lets expect.
    slope = torch.tensor([0.0, 1.0, 10.0])[:, None] * (0.3**0.5 / scale)
    factor = 0.3 * trust(slope, curvature)
    assert factor[:2].tolist() == pytest.approx([2.0, 1.0])
    assert factor[2] < 0.03


def test_orientation_needs_more_evidence_than_chance():
    orientation = FieldOrientation(ERRORS)
    assert not orientation.rotated(1.0, 36, known=False)
    assert not orientation.resolved
    assert orientation.rotated(-200.0, 36, known=True)
    assert orientation.resolved
    assert not orientation.rotated(-20.0, 36, known=True)


def test_phases_prefer_a_field_to_one_psf_in_either_orientation(frame, truth):
    cells = Cells.of_frame(SIDE, SIDE)
    gamma = model_of(FIELD, cells.positions).at(truth).float()
    phases = CellPhases(LOCAL, frame, cells, SIGMA).all(gamma)
    one = gamma.mean(0)
    even = torch.from_numpy(np.where(LOCAL.even, 1.0, -1.0)).float()
    better = over_one_psf(phases, gamma, one)
    assert better > 5
    assert over_one_psf(phases, gamma, even * one) == pytest.approx(better, abs=1e-3)
    everywhere = one.expand_as(gamma)
    assert over_one_psf(phases, everywhere, one) == pytest.approx(0, abs=1e-3)


def test_small_frames_get_one_psf(frame):
    identifier = FieldIdentifier(FIELD, ERRORS)
    # The whole library takes seconds, and is not needed here.
    identifier.one.refiner._library_size = 300
    identifier.observe(frame, 0.0)
    solution = identifier.solve(identifier.prepare(frame))
    found = identifier.accept(solution)
    local = solution.one.estimate
    np.testing.assert_array_equal(
        found.coefficients, FIELD.constant(local.coefficients)
    )
    assert found.trusted == local.trusted
    notes = identifier.take_notes()
    assert len(notes) == 1 and "768" in notes[0]
    identifier.accept(solution)
    assert not identifier.take_notes()


def test_a_field_is_found_and_followed(frame, truth, monkeypatch):
    identifier = FieldIdentifier(FIELD, ERRORS, least_side=512)
    identifier.one.refiner._library_size = 300
    identifier.observe(frame, 0.0)
    # One PSF, as quickly as without a field.
    rough = identifier.accept(identifier.solve(identifier.prepare(frame).simpler))
    assert rough.provisional
    constant = FIELD.local.n_coefficients
    assert np.count_nonzero(rough.coefficients) == constant
    problem = identifier.prepare(frame).simpler
    assert not problem.provisional and problem.one.search is not None
    solution = identifier.solve(problem)
    # Phases do not replace the evidence of the spectra.
    with monkeypatch.context() as patch:
        weak = replace(solution.found, gain=-5.0)
        patch.setattr(solver, "search", lambda *args: weak)
        patch.setattr(solver, "over_one_psf", lambda *args: 50.0)
        assert identifier.solve(problem).tracked is None
    # They may refute it: the field of the spectra, which was not fitted to them.
    with monkeypatch.context() as patch:
        asked = []
        patch.setattr(solver, "search", lambda *args: solution.found)
        refuted = -1 - solution.found.gain
        patch.setattr(
            solver, "over_one_psf", lambda *args: asked.append(args[1]) or refuted
        )
        assert identifier.solve(problem).tracked is None
    cells = model_of_cells(FIELD, problem.cells.cells)
    alone = solution.found.used @ solution.found.fit.coefficients
    even = torch.from_numpy(np.where(FIELD.even, 1.0, -1.0))
    rotations = [cells.at(sign * alone).float() for sign in (1.0, even)]
    assert any(torch.allclose(asked[0], gamma) for gamma in rotations)
    first = identifier.accept(solution)
    assert first.trusted, first.reason
    assert not first.provisional
    places = FIELD.view.grid(3)
    true = LOCAL.psf(FIELD.at(truth, places).float())

    def closeness(coefficients):
        local = FIELD.at(torch.from_numpy(coefficients), places).float()
        return float(psf_snr(LOCAL.psf(local), true).mean())

    one = FIELD.constant(solution.one.estimate.coefficients)
    assert closeness(first.coefficients) > closeness(one) + 3
    identifier.observe(frame, 1.0)
    identifier.one._searched_frames = 9.0
    following = identifier.prepare(frame, first.coefficients)
    assert following.tracked is not None
    second = identifier.accept(identifier.solve(following))
    assert second.trusted, second.reason
    assert abs(closeness(second.coefficients) - closeness(first.coefficients)) < 2
    # The phases of one cell are new; its share of edges is that of the first frame.
    phases = identifier._tracked.phases
    assert phases.edges_time[phases.time == 1.0].tolist() == [0.0]
    # A step: two frames contradict the average, and the field is followed at once.
    moved = truth.clone()
    moved[FIELD.names.index("defocus, linear, along x")] -= 0.12
    moved[FIELD.names.index("astigmatism, linear, along y")] += 0.1
    for number in (1, 2):
        tilted = blurred(specimen(SIDE), FIELD, moved, number)
        identifier.observe(tilted, 1.0 + number)
    assert identifier.spectrum.began == 3.0
    problem = identifier.prepare(tilted, second.coefficients)
    assert problem.stepped
    solution = identifier.solve(problem)
    third = identifier.accept(solution)
    assert solution.one is None and third.trusted
    true = LOCAL.psf(FIELD.at(moved, places).float())
    assert closeness(third.coefficients) > closeness(second.coefficients) + 3
    # The tracker has not accepted it yet: the fit goes on from it all the same.
    fourth = identifier.estimate(tilted, second.coefficients)
    assert closeness(fourth.coefficients) > closeness(second.coefficients) + 3
    # Another specimen: what is on its way does not count any more.
    late = identifier.solve(identifier.prepare(frame, second.coefficients))
    identifier.reset()
    assert identifier.accept(late) is None


def test_the_terms_of_one_psf_that_vary_are_as_uncertain_as_those_of_a_field():
    identifier = FieldIdentifier(FIELD, ERRORS)
    identifier.observe(torch.rand(SIDE, SIDE), 0.0)
    found = identifier.one.solve(identifier.one.prepare(torch.rand(SIDE, SIDE)))
    stated = np.diag(np.arange(1.0, FIELD.n_coefficients + 1))
    field = one_psf_estimate(FIELD, found.estimate, stated)
    vary = np.array([term.order > 0 for term in FIELD.terms])
    np.testing.assert_array_equal(
        field.covariance[np.ix_(vary, vary)], stated[np.ix_(vary, vary)]
    )
    assert not one_psf_estimate(FIELD, found.estimate).covariance[vary].any()
    assert not found.estimate.trusted and not field.trusted
