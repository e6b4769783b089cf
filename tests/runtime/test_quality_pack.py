"""A model whose deblurring network is the quality preset, from its manifest on."""

import hashlib
import json
import shutil

import pytest
import torch
from safetensors.torch import save

from deepblur_live.deblurring import UnrolledDouglasRachford
from deepblur_live.optics import ZernikeFamily
from deepblur_live.runtime import find_packs, load_pack
from deepblur_live.runtime.executor import TorchExecutor


def test_the_manifest_chooses_the_quality_preset(tmp_path):
    folder = tmp_path / "quality"
    shutil.copytree(find_packs()["zernike7"], folder)
    torch.manual_seed(0)
    network = UnrolledDouglasRachford(iterations=2, blocks=1)
    torch.nn.init.normal_(network.proximal.tail.weight, std=1e-3)
    content = save({k: v.half() for k, v in network.state_dict().items()})
    (folder / "deblurring.safetensors").write_bytes(content)
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    manifest["deblurring"] |= {
        "sha256": hashlib.sha256(content).hexdigest(),
        "architecture": {"kind": "douglas-rachford", "iterations": 2, "blocks": 1},
    }
    path.write_text(json.dumps(manifest), "utf-8")

    pack = load_pack(str(folder))
    assert isinstance(pack.deblurring, UnrolledDouglasRachford)
    family = ZernikeFamily()
    executor = TorchExecutor(pack, family, torch.device("cpu"), half=False)
    # A prime, odd, oblong frame: the executor folds it to multiples of eight.
    image = torch.rand(97, 131, generator=torch.Generator().manual_seed(0))
    sharp = executor.deblur(image, torch.zeros(7), 0.01)
    assert sharp.shape == image.shape
    assert float(sharp.mean()) == pytest.approx(float(image.mean()), rel=0.01)
    assert (sharp - image).abs().max() > 1e-2
