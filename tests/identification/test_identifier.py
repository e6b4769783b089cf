"""Identification of known blurs, with no network: accuracy, errors, refusals."""

import numpy as np
import pytest
import torch
from specimens import FAMILY, blurred, cells

from deepblur_live.identification import (
    Fit,
    Identifier,
    Rotation,
    SpectralRefiner,
    welch,
)
from deepblur_live.identification.refine import _equations
from deepblur_live.optics import SPHERICAL_MODES, ZernikeFamily, psf_snr
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


def test_blurs_are_found_far_better_than_the_constant_guess(mean_psf):
    scores, trivial = [], []
    for i, truth in enumerate(truths(4)):
        frame = blurred(cells(seed=i), truth, 0.003, i)
        identifier = Identifier(FAMILY)
        identifier.observe(frame, 0.0)
        found = identifier.estimate(frame)
        assert found.trusted, found.reason
        scores.append(snr(found.coefficients, truth))
        reference = FAMILY.psf(torch.tensor(truth).float())
        trivial.append(float(psf_snr(mean_psf, reference)))
    # The median: one frame in some is a wrong minimum, and says so by no means yet.
    assert np.median(scores) > np.median(trivial) + 8


def test_errors_are_of_the_size_the_covariance_says():
    refiner = SpectralRefiner(FAMILY)
    pulls = []
    for i, truth in enumerate(truths(8, seed=5)):
        spectrum, looks = welch(blurred(cells(seed=i), truth, 0.01, i))
        data = refiner.prepare(spectrum, looks, 1)
        fit = refiner.fit(data, torch.tensor(truth).float()[None])
        error = fit.coefficients[0] - truth
        pulls.append(error @ np.linalg.solve(fit.covariance, error) / len(error))
    assert 0.2 < np.median(pulls) < 4


def test_the_equations_of_a_fit_are_its_misfits_slope():
    refiner = SpectralRefiner(FAMILY)
    spectrum, looks = welch(blurred(cells(seed=1), truths(1)[0], 0.01))
    data = refiner.prepare(spectrum, looks, 1)
    gamma = torch.tensor(truths(2, seed=8)).float()
    rest = refiner._begin(data, gamma)
    p, q = gamma.shape[1], data.basis.shape[1]
    at, free = torch.cat([gamma, rest], 1), torch.zeros(p + q + 1)

    def misfit(point):
        return refiner._misfit(data, point[:, :p], point[:, p:], at, free)

    _, residual, weights, slopes = misfit(at)
    hessian, gradient = _equations(data, slopes, weights, residual)
    for unknown in (0, 3, p - 1, p, p + 5, p + q):
        step = torch.zeros(p + q + 1)
        step[unknown] = 5e-4
        slope = (misfit(at + step)[0] - misfit(at - step)[0]) / 1e-3
        torch.testing.assert_close(-gradient[:, unknown], slope, rtol=0.02, atol=0.5)
    # Residuals that a step would make ask for that step.
    step = torch.randn(len(at), p + q + 1, generator=torch.Generator().manual_seed(0))
    by_blur = torch.einsum("sp,spn->sn", step[:, :p], slopes.by_gamma)
    made = (by_blur + step[:, p:-1] @ data.basis.T) * slopes.signal
    made += step[:, -1:] * slopes.noise
    _, asked = _equations(data, slopes, weights, made)
    wanted = torch.einsum("sij,sj->si", hessian, step)
    torch.testing.assert_close(
        asked, wanted, rtol=1e-3, atol=1e-3 * float(wanted.max())
    )


def test_a_hot_pixel_does_not_blind_it():
    truth = truths(1, seed=3)[0]
    frame = blurred(cells(seed=0), truth, 0.005).numpy()
    frame[77, 121] = 40.0
    image = scale(frame).image
    identifier = Identifier(FAMILY)
    identifier.observe(image, 0.0)
    found = identifier.estimate(image)
    assert found.trusted
    assert snr(found.coefficients, truth) > 12


def test_a_network_that_answers_no_numbers_is_not_heard():
    nothing = torch.full((7,), torch.nan)
    frame = blurred(cells(seed=0), truths(1, seed=3)[0], 0.005)
    found = []
    for network in (None, lambda spectrum: (nothing, nothing)):
        identifier = Identifier(FAMILY, network)
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
    identifier = Identifier(family)
    identifier.observe(y, 0.0)
    found = identifier.estimate(y)
    assert found.trusted, found.reason
    assert snr(found.coefficients, truth.double().numpy(), family) > 15


