"""The judge of deblurring: its frames, its scores on constructed cases, its tables."""

import importlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import torch
from scipy import ndimage

from deepblur_live.acquisition.specimen import load_specimen
from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.optics import NoiseModel
from deepblur_live.profile import Optics

TOOLS = Path(__file__).parents[2] / "tools"
FAMILY = ZernikeFamily.from_optics(Optics())
NUMBER = 3


@pytest.fixture(autouse=True)
def tools(monkeypatch):
    """Import a tool by name."""
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module


@pytest.fixture(scope="module")
def picture():
    """The shipped specimen, as large as the scene of a frame."""
    grey = np.asarray(load_specimen(), float)
    extra = [(0, max(0, 448 - size)) for size in grey.shape]
    return (np.pad(grey / grey.max(), extra, mode="symmetric"))[:448, :448]


def expose(tools, name, picture, realisation=0):
    frames = tools("evaluation.deblurring_frames")
    condition = frames.CONDITIONS[name]
    return frames.expose(condition, picture, NUMBER, FAMILY, realisation)


@pytest.mark.parametrize(
    "name",
    [
        "filled, 200 e",
        "mostly dark, 1000 e",
        "filled, white noise 0.01",
        "mostly dark, background 0.2",
        "filled, smoothed by 0.6 px",
    ],
)
def test_methods_are_given_the_true_noise(tools, picture, name):
    first, second = (expose(tools, name, picture, number) for number in range(2))
    assert np.array_equal(first.clean, second.clean)
    clean = first.scaled(first.clean)
    deviation = first.noise.map(clean[None])[0]
    # Their difference: a filter's effect on the image itself is no noise.
    noise = (first.light(first.image) - second.light(second.image)) / first.span
    found = noise / np.sqrt(2) / deviation.numpy()
    assert found.std() == pytest.approx(1, abs=0.02)


def test_scenes_and_stray_light_are_made_as_they_say(tools, picture):
    usual = expose(tools, "mostly dark, 500 e", picture)
    lit = usual.truth > 0.05 * usual.truth.max()
    assert 0.05 < lit.mean() < 0.4
    raised = expose(tools, "mostly dark, background 0.2", picture)
    assert np.allclose(raised.truth, usual.truth + 0.2)
    assert np.allclose(raised.clean, usual.clean + 0.2)
    # Half of the light scattered: what is in focus is half as bright, and all light is
    # in truth and frame alike.
    hazy = expose(tools, "mostly dark, haze 50 %", picture)
    detail = [x.truth - ndimage.gaussian_filter(x.truth, 2) for x in (usual, hazy)]
    slope = np.sum(detail[0] * detail[1]) / np.sum(detail[0] ** 2)
    assert slope == pytest.approx(0.5, abs=0.02)
    assert hazy.truth.mean() == pytest.approx(hazy.clean.mean(), rel=0.02)
    grains = expose(tools, "nuclei, haze 50 %", picture)
    assert grains.truth.max() < 1


def test_the_methods_are_given_a_wrong_psf_where_the_condition_says_so(tools, picture):
    frames = tools("evaluation.deblurring_frames")
    gamma = FAMILY.sample_rms(1, torch.Generator().manual_seed(2000 + NUMBER))[0]
    right = expose(tools, "filled, 500 e", picture)
    assert torch.equal(right.gamma, gamma)
    wrong = expose(tools, "filled, γ off by 0.10", picture)
    assert 0.03 < float((wrong.gamma - gamma).square().mean().sqrt()) < 0.2
    assert float(wrong.covariance[0, 0]) == pytest.approx(0.01)
    place = torch.arange(-100.0, 101.0)

    def width(psf):
        side = psf.shape[-1] // 2
        line = psf.sum(0)
        at = place[100 - side : 101 + side]
        # Of its core: the second moment of a PSF has no limit.
        near = at.abs() <= 6
        return float((line * at.abs())[near].sum() / line[near].sum())

    focus = torch.zeros_like(gamma)
    wide = width(frames.rescaled(FAMILY, focus, factor=1.12))
    assert wide / width(FAMILY.psf(focus)) == pytest.approx(1.12, abs=0.05)
    sharp = expose(tools, "filled, sharp already", picture)
    assert np.allclose(sharp.clean, sharp.truth)
    filtered = expose(tools, "mostly dark, a filter's result", picture)
    blurred = expose(tools, "mostly dark, 5000 e", picture)
    error = [np.std(x.light(x.image) - x.truth) for x in (filtered, blurred)]
    assert error[0] < 0.7 * error[1]


