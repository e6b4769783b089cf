"""Identification of known blurs, with no network: accuracy, errors, refusals."""

import numpy as np
import pytest
import torch
from specimens import ERRORS, FAMILY, LENIENT, blurred, cells, fit_of, rotated

from deepblur_live.blur.zernike import SPHERICAL_MODES, ZernikeFamily
from deepblur_live.identification import (
    Identifier,
    Orientation,
    SpectralRefiner,
    welch,
)
from deepblur_live.identification.normal_equations import normal_equations
from deepblur_live.optics import psf_snr
from deepblur_live.runtime.calibration import scale


def truths(n, seed=3):
    return FAMILY.sample(n, torch.Generator().manual_seed(seed)).double().numpy()


def snr(gamma, truth, family=FAMILY):
    both = torch.tensor(np.stack([gamma, truth]))
    h, reference = family.psf(both)
    return float(psf_snr(h, reference))


@pytest.fixture(scope="module")
def mean_psf():
    return FAMILY.psf(FAMILY.sample(500, torch.Generator().manual_seed(0))).mean(0)


def test_blurs_are_identified_far_better_than_by_a_constant_guess(mean_psf):
    scores, trivial = [], []
    for i, truth in enumerate(truths(4)):
        frame = blurred(cells(seed=i), truth, 0.003, i)
        identifier = Identifier(FAMILY, ERRORS)
        identifier.observe(frame, 0.0)
        found = identifier.estimate(frame)
        assert found.trusted, found.reason
        scores.append(snr(found.coefficients, truth))
        reference = FAMILY.psf(torch.tensor(truth).float())
        trivial.append(float(psf_snr(mean_psf, reference)))
    # The median: in a few frames a wrong minimum is trusted.
    assert np.median(scores) > np.median(trivial) + 8


def test_errors_are_of_the_size_the_covariance_says():
    refiner = SpectralRefiner(FAMILY, ERRORS)
    pulls = []
    for i, truth in enumerate(truths(8, seed=5)):
        spectrum, averages = welch(blurred(cells(seed=i), truth, 0.01, i))
        data = refiner.prepare(spectrum, averages, 1)
        fit = refiner.fit(data, torch.tensor(truth).float()[None])
        error = fit.coefficients[0] - truth
        pulls.append(error @ np.linalg.solve(fit.covariance, error) / len(error))
    assert 0.2 < np.median(pulls) < 4


def test_normal_equations_are_the_derivatives_of_the_misfit():
    refiner = SpectralRefiner(FAMILY, ERRORS)
    spectrum, averages = welch(blurred(cells(seed=1), truths(1)[0], 0.01))
    data = refiner.prepare(spectrum, averages, 1)
    gamma = torch.tensor(truths(2, seed=8)).float()
    nuisance = refiner.first_nuisance(data, gamma)
    p, q = gamma.shape[1], data.basis.shape[1]
    at = torch.cat([gamma, nuisance], 1)
    free = torch.zeros(p + q + 1, p + q + 1)

    def misfit(point):
        return refiner.misfit(data, point[:, :p], point[:, p:], at, free)

    _, residual, weights, slopes = misfit(at)
    hessian, gradient = normal_equations(data, slopes, weights, residual)
    for unknown in (0, 3, p - 1, p, p + 5, p + q):
        step = torch.zeros(p + q + 1)
        step[unknown] = 5e-4
        slope = (misfit(at + step)[0] - misfit(at - step)[0]) / 1e-3
        torch.testing.assert_close(-gradient[:, unknown], slope, rtol=0.02, atol=0.5)
    # Residuals caused by a step must give that step.
    step = torch.randn(len(at), p + q + 1, generator=torch.Generator().manual_seed(0))
    by_blur = torch.einsum("sp,spn->sn", step[:, :p], slopes.by_gamma)
    made = (by_blur + step[:, p:-1] @ data.basis.T) * slopes.signal
    made += step[:, -1:] * slopes.noise
    _, found = normal_equations(data, slopes, weights, made)
    wanted = torch.einsum("sij,sj->si", hessian, step)
    torch.testing.assert_close(
        found, wanted, rtol=1e-3, atol=1e-3 * float(wanted.max())
    )