def test_a_window_larger_than_the_spectrums_is_refused():
    with pytest.raises(ValueError, match="PSF window of 107 pixels"):
        SpectralRefiner(ZernikeFamily(numerical_aperture=0.5, pixel_size_nm=80.0))


def test_a_calibrated_cameras_noise_is_that_of_the_light_that_is_looked_at():
    # The detail is all on the dark side: there is less light, and less shot noise.
    frame = blurred(cells(seed=1), truths(1)[0], 0.05)
    bright = frame[:, : frame.shape[1] // 2]
    empty = torch.randn(bright.shape, generator=torch.Generator().manual_seed(0))
    bright[:] = 1 + 0.05 * empty
    identifier = Identifier(FAMILY)
    identifier.observe(frame, 0.0)
    mean, seen = float(frame.mean()), identifier.spectrum.average.level
    assert seen < 0.95 * mean
    question = identifier.ask(frame, noise=lambda level: 1e-3 * level)
    assert np.exp(question.data.log_floor) == pytest.approx(1e-3 * seen)
    # The deblurring is told what the whole frame has.
    assert identifier.noise_sigma**2 == pytest.approx(1e-3 * mean)


def test_averaging_frames_tells_more():
    better, surer = [], []
    for seed in range(4, 9):
        truth = truths(1, seed=seed + 4)[0]
        specimen = cells(seed=seed)
        one, many = Identifier(FAMILY), Identifier(FAMILY, average_s=1e6)
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
        surer.append(np.trace(averaged.covariance) / np.trace(single.covariance))
    assert np.mean(better) > 5
    assert np.mean(surer) < 0.6


def test_a_prediction_is_followed_and_the_library_left_out():
    truth = truths(1, seed=9)[0]
    frame = blurred(cells(seed=2), truth, 0.003)
    identifier = Identifier(FAMILY)
    identifier.observe(frame, 0.0)
    # The first of all is not left to a prediction.
    identifier.estimate(frame, prediction=truth + 0.01)

    def asked(*_):
        raise AssertionError("the library was asked")

    identifier.refiner.starts = asked
    found = identifier.estimate(frame, prediction=truth + 0.01)
    assert snr(found.coefficients, truth) > 15
    # The twin and the turn are those of the prediction.
    assert np.abs(found.coefficients - truth).max() < 0.06


def test_the_library_is_asked_again_when_the_average_has_been_renewed():
    truth = truths(1, seed=9)[0]
    frame = blurred(cells(seed=2), truth, 0.003)
    identifier = Identifier(FAMILY, average_s=5.0)
    asked, starts = [], identifier.refiner.starts

    def recorded(data, count, every):
        asked.append(time)
        return starts(data, count, every)

    identifier.refiner.starts = recorded
    for time in (0.0, 4.0, 9.9, 10.1, 14.0, 20.2):
        identifier.observe(frame, time)
        identifier.spectrum._weight_squared = identifier.spectrum._weight**2
        identifier.estimate(frame, prediction=truth)
    assert asked == [0.0, 10.1, 20.2]


def test_a_warm_fit_begins_at_the_last_ones_specimen_and_noise(monkeypatch):
    truth = truths(1, seed=9)[0]
    clean = blurred(cells(seed=2), truth, 0.0)
    generator = torch.Generator().manual_seed(0)
    looks, ends = [], []
    misfit = SpectralRefiner._misfit
    monkeypatch.setattr(
        SpectralRefiner,
        "_misfit",
        lambda self, *rest: looks.append(0) or misfit(self, *rest),
    )
    one, other = Identifier(FAMILY), Identifier(FAMILY)
    predictions = [truth, truth]
    for number in range(6):
        frame = clean + 0.01 * torch.randn(clean.shape, generator=generator)
        for k, identifier in enumerate((one, other)):
            identifier.observe(frame, 0.1 * number)
            identifier._asked_frames = 9.0
            if identifier is other:
                identifier._rest = None
            before = len(looks)
            predictions[k] = identifier.estimate(frame, predictions[k]).coefficients
            if number > 1:
                ends.append((len(looks) - before, predictions[k]))
    fewer, more = ([count for count, _ in ends[k::2]] for k in (0, 1))
    assert sum(fewer) < sum(more)
    for (_, a), (_, b) in zip(ends[::2], ends[1::2], strict=True):
        assert np.abs(a - b).max() < 1e-3


def test_a_warm_estimate_knows_the_last_searchs_rivals():
    truth = truths(1, seed=9)[0]
    frame = blurred(cells(seed=2), truth, 0.03)
    identifier = Identifier(FAMILY)
    identifier.observe(frame, 0.0)
    first = identifier.estimate(frame)
    # The twin is as good a prediction, and turns the rivals' spread with it.
    twin = np.where(FAMILY.even, -1.0, 1.0)
    identifier.observe(frame, 0.1)
    identifier._asked_frames = 9.0
    second = identifier.estimate(frame, prediction=twin * first.coefficients)
    assert identifier._rivals is not None
    assert np.trace(identifier._rivals.rivals) > 1e-4
    assert np.trace(second.covariance) > np.trace(identifier._rivals.rivals)


def test_rivals_are_seen_from_the_minimum_that_a_fit_has_ended_in():
    identifier = Identifier(FAMILY)
    best, other = np.full(7, 0.1), np.linspace(0.02, 0.14, 7)
    minima, zero = np.stack([best, other]), np.zeros((7, 7))
    rivals = Fit(minima, np.array([0.0, 1.0]), zero, zero, 0.5)
    apart = np.outer(other - best, other - best)
    even = np.where(FAMILY.even, -1.0, 1.0)
    for signs in (np.ones(7), even, -even, -np.ones(7)):
        for gamma, odds in ((best, np.exp(-1 / 4)), (other, np.exp(1 / 4))):
            warm = Fit((signs * gamma)[None], np.zeros(1), zero, zero, 0.5)
            found = identifier._beside_rivals(warm, rivals).rivals
            expected = signs[:, None] * apart * signs * odds / (1 + odds)
            np.testing.assert_allclose(found, expected, atol=1e-9)


def test_a_clock_set_back_does_not_put_off_the_search():
    frame = blurred(cells(seed=2), truths(1, seed=9)[0], 0.003)
    identifier = Identifier(FAMILY)
    for time in (100.0, 0.0):
        identifier.observe(frame, time)
        identifier.estimate(frame)
        assert identifier._asked_at == time


def test_after_a_step_the_old_blur_has_no_credit():
    before, after = truths(2, seed=21)
    identifier = Identifier(FAMILY, average_s=5.0)
    credits = []
    for k in range(12):
        truth = before if k < 10 else after
        frame = blurred(cells(seed=3), truth, 0.003, k)
        identifier.observe(frame, 0.2 * k)
        if k >= 9:
            question = identifier.ask(frame, before)
            identifier.accept(identifier.answer(question))
            credits.append(question.credit)
    assert credits[-1] == 0.0


def test_a_rival_must_be_better_by_the_credit_of_the_first_start():
    truth = truths(1, seed=9)[0]
    spectrum, looks = welch(blurred(cells(seed=2), truth, 0.003))
    refiner = SpectralRefiner(FAMILY)
    data = refiner.prepare(spectrum, looks, 1.0)
    starts = torch.from_numpy(np.stack([0.5 * truth, truth])).float()

    def first(credit):
        return refiner.fit(data, starts, iterations=0, credit=credit)

    ahead = first(0.0).objective[1] - first(0.0).objective[0]
    assert ahead > 1
    np.testing.assert_allclose(first(0.0).coefficients[0], truth, atol=1e-6)
    np.testing.assert_allclose(
        first(ahead + 20).coefficients[0], 0.5 * truth, atol=1e-6
    )


def test_a_step_is_found_and_no_answer_mixes_two_blurs():
    before, after = truths(2, seed=21)
    specimen = cells(seed=3)
    identifier = Identifier(FAMILY, average_s=5.0)
    known, found_after = None, None
    for k in range(18):
        truth = before if k < 10 else after
        frame = blurred(specimen, truth, 0.003, k)
        identifier.observe(frame, 0.2 * k)
        estimate = identifier.estimate(frame, known)
        if estimate.trusted:
            known = estimate.coefficients
            # A wrong answer in between would move the tracker: none may be given.
            scores = snr(known, before), snr(known, after)
            assert max(scores) > 15
            if k >= 10 and found_after is None and scores[1] > 15:
                found_after = k - 10
    assert found_after is not None
    assert found_after <= 3
    assert snr(known, after) > 15


def test_the_network_is_asked_first_and_after_a_step_not_each_time():
    before, after = truths(2, seed=21)
    asked = []

    def network(spectrum):
        asked.append(spectrum)
        return torch.zeros(7), torch.full((7,), 0.15)

    identifier = Identifier(FAMILY, network, average_s=5.0)
    known, counts = None, []
    for k in range(8):
        frame = blurred(cells(seed=3), before if k < 6 else after, 0.003, k)
        identifier.observe(frame, 0.2 * k)
        known = identifier.estimate(frame, known).coefficients
        counts.append(len(asked))
    # Again when the average has doubled; and with the second frame of the step.
    assert counts[0] == 1
    assert counts[5] <= 3
    assert counts[7] == counts[6] + 1
    # What it is not sure of does not hold the fit.
    assert snr(known, after) > 15


def test_without_an_average_the_network_is_asked_of_every_frame():
    asked = []

    def network(spectrum):
        asked.append(spectrum)
        return torch.zeros(7), torch.full((7,), 0.15)

    identifier = Identifier(FAMILY, network, average_s=0.0)
    known = None
    for k, truth in enumerate(truths(3, seed=21)):
        frame = blurred(cells(seed=3), truth, 0.003, k)
        identifier.observe(frame, 0.2 * k)
        known = identifier.estimate(frame, known).coefficients
    assert len(asked) == 3


def test_a_refused_fit_forgets_the_turn_too():
    identifier = Identifier(FAMILY)
    # Bars: no blur of the family fits them.
    bars = ((torch.arange(256) % 12) < 6).float().expand(256, 256)
    generator = torch.Generator().manual_seed(0)
    image = bars + 1e-3 * torch.rand(bars.shape, generator=generator)
    identifier.observe(image, 0.0)
    before = identifier.rotation
    assert identifier.estimate(image).quality > 1
    assert identifier.rotation is not before


def test_an_answer_to_what_was_asked_of_another_specimen_is_not_accepted():
    identifier = Identifier(FAMILY, average_s=5.0)
    first, second = truths(2, seed=21)
    frame = blurred(cells(seed=3), first, 0.003)
    identifier.observe(frame, 0.0)
    question = identifier.ask(frame)
    for k in range(2):
        frame = blurred(cells(seed=4), second, 0.003, k)
        identifier.observe(frame, 0.2 * k)
    answer = identifier.answer(question)
    assert answer.rivals is not None
    assert identifier.accept(answer) is None
    assert identifier._rivals is None
    # It is still right of what was asked.
    assert snr(answer.estimate.coefficients, first) > 15
    assert snr(identifier.estimate(frame).coefficients, second) > 15


def test_frames_may_come_while_a_question_is_answered():
    truth = truths(1, seed=9)[0]
    frames = [blurred(cells(seed=2), truth, 0.03, k) for k in range(5)]
    alone, beside = Identifier(FAMILY), Identifier(FAMILY)
    for identifier in (alone, beside):
        identifier.observe(frames[0], 0.0)
    question = beside.ask(frames[0])
    for k, frame in enumerate(frames[1:], 1):
        beside.observe(frame, 0.1 * k)
    found = beside.accept(beside.answer(question))
    expected = alone.estimate(frames[0])
    np.testing.assert_allclose(found.coefficients, expected.coefficients, atol=1e-5)
    np.testing.assert_allclose(found.covariance, expected.covariance, atol=1e-7)
    assert beside.spectrum.frames > 4


def test_a_settled_turn_is_asked_of_one_frame_in_five():
    truth = truths(1, seed=1)[0]
    rotation = Rotation(FAMILY)
    frame = blurred(cells(seed=0), truth, 0.003)
    advantage, votes = rotation.advantage, []

    def counted(*arguments):
        votes.append(advantage(*arguments))
        return votes[-1]

    rotation.advantage = counted
    for _ in range(28):
        np.testing.assert_allclose(rotation.decide(frame, truth, 0.003), truth)
    assert len(votes) == 8 + 20 // 5


@pytest.mark.parametrize("sigma", [0.003, 0.02])
def test_the_rotation_is_decided_by_sparsity(sigma):
    right = 0
    for i, truth in enumerate(truths(6, seed=1)):
        frame = blurred(cells(seed=i), truth, sigma, i)
        rotation = Rotation(FAMILY)
        turned = FAMILY.rotated(truth)
        first = rotation.decide(frame, turned, sigma)
        right += bool(np.allclose(first, truth))
    assert right >= 5


def test_rotation_keeps_its_evidence_over_one_odd_frame():
    truth = truths(1, seed=1)[0]
    rotation = Rotation(FAMILY)
    good = blurred(cells(seed=0), truth, 0.003)
    for _ in range(5):
        rotation.decide(good, truth, 0.003)
    other = blurred(cells(seed=0), FAMILY.rotated(truth), 0.003)
    np.testing.assert_allclose(rotation.decide(other, truth, 0.003), truth)
    for _ in range(20):
        last = rotation.decide(other, truth, 0.003)
    np.testing.assert_allclose(last, FAMILY.rotated(truth))


def test_a_texture_without_edges_does_not_tell_the_turn():
    # A specimen whose phases are random is all power spectrum: the blur is in it, and
    # which way round it is is not.
    truth = truths(1, seed=1)[0]
    side = 256 + FAMILY.window - 1
    generator = torch.Generator().manual_seed(4)
    y, x = torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)
    fall = (x**2 + y**2).clamp(min=1 / 64**2) ** -0.5
    noise = torch.randn(side, side, generator=generator)
    texture = torch.fft.irfft2(torch.fft.rfft2(noise) * fall, s=(side, side))
    specimen = 0.5 + 0.15 * texture / texture.std()
    frame = blurred(specimen, truth, 0.002)
    identifier = Identifier(FAMILY)
    identifier.observe(frame, 0.0)
    found = identifier.estimate(frame)
    both = (found.coefficients, FAMILY.rotated(found.coefficients))
    assert max(snr(gamma, truth) for gamma in both) > 20
    assert not found.trusted
    assert "which way round" in found.reason
    # Nor does it when it is asked again and again.
    for k in range(1, 30):
        frame = blurred(specimen, truth, 0.002, k)
        identifier.rotation.decide(frame, found.coefficients, 0.002)
    assert not identifier.rotation.told(found.coefficients)