@pytest.fixture
def scores(tools):
    return tools("evaluation.deblurring_scores")


def test_undershoot_is_measured_from_the_scenes_floor(scores):
    truth = np.full((60, 60), 0.2)
    truth[25:35, 25:35] = 1
    image = truth.copy()
    assert scores.undershoot(image, truth) == scores.rim(image, truth) == 0
    image[24, 25:35] = 0.1
    assert scores.undershoot(image, truth) == pytest.approx(10 * 0.1 / 3600)
    assert scores.rim(image, scores.floor_of(truth)) == pytest.approx(0.1)


def test_detail_in_common_and_noise_are_separated(scores):
    chance = np.random.default_rng(0)
    shared, *own = chance.standard_normal((3, 300, 300))
    found = scores.agreement(shared + 0.5 * own[0], shared + 0.5 * own[1])
    assert found.share == pytest.approx(1 / 1.25, abs=0.01)
    # What the Gaussian leaves of white noise: all but 1/(4πσ²) twice, less its square.
    kept = 1 - 2 / (8 * np.pi) + 1 / (16 * np.pi)
    assert found.common == pytest.approx(kept, rel=0.02)
    assert found.noise == pytest.approx(0.5 * np.sqrt(kept), rel=0.02)
    where = np.zeros((300, 300), bool)
    where[:100] = True
    assert scores.agreement(shared, shared, where).share == pytest.approx(1)


def test_what_is_invented_is_measured_against_the_noise(scores, tools):
    chance = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(chance.standard_normal((128, 128)), 4)
    truth = 0.5 + 0.1 * smooth / smooth.std()
    noise = 0.02 * chance.standard_normal((128, 128))
    frame = tools("evaluation.deblurring_frames").Frame(
        torch.from_numpy(truth + noise).float(),
        0.0,
        1.0,
        NoiseModel(*(torch.tensor([x]) for x in (0.0, 4e-4, 0.0))),
        torch.zeros(7),
        torch.eye(7),
        1.0,
        truth,
        truth,
    )

    def beyond(image):
        return scores.beyond_data(image, frame)

    assert beyond(truth + noise) == pytest.approx(0, abs=0.3)
    assert beyond(truth + 2 * noise) == pytest.approx(6, abs=0.3)
    # What is left out is not invented.
    assert beyond(truth) < -60
    assert beyond(0.5 * truth) < -60
    quiet = replace(frame, noise=NoiseModel(*torch.zeros(3, 1)))
    assert np.isnan(scores.beyond_data(truth, quiet))


def test_border_and_light_are_figures_of_their_own(scores, tools, picture):
    frame = expose(tools, "filled, 1000 e", picture)
    image = frame.truth + 0.01
    image[:4] += 0.1
    found = scores.fidelity(image, frame, white=True)
    assert found["border"] < -5
    assert found["flux"] == pytest.approx(
        image.mean() / frame.light(frame.image).mean() - 1
    )
    assert "beyond" not in scores.fidelity(image, frame, white=False)


def test_methods_get_the_same_frame(tools, picture, monkeypatch):
    module = tools("evaluation.deblurring_methods")
    found = module.networks(Path("zernike7"), ())
    monkeypatch.setattr(module, "_classical", lambda frame, family: {})
    frame = expose(tools, "filled, 500 e", picture)
    images = module.methods(frame, FAMILY, found)
    error = {n: np.std(image - frame.truth) for n, image in images.items()}
    names = ["raw"]
    for network in ("quality", "live"):
        measured = f"{network}, noise measured"
        names += [network, measured, f"{network}, shown"]
        assert error[network] < 0.8 * error["raw"]
        assert error[measured] < 1.1 * error[network]
    assert list(error) == names
    # Noise that cannot be measured, and a result that fails the checks, are raw.
    monkeypatch.setattr(module, "measure_noise", lambda *_: None)
    monkeypatch.setattr(module, "deblurred", lambda *_: frame.image * 2)
    images = module.methods(frame, FAMILY, found)
    assert np.array_equal(images["live, shown"], images["raw"])
    monkeypatch.undo()
    with pytest.raises(
        tools("training.pictures").DataError, match="not the folder of a"
    ):
        module.networks(Path("zernike7"), (Path("nowhere"),))


def test_the_classical_methods_come_near_the_truth(tools, picture):
    module = tools("evaluation.deblurring_methods")
    frame = expose(tools, "filled, 1000 e", picture)
    error = {
        name: np.std(image - frame.truth)
        for name, image in module.methods(frame, FAMILY, {}).items()
    }
    raw = error.pop("raw")
    assert len(error) == 6
    assert max(error.values()) < raw