def test_a_hot_pixel_does_no_harm():
    truth = truths(1, seed=3)[0]
    frame = blurred(cells(seed=0), truth, 0.005).numpy()
    frame[77, 121] = 40.0
    image = scale(frame).image
    identifier = Identifier(FAMILY, ERRORS)
    identifier.observe(image, 0.0)
    found = identifier.estimate(image)
    assert found.trusted
    assert snr(found.coefficients, truth) > 12


@pytest.mark.usefixtures("quick_search")
def test_a_network_output_that_is_not_finite_is_ignored():
    nothing = torch.full((7,), torch.nan)
    frame = blurred(cells(seed=0), truths(1, seed=3)[0], 0.005)
    found = []
    for network in (None, lambda spectrum: (nothing, nothing)):
        identifier = Identifier(FAMILY, ERRORS, network)
        identifier.observe(frame, 0.0)
        found.append(identifier.estimate(frame))
    assert found[0].trusted
    np.testing.assert_array_equal(found[1].coefficients, found[0].coefficients)


@pytest.mark.parametrize("noll", [(4,), (11,), (7, 8), (4, 7), tuple(range(4, 16))])
def test_any_list_of_modes_is_identified(noll):
    family = ZernikeFamily(noll=noll)
    truth = family.sample(1, torch.Generator().manual_seed(2))[0]
    specimen = cells(seed=1)
    shape = (specimen.shape[0], specimen.shape[1])
    y = family.operator(truth, shape).forward(specimen)[15:-15, 15:-15]
    y = y + 0.002 * torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
    identifier = Identifier(family, ERRORS)
    # The library of a family takes two seconds, which no other test uses.
    identifier.refiner._library_size = 4000
    identifier.observe(y, 0.0)
    found = identifier.estimate(y)
    assert found.trusted, found.reason
    assert snr(found.coefficients, truth.double().numpy(), family) > 15


def test_a_psf_window_larger_than_the_spectrums_is_refused():
    with pytest.raises(ValueError, match="PSF window of 107 pixels"):
        SpectralRefiner(
            ZernikeFamily(numerical_aperture=0.5, pixel_size_nm=80.0), ERRORS
        )