def test_a_turn_that_is_told_is_not_turned_by_a_little():
    truth = truths(1, seed=1)[0]
    rotation = Rotation(FAMILY)
    good = blurred(cells(seed=0), truth, 0.003)
    rotation.decide(good, truth, 0.003)
    assert rotation.told(truth)
    least = 2.2 * 0.23 / 256
    for weak in (-0.5, -2.0):
        rotation._evidence, rotation._votes = 0.0, 0.0
        rotation.advantage = lambda *_, weak=weak: weak * least
        expected = truth if weak > -1 else FAMILY.rotated(truth)
        np.testing.assert_allclose(rotation.decide(good, truth, 0.003), expected)


def test_a_turn_is_told_once_and_where_it_matters():
    truth = truths(1, seed=1)[0]
    rotation = Rotation(FAMILY)
    assert rotation.told(np.where(FAMILY.even, truth, 0.0))
    assert not rotation.told(truth)
    generator = torch.Generator().manual_seed(0)
    flat = 0.5 + 0.02 * torch.randn(256, 256, generator=generator)
    rotation.decide(flat, truth, 0.02)
    assert not rotation.told(truth)
    rotation.decide(blurred(cells(seed=0), truth, 0.003), truth, 0.003)
    assert rotation.told(truth)
    rotation.decide(flat, truth, 0.02)
    assert rotation.told(truth)