def test_neighbouring_planes_share_what_is_no_noise(tools, tmp_path):
    planes = tools("evaluation.real_planes")
    chance = np.random.default_rng(0)
    light = np.asarray(load_specimen(), float)[100:356, 100:356]
    light = ndimage.gaussian_filter(light / light.max(), 1.5)
    stack = np.stack([100 + chance.poisson(400 * light) for _ in range(34)])
    path = tmp_path / "real" / planes.STACKS[planes.PLANES].file
    path.parent.mkdir()
    tifffile.imwrite(path, stack.astype(np.uint16))
    found = planes.score_planes(path, 0, {})
    assert found["raw"]["common_bright"] == 1
    assert 0.2 < found["raw"]["share_bright"] < 1
    # Twenty iterations amplify the noise, five reduce it.
    assert found["RL 20"]["noise_bright"] > found["raw"]["noise_bright"]
    assert found["RL 5"]["share_bright"] > found["raw"]["share_bright"]


def rows(condition, group, **methods):
    return {"condition": condition, "group": group, "methods": methods}


def test_tables_have_methods_as_columns(tools):
    section = tools("evaluation.deblurring_realism").DEBLURRING_REALISM
    dark, haze = "mostly dark, 50 e", "nuclei, haze 50 %"
    found = section.summarise(
        [
            rows(haze, "stray light", raw={"psnr": 31.0, "flux": 0.0}),
            rows(
                dark,
                "noise",
                raw={"psnr": 20.0, "flux": 0.0},
                ours={"psnr": 22.0, "flux": 0.01},
            ),
            rows(
                dark,
                "noise",
                raw={"psnr": 22.0, "flux": 0.0},
                ours={"psnr": 26.0, "flux": 0.03},
            ),
            rows("cells", "cells", raw={"share_haze": 0.2, "rim": 0.01}),
        ]
    )
    first, second, *_ = section.table(found).split("\n\n")
    assert first.splitlines() == [
        "| PSNR, dB | raw | ours |",
        "| --- | --- | --- |",
        "| 2 × mostly dark, 50 e | 21.0 | 24.0 |",
        "| 1 × nuclei, haze 50 % | 31.0 | – |",
    ]
    assert "light changed by at most | 0.0% |" in second
    texts = section.table(found)
    assert "| noise, 2 frames | raw | ours |" in texts
    assert "| light changed by at most | 0.0% | 3.0% |" in texts
    assert "1 pairs of planes" in texts


def test_what_harms_and_what_is_withheld_is_counted(tools, picture, monkeypatch):
    judge = tools("evaluation.deblurring_realism")
    condition = next(iter(tools("evaluation.deblurring_frames").CONDITIONS))
    monkeypatch.setattr(judge, "networks", lambda *_: dict.fromkeys(("good", "bad")))
    monkeypatch.setattr(judge, "scene", lambda *_: torch.from_numpy(picture))

    def images(frame, family, networks):
        raw = frame.light(frame.image)
        better, worse = (raw + frame.truth) / 2, 2 * raw - frame.truth
        return {
            "raw": raw,
            "good, noise measured": better,
            "good, shown": raw,
            "bad, noise measured": worse,
            "bad, shown": raw,
        }

    monkeypatch.setattr(judge, "methods", images)
    spec = judge.DeblurSpec(Path("x.png"), "simulated", NUMBER, 0, condition=condition)
    case = SimpleNamespace(
        spec=spec, family=FAMILY, pack=SimpleNamespace(folder=Path("zernike7"))
    )
    found = judge.score(case)["methods"]
    assert found["good, noise measured"]["gain"] == pytest.approx(6, abs=0.1)
    assert found["bad, noise measured"]["harmed"]
    assert found["good, shown"]["withheld"]
    assert "withheld" not in found["bad, shown"]
    assert not found["raw"]["harmed"]


def test_each_picture_is_seen_under_all_conditions(tools, tmp_path):
    judge, case = tools("evaluation.deblurring_realism"), tools("evaluation.case")
    conditions = tools("evaluation.deblurring_frames").CONDITIONS
    paths = [tmp_path / "natural" / f"{i}.png" for i in range(15)]
    plan = case.Plan({"photographs": paths}, (0.01,), 1, "zernike7", (Path("own"),))
    specs = judge.specs(plan)
    assert len(specs) == 4 * len(conditions)
    assert {spec.weights for spec in specs} == {(Path("own"),)}
    assert [spec.path for spec in specs[: len(conditions)]] == [paths[0]] * len(
        conditions
    )