def test_a_calibrated_cameras_noise_follows_the_weighted_brightness():
    # All detail is on the dark side, with less light and less shot noise.
    frame = blurred(cells(seed=1), truths(1)[0], 0.05)
    bright = frame[:, : frame.shape[1] // 2]
    empty = torch.randn(bright.shape, generator=torch.Generator().manual_seed(0))
    bright[:] = 1 + 0.05 * empty
    identifier = Identifier(FAMILY, ERRORS)
    identifier.observe(frame, 0.0)
    mean, seen = float(frame.mean()), identifier.spectrum.average.level
    assert seen < 0.95 * mean
    problem = identifier.prepare(frame, noise=lambda level: 1e-3 * level)
    assert np.exp(problem.data.log_floor) == pytest.approx(1e-3 * seen)
    # Deblurring gets the noise of the whole frame.
    assert identifier.noise_sigma**2 == pytest.approx(1e-3 * mean)


@pytest.mark.slow
def test_averaging_frames_improves_accuracy_and_stated_error():
    better, smaller = [], []
    for seed in range(4, 9):
        truth = truths(1, seed=seed + 4)[0]
        specimen = cells(seed=seed)
        one, many = (
            Identifier(FAMILY, ERRORS),
            Identifier(FAMILY, ERRORS, average_s=1e6),
        )
        for k in range(30):
            frame = blurred(specimen, truth, 0.05, k)
            if k == 0:
                one.observe(frame, 0.0)
                single = one.estimate(frame)
            many.observe(frame, 0.01 * k)
        averaged = many.estimate(frame)
        better.append(
            snr(averaged.coefficients, truth) - snr(single.coefficients, truth)
        )
        smaller.append(np.trace(averaged.covariance) / np.trace(single.covariance))
    assert np.mean(better) > 5
    assert np.mean(smaller) < 0.6


@pytest.mark.usefixtures("quick_search")
def test_with_a_prediction_the_library_is_not_searched():
    truth = truths(1, seed=9)[0]
    frame = blurred(cells(seed=2), truth, 0.003)
    identifier = Identifier(FAMILY, ERRORS)
    identifier.observe(frame, 0.0)
    # The first frame is searched in spite of the prediction.
    identifier.estimate(frame, prediction=truth + 0.01)

    def searched(*_):
        raise AssertionError("the library was searched")

    identifier.refiner.starts = searched
    found = identifier.estimate(frame, prediction=truth + 0.01)
    assert snr(found.coefficients, truth) > 15
    # Both signs are those of the prediction.
    assert np.abs(found.coefficients - truth).max() < 0.06


@pytest.mark.usefixtures("quick_search")
def test_the_library_is_searched_again_when_the_average_has_been_renewed():
    truth = truths(1, seed=9)[0]
    frame = blurred(cells(seed=2), truth, 0.003)
    identifier = Identifier(FAMILY, ERRORS, average_s=5.0)
    searched, starts = [], identifier.refiner.starts

    def recorded(data, count, stride):
        searched.append(time)
        return starts(data, count, stride)

    identifier.refiner.starts = recorded
    for time in (0.0, 4.0, 9.9, 10.1, 14.0, 20.2):
        identifier.observe(frame, time)
        identifier.spectrum._weight_squared = identifier.spectrum._weight**2
        identifier.estimate(frame, prediction=truth)
    assert searched == [0.0, 10.1, 20.2]


@pytest.mark.usefixtures("quick_search")
def test_a_warm_fit_starts_from_the_last_nuisance_parameters(monkeypatch):
    truth = truths(1, seed=9)[0]
    clean = blurred(cells(seed=2), truth, 0.0)
    generator = torch.Generator().manual_seed(0)
    averages, ends = [], []
    misfit = SpectralRefiner.misfit
    monkeypatch.setattr(
        SpectralRefiner,
        "misfit",
        lambda self, *rest: averages.append(0) or misfit(self, *rest),
    )
    one, other = Identifier(FAMILY, ERRORS), Identifier(FAMILY, ERRORS)
    predictions = [truth, truth]
    for number in range(6):
        frame = clean + 0.01 * torch.randn(clean.shape, generator=generator)
        for k, identifier in enumerate((one, other)):
            identifier.observe(frame, 0.1 * number)
            identifier._searched_frames = 9.0
            if identifier is other:
                identifier._nuisance = None
            before = len(averages)
            predictions[k] = identifier.estimate(frame, predictions[k]).coefficients
            if number > 1:
                ends.append((len(averages) - before, predictions[k]))
    fewer, more = ([count for count, _ in ends[k::2]] for k in (0, 1))
    assert sum(fewer) < sum(more)
    for (_, a), (_, b) in zip(ends[::2], ends[1::2], strict=True):
        assert np.abs(a - b).max() < 1e-3


def test_a_warm_estimate_includes_the_competing_minima_of_the_last_search():
    truth = truths(1, seed=9)[0]
    frame = blurred(cells(seed=2), truth, 0.03)
    identifier = Identifier(FAMILY, LENIENT)
    identifier.observe(frame, 0.0)
    first = identifier.estimate(frame)
    # The other sign is as good a prediction, and transforms the scatter too.
    signs = np.where(FAMILY.even, -1.0, 1.0)
    identifier.observe(frame, 0.1)
    identifier._searched_frames = 9.0
    second = identifier.estimate(frame, prediction=signs * first.coefficients)
    assert identifier._competing is not None
    assert np.trace(identifier._competing.competing) > 1e-4
    assert np.trace(second.covariance) > np.trace(identifier._competing.competing)


def test_competing_minima_scatter_about_the_minimum_that_a_fit_reached():
    identifier = Identifier(FAMILY, ERRORS)
    best, other = np.full(7, 0.1), np.linspace(0.02, 0.14, 7)
    minima, zero = np.stack([best, other]), np.zeros((7, 7))
    competing = fit_of(minima, np.array([0.0, 1.0]), zero, zero, 0.5)
    apart = np.outer(other - best, other - best)
    even = np.where(FAMILY.even, -1.0, 1.0)
    for signs in (np.ones(7), even, -even, -np.ones(7)):
        for gamma, odds in ((best, np.exp(-1 / 4)), (other, np.exp(1 / 4))):
            warm = fit_of((signs * gamma)[None], np.zeros(1), zero, zero, 0.5)
            found = identifier._with_competing(warm, competing).competing
            expected = signs[:, None] * apart * signs * odds / (1 + odds)
            np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.usefixtures("quick_search")
def test_a_clock_set_back_does_not_postpone_the_search():
    frame = blurred(cells(seed=2), truths(1, seed=9)[0], 0.003)
    identifier = Identifier(FAMILY, ERRORS)
    for time in (100.0, 0.0):
        identifier.observe(frame, time)
        identifier.estimate(frame)
        assert identifier._searched_at == time


@pytest.mark.usefixtures("quick_search")
def test_after_a_step_the_old_blur_is_not_favoured():
    before, after = truths(2, seed=21)
    identifier = Identifier(FAMILY, ERRORS, average_s=5.0)
    credits = []
    for k in range(12):
        truth = before if k < 10 else after
        frame = blurred(cells(seed=3), truth, 0.003, k)
        identifier.observe(frame, 0.2 * k)
        if k >= 9:
            problem = identifier.prepare(frame, before)
            identifier.accept(identifier.solve(problem))
            credits.append(problem.hysteresis)
    assert credits[-1] == 0.0


def test_another_minimum_must_be_better_by_the_hysteresis():
    truth = truths(1, seed=9)[0]
    spectrum, averages = welch(blurred(cells(seed=2), truth, 0.003))
    refiner = SpectralRefiner(FAMILY, ERRORS)
    data = refiner.prepare(spectrum, averages, 1.0)
    starts = torch.from_numpy(np.stack([0.5 * truth, truth])).float()

    def first(hysteresis):
        return refiner.fit(data, starts, iterations=0, hysteresis=hysteresis)

    ahead = first(0.0).objective[1] - first(0.0).objective[0]
    assert ahead > 1
    np.testing.assert_allclose(first(0.0).coefficients[0], truth, atol=1e-6)
    np.testing.assert_allclose(
        first(ahead + 20).coefficients[0], 0.5 * truth, atol=1e-6
    )


def test_a_step_is_followed_and_no_estimate_mixes_two_blurs():
    before, after = truths(2, seed=21)
    specimen = cells(seed=3)
    identifier = Identifier(FAMILY, ERRORS, average_s=5.0)
    known, found_after = None, None
    for k in range(18):
        truth = before if k < 10 else after
        frame = blurred(specimen, truth, 0.003, k)
        identifier.observe(frame, 0.2 * k)
        estimate = identifier.estimate(frame, known)
        if estimate.trusted:
            known = estimate.coefficients
            # A wrong solution in between would move the tracker: none may be given.
            scores = snr(known, before), snr(known, after)
            assert max(scores) > 15
            if k >= 10 and found_after is None and scores[1] > 15:
                found_after = k - 10
    assert found_after is not None
    assert found_after <= 3
    assert snr(known, after) > 15


@pytest.mark.usefixtures("quick_search")
def test_the_network_is_used_first_and_after_a_step_not_every_time():
    before, after = truths(2, seed=21)
    inputs = []

    def network(spectrum):
        inputs.append(spectrum)
        return torch.zeros(7), torch.full((7,), 0.15)

    identifier = Identifier(FAMILY, ERRORS, network, average_s=5.0)
    known, counts = None, []
    for k in range(8):
        frame = blurred(cells(seed=3), before if k < 6 else after, 0.003, k)
        identifier.observe(frame, 0.2 * k)
        known = identifier.estimate(frame, known).coefficients
        counts.append(len(inputs))
    # Again when the average has doubled, and with the second frame after the step.
    assert counts[0] == 1
    assert counts[5] <= 3
    assert counts[7] == counts[6] + 1
    # An uncertain network does not hold back the fit.
    assert snr(known, after) > 15


@pytest.mark.usefixtures("quick_search")
def test_without_an_average_the_network_is_used_for_every_frame():
    inputs = []

    def network(spectrum):
        inputs.append(spectrum)
        return torch.zeros(7), torch.full((7,), 0.15)

    identifier = Identifier(FAMILY, ERRORS, network, average_s=0.0)
    known = None
    for k, truth in enumerate(truths(3, seed=21)):
        frame = blurred(cells(seed=3), truth, 0.003, k)
        identifier.observe(frame, 0.2 * k)
        known = identifier.estimate(frame, known).coefficients
    assert len(inputs) == 3


@pytest.mark.usefixtures("quick_search")
def test_a_refused_fit_resets_the_orientation_too():
    identifier = Identifier(FAMILY, ERRORS)
    # Bars: no blur of the family fits them.
    bars = ((torch.arange(256) % 12) < 6).float().expand(256, 256)
    generator = torch.Generator().manual_seed(0)
    image = bars + 1e-3 * torch.rand(bars.shape, generator=generator)
    identifier.observe(image, 0.0)
    before = identifier.orientation
    assert identifier.estimate(image).quality > 1
    assert identifier.orientation is not before


@pytest.mark.usefixtures("quick_search")
def test_a_solution_of_another_specimen_is_not_accepted():
    identifier = Identifier(FAMILY, ERRORS, average_s=5.0)
    first, second = truths(2, seed=21)
    frame = blurred(cells(seed=3), first, 0.003)
    identifier.observe(frame, 0.0)
    problem = identifier.prepare(frame)
    for k in range(2):
        frame = blurred(cells(seed=4), second, 0.003, k)
        identifier.observe(frame, 0.2 * k)
    solution = identifier.solve(problem)
    assert solution.competing is not None
    assert identifier.accept(solution) is None
    assert identifier._competing is None
    # It is still a right solution of its own problem.
    assert snr(solution.estimate.coefficients, first) > 15
    assert snr(identifier.estimate(frame).coefficients, second) > 15


@pytest.mark.usefixtures("quick_search")
def test_frames_may_be_observed_while_a_problem_is_solved():
    truth = truths(1, seed=9)[0]
    frames = [blurred(cells(seed=2), truth, 0.03, k) for k in range(5)]
    alone, busy = Identifier(FAMILY, ERRORS), Identifier(FAMILY, ERRORS)
    for identifier in (alone, busy):
        identifier.observe(frames[0], 0.0)
    problem = busy.prepare(frames[0])
    for k, frame in enumerate(frames[1:], 1):
        busy.observe(frame, 0.1 * k)
    found = busy.accept(busy.solve(problem))
    expected = alone.estimate(frames[0])
    np.testing.assert_allclose(found.coefficients, expected.coefficients, atol=1e-5)
    np.testing.assert_allclose(found.covariance, expected.covariance, atol=1e-7)
    assert busy.spectrum.frames > 4


def test_a_settled_orientation_is_evaluated_in_one_frame_of_five():
    truth = truths(1, seed=1)[0]
    orientation = Orientation(FAMILY, ERRORS)
    frame = blurred(cells(seed=0), truth, 0.003)
    advantage, votes = orientation.advantage, []

    def counted(*arguments):
        votes.append(advantage(*arguments))
        return votes[-1]

    orientation.advantage = counted
    for _ in range(28):
        np.testing.assert_allclose(orientation.decide(frame, truth, 0.003), truth)
    assert len(votes) == 8 + 20 // 5


@pytest.mark.parametrize("sigma", [0.003, 0.02])
def test_the_orientation_is_decided_by_sparsity(sigma):
    right = 0
    for i, truth in enumerate(truths(6, seed=1)):
        frame = blurred(cells(seed=i), truth, sigma, i)
        orientation = Orientation(FAMILY, ERRORS)
        turned = rotated(truth)
        first = orientation.decide(frame, turned, sigma)
        right += bool(np.allclose(first, truth))
    assert right >= 5


def test_evidence_outlasts_one_contradicting_frame():
    truth = truths(1, seed=1)[0]
    orientation = Orientation(FAMILY, ERRORS)
    good = blurred(cells(seed=0), truth, 0.003)
    for _ in range(5):
        orientation.decide(good, truth, 0.003)
    other = blurred(cells(seed=0), rotated(truth), 0.003)
    np.testing.assert_allclose(orientation.decide(other, truth, 0.003), truth)
    for _ in range(20):
        last = orientation.decide(other, truth, 0.003)
    np.testing.assert_allclose(last, rotated(truth))


def test_a_texture_without_edges_leaves_the_180_degree_ambiguity():
    # A specimen with random phases is described by its power spectrum alone, which
    # contains the blur but not its orientation.
    truth = truths(1, seed=1)[0]
    side = 256 + FAMILY.window - 1
    generator = torch.Generator().manual_seed(4)
    y, x = torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)
    fall = (x**2 + y**2).clamp(min=1 / 64**2) ** -0.5
    noise = torch.randn(side, side, generator=generator)
    texture = torch.fft.irfft2(torch.fft.rfft2(noise) * fall, s=(side, side))
    specimen = 0.5 + 0.15 * texture / texture.std()
    frame = blurred(specimen, truth, 0.002)
    identifier = Identifier(FAMILY, ERRORS)
    identifier.observe(frame, 0.0)
    found = identifier.estimate(frame)
    both = (found.coefficients, rotated(found.coefficients))
    assert max(snr(gamma, truth) for gamma in both) > 20
    assert not found.trusted
    assert "180° orientation" in found.reason
    # Nor do many such frames resolve it.
    for k in range(1, 30):
        frame = blurred(specimen, truth, 0.002, k)
        identifier.orientation.decide(frame, found.coefficients, 0.002)
    assert not identifier.orientation.resolved(found.coefficients)


