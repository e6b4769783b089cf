"""The two networks as ONNX graphs, from which engines are built.

Written node by node, not traced: the networks are small, and the graph's form decides
what TensorRT fuses. Precision is the data type of the graph (TensorRT builds it
strongly typed); inputs and outputs are float32, with casts inside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch

from deepblur_live.deblurring.proximal import SLOPE
from deepblur_live.identification import INPUT_SHAPE
from deepblur_live.runtime.tensorrt import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import nn

    from deepblur_live.deblurring import ProximalNet
    from deepblur_live.identification import IdentificationNet
    from deepblur_live.runtime.tensorrt import Precision

__all__ = [
    "export_identification",
    "export_proximal",
    "modulation",
    "require_onnx",
]

# The first opset with convolutions in bfloat16; TensorRT 10.13 reads it.
_OPSET, _IR = 22, 10


def require_onnx() -> Any:
    """Return the module onnx.

    Raises
    ------
    EngineError
        When it is not installed, or does not load.
    """
    try:
        import onnx
    except Exception as error:  # a broken installation may raise anything
        raise EngineError(
            f"engines are built from ONNX, and the package onnx does not load "
            f"({error}): pip install 'deepblur-live[trt]' or 'deepblur-live[trt-rtx]'"
        ) from error
    return onnx


class _Graph:
    """An ONNX graph under construction: values are named, weights are initializers.

    Parameters
    ----------
    name
        Name of the graph.
    precision
        Data type of everything between the casts of the inputs and of the outputs.
    """

    def __init__(self, name: str, precision: Precision) -> None:
        self._onnx, self._name = require_onnx(), name
        self._dtype: torch.dtype = getattr(torch, precision)
        types = self._onnx.TensorProto
        self._float = types.FLOAT
        self._type = {"float16": types.FLOAT16, "bfloat16": types.BFLOAT16}.get(
            precision, types.FLOAT
        )
        self._nodes: list[Any] = []
        self._weights: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def input(self, name: str, shape: Sequence[int]) -> str:
        """Add a float32 input; return it cast to the graph's precision."""
        info = self._onnx.helper.make_tensor_value_info(name, self._float, shape)
        self._inputs.append(info)
        return self.add("Cast", name, to=self._type)

    def output(self, value: str, name: str, shape: Sequence[int]) -> None:
        """Make a float32 value an output."""
        self._nodes.append(self._onnx.helper.make_node("Identity", [value], [name]))
        info = self._onnx.helper.make_tensor_value_info(name, self._float, shape)
        self._outputs.append(info)

    def widen(self, value: str) -> str:
        """Cast a value of the graph's precision to float32."""
        return self.add("Cast", value, to=self._float)

    def add(self, kind: str, *values: str, **attributes: Any) -> str:
        """Add a node; return the name of its output."""
        return self.split(kind, *values, count=1, **attributes)[0]

    def split(
        self, kind: str, *values: str, count: int, **attributes: Any
    ) -> list[str]:
        """Add a node; return the names of its outputs."""
        names = [f"v{len(self._nodes)}_{i}" for i in range(count)]
        node = self._onnx.helper.make_node(kind, list(values), names, **attributes)
        self._nodes.append(node)
        return names

    def weight(self, tensor: torch.Tensor) -> str:
        """Add a weight, cast from float32 to the graph's precision."""
        narrow = tensor.detach().cpu().float().to(self._dtype).contiguous()
        if not bool(torch.isfinite(narrow).all()):
            raise EngineError(
                f"{self._name}: weights beyond the range of {self._dtype}; use bfloat16"
            )
        # ONNX stores little-endian bytes, as does every machine that torch runs on.
        content = narrow.view(torch.uint8).numpy().tobytes()
        name = f"w{len(self._weights)}"
        self._weights.append(
            self._onnx.helper.make_tensor(
                name, self._type, narrow.shape, content, raw=True
            )
        )
        return name

    def convolve(
        self, value: str, weight: torch.Tensor, bias: torch.Tensor, stride: int = 1
    ) -> str:
        """Add a convolution that keeps the size, or divides it by `stride`."""
        pads = [weight.shape[-1] // 2] * 4
        parts = value, self.weight(weight), self.weight(bias)
        return self.add("Conv", *parts, strides=[stride, stride], pads=pads)

    def to_bytes(self) -> bytes:
        """Return the checked model; equal graphs give equal bytes."""
        helper = self._onnx.helper
        graph = helper.make_graph(
            self._nodes, self._name, self._inputs, self._outputs, self._weights
        )
        opset = [helper.make_opsetid("", _OPSET)]
        model = helper.make_model(
            graph, opset_imports=opset, ir_version=_IR, producer_name="deepblur-live"
        )
        self._onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))


