"""The phase term: its value, derivatives, local model, and effect on estimates."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from specimens import ERRORS, FAMILY, blurred, cells, rotated

from deepblur_live.identification import Identifier, Phase, SpectralRefiner, welch
from deepblur_live.identification.identifier import _PHASE_STEPS
from deepblur_live.optics import psf_snr


def truths(n, seed):
    return FAMILY.sample(n, torch.Generator().manual_seed(seed))


def snr(gamma, truth):
    psf = FAMILY.psf(torch.stack([torch.as_tensor(gamma).float(), truth]))
    return float(psf_snr(*psf))


def test_the_true_blur_has_the_lowest_cost():
    # Of the same amplitudes, those with the true phases have the sparsest gradients.
    others = truths(6, seed=8)
    for i, truth in enumerate(truths(4, seed=1)):
        other = torch.as_tensor(rotated(truth.numpy()))
        frame = blurred(cells(seed=i), truth.numpy(), 0.01, i)
        phase = Phase(FAMILY, frame, 0.01, truth)
        costs = phase.cost(torch.stack([truth, other, *others]))
        assert int(costs.argmin()) == 0


def test_costs_of_both_orientations_equal_those_of_each():
    gamma = truths(3, seed=7)
    other = torch.from_numpy(rotated(gamma.numpy())).float()
    frame = blurred(cells(seed=3), gamma[0].numpy(), 0.01)
    upright, rotated_cost = Phase(FAMILY, frame, 0.01, gamma[0]).costs(gamma)
    phase = Phase(FAMILY, frame, 0.01, gamma[0])
    torch.testing.assert_close(upright, phase.cost(gamma), rtol=1e-3, atol=0.05)
    torch.testing.assert_close(rotated_cost, phase.cost(other), rtol=1e-3, atol=0.05)
    assert float((upright - rotated_cost).abs().min()) > 1


def test_the_kept_evaluation_is_that_of_the_right_blur():
    # Cost, slope and cost elsewhere in turn, as in a fit.
    gamma, other = truths(2, seed=8)
    frame = blurred(cells(seed=1), gamma.numpy(), 0.01)
    phase = Phase(FAMILY, frame, 0.01, gamma)
    moving = other.clone()
    for one in (moving, moving, gamma, moving):
        fresh = Phase(FAMILY, frame, 0.01, gamma)
        torch.testing.assert_close(phase.cost(one[None]), fresh.cost(one[None]))
        slope, _ = phase.slope(one[None])
        torch.testing.assert_close(slope, fresh.slope(one[None])[0])
        # A fit changes its γ in place.
        moving += 0.01


def test_the_slope_is_the_derivative_of_the_cost():
    truth, gamma = truths(2, seed=2)
    phase = Phase(FAMILY, blurred(cells(seed=1), truth.numpy(), 0.01), 0.01, gamma)
    (slope,), _ = phase.slope(gamma[None])
    step = 1e-3 * torch.eye(len(gamma))
    measured = (phase.cost(gamma + step) - phase.cost(gamma - step)) / 2e-3
    np.testing.assert_allclose(slope, measured, atol=0.05 * float(measured.norm()))


def test_the_curvature_is_that_of_the_cost():
    # These cells are discs and points: all their gradients are in edges.
    ratios = []
    for i, truth in enumerate(truths(4, seed=3)):
        phase = Phase(
            FAMILY, blurred(cells(seed=i), truth.numpy(), 0.01, i), 0.01, truth
        )
        _, (curvature,) = phase.slope(truth[None])
        values = torch.linalg.eigvalsh(curvature.double())
        assert float(values.min()) > -1e-6 * float(values.max())
        step = 0.01 * torch.eye(len(truth))
        rise = (phase.slope(truth + step)[0] - phase.slope(truth - step)[0]) / 0.02
        ratios.append(float(rise.trace() / curvature.trace()))
    np.testing.assert_allclose(np.log2(ratios), 0, atol=1)
    assert np.mean(ratios) == pytest.approx(1, abs=0.3)


def test_a_specimen_without_edges_has_little_curvature():
    # A Gaussian random field has the power of a picture, and random phases.
    truth = truths(1, seed=3)[0]
    specimen = cells()
    generator = torch.Generator().manual_seed(0)
    spectrum = torch.fft.rfft2(specimen)
    phases = torch.fft.rfft2(torch.randn(specimen.shape, generator=generator))
    field = torch.fft.irfft2(spectrum.abs() * phases / phases.abs(), s=specimen.shape)
    bends = []
    for image in (specimen, field):
        frame = blurred(image, truth.numpy(), 0.01)
        _, (curvature,) = Phase(FAMILY, frame, 0.01, truth).slope(truth[None])
        bends.append(float(curvature.trace()))
    assert bends[1] < 0.2 * bends[0]


def test_a_batch_equals_each_alone():
    gamma = truths(3, seed=4)
    phase = Phase(FAMILY, blurred(cells(), gamma[0].numpy(), 0.01), 0.01, gamma[0])
    together = phase.cost(gamma), *phase.slope(gamma)
    for k, one in enumerate(gamma):
        each = phase.cost(one[None]), *phase.slope(one[None])
        for all_of_them, alone in zip(together, each, strict=True):
            torch.testing.assert_close(all_of_them[k], alone[0], rtol=1e-3, atol=0.05)


@pytest.mark.parametrize("brightness", [1.0, 0.1])
def test_the_scale_of_a_frame_does_not_matter(brightness):
    gamma = truths(3, seed=5)
    frame = blurred(cells(), gamma[0].numpy(), 0.01)
    usual = Phase(FAMILY, frame, 0.01, gamma[0]).cost(gamma)
    scaled = Phase(FAMILY, brightness * frame, brightness * 0.01, gamma[0]).cost(gamma)
    torch.testing.assert_close(scaled.diff(), usual.diff(), rtol=2e-2, atol=0.1)


def test_phases_improve_a_fit_in_noise():
    refiner, gains = SpectralRefiner(FAMILY, ERRORS), []
    for i, truth in enumerate(truths(6, seed=6)):
        frame = blurred(cells(seed=i), truth.numpy(), 0.03, i)
        spectrum, averages = welch(frame)
        data = refiner.prepare(spectrum, averages, 1)
        alone = refiner.fit(data, truth[None])
        found = torch.as_tensor(alone.coefficients[0]).float()
        phase = Phase(FAMILY, frame, 0.03, found)
        both = refiner.fit(data, found[None], iterations=_PHASE_STEPS, phase=phase)
        gains.append(snr(both.coefficients[0], truth) - snr(found, truth))
        narrower = np.linalg.slogdet(both.curvature)[1]
        assert narrower < np.linalg.slogdet(alone.curvature)[1]
    assert np.mean(gains) > 1


def test_the_local_model_is_quadratic():
    gamma, other = truths(2, seed=9)
    phase = Phase(FAMILY, blurred(cells(), gamma.numpy(), 0.01), 0.01, gamma)
    local = phase.local(gamma[None])
    slope, curvature = phase.slope(gamma[None])
    off = (0.1 * other)[None]
    rise = (off * slope).sum() + 0.5 * (off @ curvature[0] @ off.T).sum()
    torch.testing.assert_close(local.cost(gamma[None] + off)[0], rise)
    bent, _ = local.slope(gamma[None] + off)
    torch.testing.assert_close(bent, slope + off @ curvature[0])


def test_a_warm_estimate_is_as_good_as_a_search():
    # One local model: with too little curvature it would overshoot.
    for seed in (9, 12):
        truth = truths(1, seed=seed)[0]
        frame = blurred(cells(seed=2), truth.numpy(), 0.003)
        identifier = Identifier(FAMILY, ERRORS)
        identifier.observe(frame, 0.0)
        prediction = truth.double().numpy() + 0.01
        searched, warm = (identifier.estimate(frame, prediction) for _ in range(2))
        assert snr(warm.coefficients, truth) > snr(searched.coefficients, truth) - 6


@pytest.mark.usefixtures("quick_search")
def test_phases_do_not_hold_back_a_drifting_estimate():
    ends = {}
    for phases in (True, False):
        truth = truths(1, seed=3)[0]
        identifier = Identifier(FAMILY, ERRORS, average_s=0.5, phases=phases)
        found = None
        for k in range(16):
            truth[0] += 0.006
            frame = blurred(cells(seed=1), truth.numpy(), 0.01, k)
            identifier.observe(frame, 0.25 * k)
            # Only the first frame is searched.
            identifier._searched_at, identifier._searched_frames = 0.25 * k, 99.0
            found = identifier.estimate(frame, found and found.coefficients)
        assert found is not None
        ends[phases] = snr(found.coefficients, truth)
    assert ends[True] > ends[False] + 1


@pytest.mark.usefixtures("quick_search")
def test_every_second_warm_frame_uses_the_last_local_model(monkeypatch):
    truth = truths(1, seed=9)[0]
    models, local = [], Phase.local
    monkeypatch.setattr(
        Phase,
        "local",
        lambda self, at, edges=None: (
            models.append(edges) or local(self, at, edges=edges)
        ),
    )
    identifier = Identifier(FAMILY, ERRORS)
    counted, found = [], None
    for k in range(7):
        frame = blurred(cells(seed=2), truth.numpy(), 0.003, k)
        identifier.observe(frame, 0.1 * k)
        # Only the first frame is searched.
        identifier._searched_at, identifier._searched_frames = 0.1 * k, 99.0
        if k == 6:
            # A prediction outside the range of the local model.
            found = replace(found, coefficients=found.coefficients + 0.02)
        found = identifier.estimate(frame, found and found.coefficients)
        counted.append(len(models))
        assert k == 0 or snr(found.coefficients, truth) > 15
    assert counted == [0, 1, 1, 2, 2, 3, 4]
    # The share of edges belongs to the specimen: it is measured with the first model.
    assert models[0] is None
    assert all(edges is not None for edges in models[1:])
    # A local model older than the averaging time is not used.
    assert identifier.prepare(frame).local_phase is not None
    identifier._now += identifier.spectrum.average_s
    assert identifier.prepare(frame).local_phase is None
    identifier.reset()
    assert identifier._local_phase is None


@pytest.mark.usefixtures("quick_search")
def test_without_an_average_no_local_model_is_kept():
    truth = truths(1, seed=9)[0]
    identifier = Identifier(FAMILY, ERRORS, average_s=0.0)
    frame = blurred(cells(seed=2), truth.numpy(), 0.003)
    for k in range(2):
        identifier.observe(frame, 0.1 * k)
        identifier._searched_at, identifier._searched_frames = 0.1 * k, 99.0
        identifier.estimate(frame, truth.double().numpy())
    assert identifier._local_phase is not None
    identifier.observe(frame, 0.2)
    assert identifier.prepare(frame, truth.double().numpy()).local_phase is None


def test_a_crop_without_detail_has_no_preference():
    gamma = truths(2, seed=7)
    phase = Phase(FAMILY, torch.full((256, 256), 0.5), 0.01, gamma[0])
    cost, (slope, _) = phase.cost(gamma), phase.slope(gamma)
    assert math.isclose(float(cost[0]), float(cost[1]), abs_tol=0.1)
    assert bool(slope.isfinite().all())


@pytest.mark.usefixtures("quick_search")
def test_for_a_frame_that_is_not_finite_the_spectrum_is_used():
    truth = truths(1, seed=1)[0]
    identifier = Identifier(FAMILY, ERRORS)
    for k in range(3):
        good = blurred(cells(), truth.numpy(), 0.003, k)
        identifier.observe(good, 0.1 * k)
        identifier.estimate(good)
    odd = good.clone()
    odd[100, 100] = torch.nan
    identifier.observe(odd, 0.3)
    found = identifier.estimate(odd)
    assert found.trusted
    assert snr(found.coefficients, truth) > 15