def test_a_resolved_orientation_is_not_reversed_by_weak_evidence():
    truth = truths(1, seed=1)[0]
    orientation = Orientation(FAMILY, ERRORS)
    good = blurred(cells(seed=0), truth, 0.003)
    orientation.decide(good, truth, 0.003)
    assert orientation.resolved(truth)
    least = 2.2 * 0.23 / 256
    for weak in (-0.5, -2.0):
        orientation._evidence, orientation._votes = 0.0, 0.0
        orientation.advantage = lambda *_, weak=weak: weak * least
        expected = truth if weak > -1 else rotated(truth)
        np.testing.assert_allclose(orientation.decide(good, truth, 0.003), expected)


def test_an_orientation_stays_resolved_and_only_where_it_matters():
    truth = truths(1, seed=1)[0]
    orientation = Orientation(FAMILY, ERRORS)
    assert orientation.resolved(np.where(FAMILY.even, truth, 0.0))
    assert not orientation.resolved(truth)
    generator = torch.Generator().manual_seed(0)
    flat = 0.5 + 0.02 * torch.randn(256, 256, generator=generator)
    orientation.decide(flat, truth, 0.02)
    assert not orientation.resolved(truth)
    orientation.decide(blurred(cells(seed=0), truth, 0.003), truth, 0.003)
    assert orientation.resolved(truth)
    orientation.decide(flat, truth, 0.02)
    assert orientation.resolved(truth)


