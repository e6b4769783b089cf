"""The two networks as ONNX graphs, from which engines are built.

Written node by node: the networks are small and known, and nothing is left to a
tracer. Precision is the dtype of the graph (TensorRT builds it strongly typed);
inputs and outputs are float32, with casts inside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast, get_args

import torch

from deepblur_live.deblurring.proximal import SLOPE
from deepblur_live.runtime.tensorrt import EngineError, Precision

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import nn

    from deepblur_live.deblurring import ProximalNet
    from deepblur_live.identification import IdentificationNet

__all__ = [
    "ExportError",
    "export_identification",
    "export_proximal",
    "modulation",
    "require_onnx",
]

# The first with convolutions in bfloat16; TensorRT 10.13 reads it.
_OPSET, _IR = 22, 10


class ExportError(EngineError):
    """A network that cannot be written as ONNX; the text says what to do."""


def require_onnx() -> Any:
    """Return the module onnx.

    Raises
    ------
    ExportError
        When it is not installed, or does not load.
    """
    try:
        import onnx
    except Exception as error:  # a broken installation breaks in any way it likes
        raise ExportError(
            f"engines are built from ONNX, and the package onnx does not load "
            f"({error}): pip install 'deepblur-live[trt]' or 'deepblur-live[trt-rtx]'"
        ) from error
    return onnx


class _Graph:
    """An ONNX graph in the making: values are named, weights become initialisers.

    Parameters
    ----------
    name
        Of the graph.
    precision
        Of everything between the inputs' and the outputs' casts.
    """

    def __init__(self, name: str, precision: Precision) -> None:
        if precision not in get_args(Precision):
            known = ", ".join(get_args(Precision))
            raise ExportError(f"precision {precision!r}: must be one of {known}")
        self._onnx = require_onnx()
        self._name = name
        self._dtype: torch.dtype = getattr(torch, precision)
        proto = self._onnx.TensorProto
        self._float = proto.FLOAT
        self._type = {
            "float16": proto.FLOAT16,
            "bfloat16": proto.BFLOAT16,
            "float32": proto.FLOAT,
        }[precision]
        self._nodes: list[Any] = []
        self._weights: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def input(self, name: str, shape: Sequence[int]) -> str:
        """Add a float32 input."""
        info = self._onnx.helper.make_tensor_value_info(name, self._float, shape)
        self._inputs.append(info)
        return name

    def output(self, value: str, name: str, shape: Sequence[int]) -> None:
        """Make a float32 value an output."""
        self._nodes.append(self._onnx.helper.make_node("Identity", [value], [name]))
        info = self._onnx.helper.make_tensor_value_info(name, self._float, shape)
        self._outputs.append(info)

    def add(self, kind: str, *values: str, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node; return the name of its output, or a list of several."""
        names = [f"v{len(self._nodes)}_{i}" for i in range(outputs)]
        node = self._onnx.helper.make_node(kind, list(values), names, **attributes)
        self._nodes.append(node)
        return names[0] if outputs == 1 else names

    def narrow(self, value: str) -> str:
        """Cast a float32 value to the graph's precision."""
        return cast("str", self.add("Cast", value, to=self._type))

    def widen(self, value: str) -> str:
        """Cast a value of the graph's precision to float32."""
        return cast("str", self.add("Cast", value, to=self._float))

    def weight(self, tensor: torch.Tensor) -> str:
        """Add a weight, cast from float32 to the graph's precision."""
        narrow = tensor.detach().cpu().float().to(self._dtype).contiguous()
        if not bool(torch.isfinite(narrow).all()):
            raise ExportError(
                f"{self._name}: weights beyond the range of {self._dtype}; use bfloat16"
            )
        proto = self._onnx.TensorProto()
        proto.name = f"w{len(self._weights)}"
        proto.data_type = self._type
        proto.dims.extend(narrow.shape)
        # ONNX wants little-endian bytes, which is every machine that torch runs on.
        proto.raw_data = narrow.view(torch.uint8).numpy().tobytes()
        self._weights.append(proto)
        return cast("str", proto.name)

    def convolve(
        self, value: str, weight: torch.Tensor, bias: torch.Tensor, stride: int = 1
    ) -> str:
        """Add a convolution that keeps the size, or divides it by `stride`."""
        side = weight.shape[-1]
        return cast(
            "str",
            self.add(
                "Conv",
                value,
                self.weight(weight),
                self.weight(bias),
                kernel_shape=[side, side],
                strides=[stride, stride],
                pads=[side // 2] * 4,
            ),
        )

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
    `modulation`: one engine serves all iterations and noise levels. The output is
    ``sharp`` (1, 1, H, W); the residual path is float32 throughout.

    Parameters
    ----------
    network
        The proximal network.
    shape
        (H, W), multiples of the network's `shrink`.
    precision
        Of the convolutions.

    Raises
    ------
    ExportError
        When onnx is missing, or the weights do not fit the precision.
    """
    height, width = shape
    fold = network.shrink
    if height % fold or width % fold:
        raise ExportError(
            f"a frame of {height} × {width}: sides must be multiples of {fold}"
        )
    graph = _Graph("proximal", precision)
    *hidden, last = (cast("nn.Conv2d", layer) for layer in network.layers)
    features = 2 * sum(layer.out_channels for layer in hidden)
    image = graph.input("image", (1, 1, height, width))
    row = graph.narrow(graph.input("modulation", (1, features, 1, 1)))
    parts = graph.add(
        "Split", row, outputs=2 * len(hidden), axis=1, num_outputs=2 * len(hidden)
    )
    x = graph.add("SpaceToDepth", graph.narrow(image), blocksize=fold)
    for layer, scale, shift in zip(hidden, parts[::2], parts[1::2], strict=True):
        x = graph.convolve(x, *_kernel(layer))
        x = graph.add("Add", graph.add("Mul", x, scale), shift)
        x = graph.add("LeakyRelu", x, alpha=SLOPE)
    x = graph.convolve(x, *_kernel(last))
    residual = graph.add("DepthToSpace", x, blocksize=fold, mode="CRD")
    sharp = graph.add("Add", image, graph.widen(residual))
    graph.output(sharp, "sharp", (1, 1, height, width))
    return graph.to_bytes()


@torch.no_grad()
def modulation(network: ProximalNet, conditions: torch.Tensor) -> torch.Tensor:
    """Return what the engine's ``modulation`` takes, (N, M, 1, 1) float32.

    Parameters
    ----------
    network
        The proximal network.
    conditions
        (N, 2), as the network takes them.
    """
    parts = [part for pair in network.modulation(conditions.float()) for part in pair]
    return torch.cat(parts, 1)[..., None, None]


def export_identification(
    network: IdentificationNet, batch: int, shape: tuple[int, int], precision: Precision
) -> bytes:
    """Return the identification network as an ONNX model, BatchNorms folded.

    Input ``spectra`` (B, 2, H, W), as `network_input` gives them; output ``answer``
    (B, M + P), for `IdentificationNet.decode`.

    Parameters
    ----------
    network
        The identification network, in evaluation mode.
    batch
        B, how many spectra at once.
    shape
        (H, W) of the network's input.
    precision
        Of the convolutions. BatchNorms are folded in float32 before.

    Raises
    ------
    ExportError
        When onnx is missing, or the weights do not fit the precision.
    """
    graph = _Graph("identification", precision)
    spectra = graph.input("spectra", (batch, 2, *shape))
    convolution, norm = network.stem[0], network.stem[1]
    x = graph.add("Relu", _folded(graph, graph.narrow(spectra), convolution, norm))
    blocks: Iterable[Any] = network.layers
    for block in blocks:
        shortcut = x
        if len(list(block.shortcut.children())):
            shortcut = _folded(graph, x, block.shortcut[0], block.shortcut[1])
        y = graph.add("Relu", _folded(graph, x, block.conv1, block.norm1))
        y = _folded(graph, y, block.conv2, block.norm2)
        x = graph.add("Relu", graph.add("Add", y, shortcut))
    x = graph.add("Flatten", graph.add("GlobalAveragePool", x), axis=1)
    head = network.head
    x = graph.add(
        "Gemm", x, graph.weight(head.weight), graph.weight(head.bias), transB=1
    )
    graph.output(graph.widen(x), "answer", (batch, head.out_features))
    return graph.to_bytes()


def _kernel(layer: nn.Conv2d) -> tuple[torch.Tensor, torch.Tensor]:
    assert layer.bias is not None
    return layer.weight, layer.bias


@torch.no_grad()
def _folded(graph: _Graph, value: str, convolution: Any, norm: Any) -> str:
    """Add a convolution with its BatchNorm folded into it, in float32.

    A strongly typed parse fails on a half-precision convolution with a float32 norm.
    """
    gain = norm.weight.float() / torch.sqrt(norm.running_var.float() + norm.eps)
    weight = convolution.weight.float() * gain[:, None, None, None]
    bias = norm.bias.float() - norm.running_mean.float() * gain
    return graph.convolve(value, weight, bias, convolution.stride[0])