def test_spherical_is_found_by_the_list_alone():
    family = ZernikeFamily(noll=SPHERICAL_MODES)
    truth = np.array([0.08, -0.05, 0.06, 0.1, -0.04, 0.05, -0.08, 0.1])
    specimen = cells(seed=6)
    shape = (specimen.shape[0], specimen.shape[1])
    y = family.operator(torch.tensor(truth).float(), shape).forward(specimen)
    y = y[15:-15, 15:-15]
    y = y + 0.02 * torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
    identifier = Identifier(family)
    identifier.observe(y, 0.0)
    found = identifier.estimate(y)
    assert found.trusted
    assert snr(found.coefficients, truth, family) > 12


@pytest.mark.parametrize("kind", ["dark", "flat", "dim"])
def test_frames_that_cannot_tell_say_so(kind):
    generator = torch.Generator().manual_seed(0)
    frame = 0.05 * torch.randn(256, 256, generator=generator)
    if kind == "dark":
        frame = torch.zeros(256, 256)
    if kind == "dim":
        frame = frame + 0.01 * blurred(cells(), truths(1)[0], 0.0)
    identifier = Identifier(FAMILY)
    identifier.observe(frame, 0.0)
    found = identifier.estimate(frame)
    assert not found.trusted
    assert found.reason


def test_a_spectrum_of_another_kind_is_not_of_the_family():
    # A strong grating: sharp lines that no blur and no smooth specimen makes.
    y, x = torch.meshgrid(torch.arange(256.0), torch.arange(256.0), indexing="ij")
    frame = ((x * 0.9 + y * 0.31) % 9 < 4).float() * ((y % 7) < 3)
    frame = blurred(
        torch.nn.functional.pad(frame, (15, 15, 15, 15)), truths(1)[0], 0.001
    )
    identifier = Identifier(FAMILY)
    identifier.observe(frame, 0.0)
    found = identifier.estimate(frame)
    assert not found.trusted
    assert "fits" in found.reason