def test_spherical_aberration_is_identified_when_listed():
    family = ZernikeFamily(noll=SPHERICAL_MODES)
    truth = np.array([0.08, -0.05, 0.06, 0.1, -0.04, 0.05, -0.08, 0.1])
    specimen = cells(seed=6)
    shape = (specimen.shape[0], specimen.shape[1])
    y = family.operator(torch.tensor(truth).float(), shape).forward(specimen)
    y = y[15:-15, 15:-15]
    y = y + 0.02 * torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
    identifier = Identifier(family, ERRORS)
    identifier.observe(y, 0.0)
    found = identifier.estimate(y)
    assert found.trusted
    assert snr(found.coefficients, truth, family) > 12


@pytest.mark.parametrize("kind", ["dark", "flat", "dim"])
def test_frames_without_signal_are_not_trusted_with_a_reason(kind):
    generator = torch.Generator().manual_seed(0)
    frame = 0.05 * torch.randn(256, 256, generator=generator)
    if kind == "dark":
        frame = torch.zeros(256, 256)
    if kind == "dim":
        frame = frame + 0.01 * blurred(cells(), truths(1)[0], 0.0)
    identifier = Identifier(FAMILY, ERRORS)
    identifier.observe(frame, 0.0)
    found = identifier.estimate(frame)
    assert not found.trusted
    assert found.reason


def test_a_grating_does_not_fit_the_family():
    # A strong grating: sharp lines that no blur of a smooth specimen has.
    y, x = torch.meshgrid(torch.arange(256.0), torch.arange(256.0), indexing="ij")
    frame = ((x * 0.9 + y * 0.31) % 9 < 4).float() * ((y % 7) < 3)
    frame = blurred(
        torch.nn.functional.pad(frame, (15, 15, 15, 15)), truths(1)[0], 0.001
    )
    identifier = Identifier(FAMILY, ERRORS)
    identifier.observe(frame, 0.0)
    found = identifier.estimate(frame)
    assert not found.trusted
    assert "fits" in found.reason