def export_proximal(
    network: ProximalNet, shape: tuple[int, int], precision: Precision
) -> bytes:
    """Return the proximal network on one frame as an ONNX model.

    Inputs are ``image`` (1, 1, H, W) and ``modulation`` (1, M, 1, 1), a row of
    `modulation`: one engine serves all iterations and noise levels. A network with a
    noise map also takes ``contrast`` (1, 1, H / shrink, W / shrink), see
    `noise_contrast`. The output is ``sharp`` (1, 1, H, W); the residual path is float32
    throughout.

    Parameters
    ----------
    network
        The proximal network.
    shape
        (H, W), multiples of the network's `shrink`.
    precision
        Data type of the convolutions.

    Raises
    ------
    EngineError
        When onnx is missing, or the weights do not fit the precision.
    """
    height, width = shape
    fold = network.shrink
    graph = _Graph("proximal", precision)
    *hidden, last = (cast("nn.Conv2d", layer) for layer in network.layers)
    image = graph.input("image", (1, 1, height, width))
    features = 2 * sum(layer.out_channels for layer in hidden)
    row = graph.input("modulation", (1, features, 1, 1))
    count = 2 * len(hidden)
    parts = graph.split("Split", row, count=count, axis=1, num_outputs=count)
    x = graph.add("SpaceToDepth", image, blocksize=fold)
    if network.noise_map:
        contrast = graph.input("contrast", (1, 1, height // fold, width // fold))
        x = graph.add("Concat", x, contrast, axis=1)
    for layer, scale, shift in zip(hidden, parts[::2], parts[1::2], strict=True):
        x = graph.convolve(x, *_weight_and_bias(layer))
        x = graph.add("Add", graph.add("Mul", x, scale), shift)
        x = graph.add("LeakyRelu", x, alpha=SLOPE)
    x = graph.convolve(x, *_weight_and_bias(last))
    residual = graph.add("DepthToSpace", x, blocksize=fold, mode="CRD")
    sharp = graph.add("Add", "image", graph.widen(residual))
    graph.output(sharp, "sharp", (1, 1, height, width))
    return graph.to_bytes()


@torch.no_grad()
def modulation(network: ProximalNet, conditions: torch.Tensor) -> torch.Tensor:
    """Return the engine's ``modulation`` (N, M, 1, 1) for conditions (N, 2)."""
    parts = [part for pair in network.modulation(conditions.float()) for part in pair]
    return torch.cat(parts, 1)[..., None, None]


def export_identification(network: IdentificationNet, precision: Precision) -> bytes:
    """Return the identification network as an ONNX model, BatchNorms folded.

    Input ``spectra`` (1, 2, H, W), as `network_input` makes them; output ``output``
    (1, M + P), for `IdentificationNet.decode`. Parameters and errors as
    `export_proximal`; the network is in evaluation mode.
    """
    graph = _Graph("identification", precision)
    x = graph.input("spectra", (1, 2, *INPUT_SHAPE))
    x = graph.add("Relu", _folded(graph, x, network.stem[0], network.stem[1]))
    blocks: Iterable[Any] = network.layers
    for block in blocks:
        shortcut = x
        if len(list(block.shortcut.children())):
            shortcut = _folded(graph, x, block.shortcut[0], block.shortcut[1])
        y = graph.add("Relu", _folded(graph, x, block.conv1, block.norm1))
        y = _folded(graph, y, block.conv2, block.norm2)
        x = graph.add("Relu", graph.add("Add", y, shortcut))
    x = graph.add("Flatten", graph.add("GlobalAveragePool", x), axis=1)
    weight, bias = graph.weight(network.head.weight), graph.weight(network.head.bias)
    x = graph.add("Gemm", x, weight, bias, transB=1)
    graph.output(graph.widen(x), "output", (1, network.head.out_features))
    return graph.to_bytes()


def _weight_and_bias(layer: nn.Conv2d) -> tuple[torch.Tensor, torch.Tensor]:
    assert layer.bias is not None
    return layer.weight, layer.bias


@torch.no_grad()
def _folded(graph: _Graph, value: str, convolution: Any, norm: Any) -> str:
    """Add a convolution with its BatchNorm folded into it, in float32.

    A strongly typed parser fails on a half-precision convolution with a float32 norm.
    """
    gain = norm.weight.float() / torch.sqrt(norm.running_var.float() + norm.eps)
    weight = convolution.weight.float() * gain[:, None, None, None]
    bias = norm.bias.float() - norm.running_mean.float() * gain
    return graph.convolve(value, weight, bias, convolution.stride[0])
