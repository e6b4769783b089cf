"""Models are found, checked and loaded; anything else is refused by name."""

import hashlib
import json
import pickle
import shutil

import pytest
import torch
from safetensors.torch import save

from deepblur_live.deblurring import build_deblurring
from deepblur_live.profile import Optics
from deepblur_live.runtime.pack import (
    PackError,
    find_packs,
    load_pack,
    preferred_weights,
)
from deepblur_live.session.model_hashes import model_hashes


@pytest.fixture
def copy(tmp_path):
    folder = tmp_path / "copied"
    shutil.copytree(find_packs()["zernike7"], folder)
    return folder


def edit(folder, change):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    change(manifest)
    path.write_text(json.dumps(manifest), "utf-8")


def test_the_shipped_model_loads_from_its_name_and_from_a_folder(copy):
    shipped, copied = load_pack("zernike7"), load_pack(str(copy))
    assert shipped.manifest == copied.manifest
    assert not shipped.identification.training
    count = sum(p.numel() for p in shipped.identification.parameters())
    assert count == pytest.approx(11.2e6, rel=0.01)
    assert shipped.deblurring.iterations == 15
    for a, b in zip(
        shipped.deblurring.parameters(), copied.deblurring.parameters(), strict=True
    ):
        assert torch.equal(a, b)


def test_the_shipped_weights_are_trained():
    pack = load_pack("zernike7")
    assert pack.deblurring.proximal.layers[-1].weight.abs().max() > 0
    training = pack.manifest.identification.training
    assert training["progress"]["samples"] > 10_000
    assert "train_identification.py" in training["command"]


def test_of_two_deblurring_networks_the_preferred_one_is_loaded(copy):
    """A model without the live one serves, unless that is asked for."""
    cpu, card = torch.device("cpu"), torch.device("cuda")
    assert preferred_weights("auto", card) == ("quality",)
    assert preferred_weights("live", card) == ("live",)
    auto = preferred_weights("auto", cpu)
    edit(copy, lambda m: m.pop("deblurring_live", None))
    assert load_pack(str(copy), auto).weights == "quality"
    with pytest.raises(
        PackError, match=r'no live weights; set model\.deblurring to "q'
    ):
        load_pack(str(copy), ("live",))
    sizes = {"iterations": 3, "channels": 8, "noise_map": 1, "plain": 1}
    network = build_deblurring(sizes)
    content = save(dict(network.state_dict()))
    (copy / "deblurring_live.safetensors").write_bytes(content)
    live = {
        "file": "deblurring_live.safetensors",
        "sha256": hashlib.sha256(content).hexdigest(),
        "architecture": sizes,
    }
    edit(copy, lambda m: m.update(deblurring_live=live))
    small = load_pack(str(copy), auto)
    assert (small.weights, small.deblurring.iterations) == ("live", 3)
    large = load_pack(str(copy))
    assert (large.weights, large.deblurring.iterations) == ("quality", 15)
    assert live["file"] in model_hashes(str(copy))["weights_sha256"]
    (copy / "deblurring_live.safetensors").write_bytes(content[:-1])
    with pytest.raises(PackError, match=r"deblurring_live.safetensors: .* truncated"):
        load_pack(str(copy), auto)


def test_an_unknown_model_is_named_with_the_installed_ones():
    with pytest.raises(PackError, match=r"'zernike9': not found; .*zernike7"):
        load_pack("zernike9")


def test_a_folder_without_a_manifest_is_not_called_missing(copy):
    (copy / "manifest.json").unlink()
    with pytest.raises(PackError, match=r"copied': the folder has no manifest\.json"):
        load_pack(str(copy))


def test_an_altered_file_is_refused(copy):
    path = copy / "deblurring.safetensors"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        PackError, match=r"deblurring.safetensors: sha256 is .* altered"
    ):
        load_pack(str(copy))


def test_a_truncated_file_is_refused(copy):
    path = copy / "identification.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(PackError, match=r"identification.safetensors: .* truncated"):
        load_pack(str(copy))


def test_a_missing_file_is_named(copy):
    (copy / "deblurring.safetensors").unlink()
    with pytest.raises(PackError, match=r"deblurring.safetensors: cannot be read"):
        load_pack(str(copy))


def test_a_pickle_is_never_opened(copy, tmp_path):
    opened = tmp_path / "opened"

    class Trap:
        def __reduce__(self):
            return opened.touch, ()

    for name in ("deblurring.pt", "deblurring.safetensors"):
        content = pickle.dumps(Trap())
        (copy / name).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        claim = {"file": name, "sha256": digest}
        edit(copy, lambda m, c=claim: m["deblurring"].update(c))
        with pytest.raises(PackError, match=r"safetensors|does not hold"):
            load_pack(str(copy))
    assert not opened.exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda m: m.update(colour="red"), "colour"),
        (lambda m: m.pop("noll"), "noll"),
        (lambda m: m.update(noll=[]), r"manifest\.json: noll \(\)"),
        (lambda m: m.update(noll=[1, 2]), r"manifest\.json: noll \(1, 2\): .* from 4"),
        (lambda m: m.update(sampling_min="small"), "sampling_min"),
        (
            lambda m: m.update(family="gaussian"),
            "'gaussian': not known; give \"zernike\"",
        ),
        (lambda m: m["error_model"].pop("tail_dof"), r"error_model\.tail_dof"),
        (lambda m: m["error_model"].update(hue=1.0), r"error_model\.hue"),
        (lambda m: m["deblurring"]["architecture"].update(rooms=3), "architecture"),
        (lambda m: m["deblurring"]["architecture"].update(channels=16), "deblurring"),
    ],
)
def test_a_wrong_manifest_is_refused_by_name(copy, change, named):
    edit(copy, change)
    with pytest.raises(PackError, match=named):
        load_pack(str(copy))


def test_a_manifest_that_is_not_json_is_refused(copy):
    (copy / "manifest.json").write_text("{", "utf-8")
    with pytest.raises(PackError, match="not a readable JSON"):
        load_pack(str(copy))


def test_optics_outside_the_models_range_are_refused_with_the_range():
    pack = load_pack("zernike7")
    pack.check(Optics())
    with pytest.raises(PackError, match=r"pixel_size_nm 30: .* pixel of \d+ to \d+ nm"):
        pack.check(Optics(pixel_size_nm=30.0))
