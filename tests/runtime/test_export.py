"""The ONNX models compute what the networks do."""

import sys

import pytest
import torch

onnx = pytest.importorskip("onnx", reason="engines are built from ONNX")

from onnx.reference import ReferenceEvaluator  # noqa: E402

from deepblur_live.blur.zernike import ZernikeFamily  # noqa: E402
from deepblur_live.deblurring import ProximalNet  # noqa: E402
from deepblur_live.identification import INPUT_SHAPE, IdentificationNet  # noqa: E402
from deepblur_live.runtime.export import (  # noqa: E402
    export_identification,
    export_proximal,
    modulation,
)
from deepblur_live.runtime.parity import compare, trial_spectra  # noqa: E402
from deepblur_live.runtime.tensorrt import EngineError  # noqa: E402

SHAPE = (48, 40)


def run(model, **inputs):
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    graph = onnx.load_from_string(model)
    (result,) = ReferenceEvaluator(graph).run(None, arrays)
    return torch.from_numpy(result)


@pytest.mark.parametrize(
    ("precision", "allowed"),
    [("float32", 1e-6), ("float16", 1e-3), ("bfloat16", 5e-3)],
)
def test_the_proximal_model_agrees_at_every_condition(pack, precision, allowed):
    network = pack.deblurring.proximal
    assert network.noise_map
    model = export_proximal(network, SHAPE, precision)
    image = torch.rand(1, 1, *SHAPE, generator=torch.Generator().manual_seed(0))
    conditions = torch.tensor([[0.0, -3.0], [0.9, -1.0]])
    rows = modulation(network, conditions)
    folded = (SHAPE[0] // network.shrink, SHAPE[1] // network.shrink)
    contrast = torch.rand(1, 1, *folded, generator=torch.Generator().manual_seed(1))
    results = [
        run(model, image=image, modulation=row[None], contrast=contrast) for row in rows
    ]
    for result, condition in zip(results, conditions, strict=True):
        with torch.no_grad():
            expected = network(image, condition[None], contrast)
        assert compare("", result, expected).error < allowed
    # The condition changes the result by far more than the error.
    assert compare("", results[0], results[1]).error > 2 * allowed


def test_the_identification_model_agrees_with_its_norms_folded(pack):
    spectra = trial_spectra((1, 2, *INPUT_SHAPE))
    model = export_identification(pack.identification, "float32")
    with torch.no_grad():
        expected = pack.identification(spectra)
    assert compare("", run(model, spectra=spectra), expected).error < 1e-5
    kinds = {node.op_type for node in onnx.load_from_string(model).graph.node}
    assert "BatchNormalization" not in kinds


def test_half_precision_identification_passes_the_gate(pack):
    spectra = trial_spectra((1, 2, *INPUT_SHAPE))
    model = export_identification(pack.identification, "float16")
    with torch.no_grad():
        expected = pack.identification(spectra)
    verdict = compare("identification", run(model, spectra=spectra), expected)
    assert verdict.passed, verdict.text


def test_equal_models_are_equal_bytes_and_others_are_not():
    torch.manual_seed(0)
    network = ProximalNet(8)
    model = export_proximal(network, SHAPE, "float16")
    assert export_proximal(network, SHAPE, "float16") == model
    others = [
        export_proximal(network, (40, 48), "float16"),
        export_proximal(network, SHAPE, "bfloat16"),
    ]
    with torch.no_grad():
        network.layers[1].weight[0, 0, 0, 0] += 0.1
    others.append(export_proximal(network, SHAPE, "float16"))
    assert len({model, *others}) == 4


def test_inputs_and_outputs_are_single_precision():
    graph = onnx.load_from_string(export_proximal(ProximalNet(8), SHAPE, "float16"))
    for value in (*graph.graph.input, *graph.graph.output):
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_weights_too_large_for_a_precision_are_refused():
    network = ProximalNet(8)
    with torch.no_grad():
        network.layers[0].bias += 1e5
    with pytest.raises(EngineError, match=r"beyond the range of torch\.float16"):
        export_proximal(network, SHAPE, "float16")
    export_proximal(network, SHAPE, "bfloat16")


def test_without_onnx_the_refusal_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(EngineError, match=r"pip install 'deepblur-live\[trt\]'"):
        export_proximal(ProximalNet(8), SHAPE, "float16")


def test_a_noise_map_is_one_more_input():
    torch.manual_seed(0)
    network = ProximalNet(8, depth=3, noise_map=True)
    torch.nn.init.normal_(network.layers[-1].weight, std=0.1)
    image, condition = torch.rand(1, 1, *SHAPE), torch.tensor([[0.5, -2.0]])
    contrast = torch.randn(1, 1, SHAPE[0] // 2, SHAPE[1] // 2)
    model = export_proximal(network, SHAPE, "float32")
    row = modulation(network, condition)
    result = run(model, image=image, modulation=row, contrast=contrast)
    with torch.no_grad():
        assert compare("", result, network(image, condition, contrast)).error < 1e-6
        other = network(image, condition, torch.zeros_like(contrast))
    assert compare("", result, other).error > 1e-2


def test_other_networks_than_the_shipped_are_exported_as_well():
    torch.manual_seed(0)
    small = ProximalNet(channels=8, shrink=4, depth=3)
    torch.nn.init.normal_(small.layers[-1].weight, std=0.1)
    image, condition = torch.rand(1, 1, 32, 64), torch.tensor([[0.5, -2.0]])
    model = export_proximal(small, (32, 64), "float32")
    result = run(model, image=image, modulation=modulation(small, condition))
    with torch.no_grad():
        assert compare("", result, small(image, condition)).error < 1e-6
    reader = IdentificationNet(ZernikeFamily(noll=(5, 7, 6))).eval()
    spectra = trial_spectra((1, 2, *INPUT_SHAPE))
    result = run(export_identification(reader, "float32"), spectra=spectra)
    with torch.no_grad():
        assert compare("", result, reader(spectra)).error < 1e-5
