"""A plan opened on a card: its inputs and outputs bound, run in torch's stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from deepblur_live.runtime.tensorrt import EngineError

if TYPE_CHECKING:
    from deepblur_live.runtime.tensorrt import Backend, Card

__all__ = ["Engine"]

# By hand: TensorRT's own table has no bfloat16.
_DTYPES = {"FLOAT": torch.float32, "HALF": torch.float16, "BF16": torch.bfloat16}


class Engine:
    """A plan opened on a card, with its scratch memory; not for several threads.

    Parameters
    ----------
    backend
        That built the plan.
    plan
        Its bytes.
    card
        From `find_card`, which has asked torch whether there is one.

    Attributes
    ----------
    tensors
        Name → shape and dtype of its inputs and outputs.

    Raises
    ------
    EngineError
        When the plan does not open here.
    """

    def __init__(self, backend: Backend, plan: bytes, card: Card) -> None:
        trt = backend.module
        self._backend, self.device = backend, card.device
        self._runtime = backend.make("Runtime", backend.log)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise backend.failed(f"the engine does not open on {card.name}")
        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        self._context = self._engine.create_execution_context(strategy)
        if self._context is None:
            raise backend.failed(f"the engine cannot be made ready on {card.name}")
        size = int(self._engine.device_memory_size_v2)
        # Torch's blocks are aligned to more than the 256 bytes that are asked for.
        self._scratch = torch.empty(
            max(size, 256), dtype=torch.uint8, device=self.device
        )
        self._context.set_device_memory(self._scratch.data_ptr(), size)
        self.tensors: dict[str, tuple[tuple[int, ...], torch.dtype]] = {}
        self.inputs: list[str] = []
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            kind = self._engine.get_tensor_dtype(name).name
            if kind not in _DTYPES:
                raise EngineError(f"{backend.name}: tensor {name!r} is of type {kind}")
            shape = tuple(int(n) for n in self._engine.get_tensor_shape(name))
            self.tensors[name] = (shape, _DTYPES[kind])
            if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
                self.inputs.append(name)
        # What is bound must outlive the engine's use of its address.
        self._bound: dict[str, torch.Tensor] = {}

    def bind(self, name: str, tensor: torch.Tensor) -> None:
        """Let an input or output lie in `tensor` from now on.

        Raises
        ------
        EngineError
            When there is none of that name, or the tensor is of another shape, dtype,
            device or layout.
        """
        if name not in self.tensors:
            raise EngineError(
                f"no tensor {name!r}: there are {', '.join(self.tensors)}"
            )
        shape, dtype = self.tensors[name]
        fits = tuple(tensor.shape) == shape and tensor.dtype == dtype
        if not (fits and tensor.is_contiguous() and tensor.device == self.device):
            raise EngineError(
                f"tensor {name!r}: must be a contiguous {dtype} of {shape} on "
                f"{self.device}, is {tensor.dtype} of {tuple(tensor.shape)} on "
                f"{tensor.device}"
            )
        if not self._context.set_tensor_address(name, tensor.data_ptr()):
            raise self._backend.failed(f"tensor {name!r}: its address was refused")
        self._bound[name] = tensor

    def bound(self, name: str) -> torch.Tensor:
        """Return the tensor that was bound to `name`."""
        return self._bound[name]

    def run_once(self) -> None:
        """Run on zeros, which stay bound, and wait for it.

        Raises
        ------
        EngineError
            When the engine refuses to run.
        """
        for name, (shape, dtype) in self.tensors.items():
            self.bind(name, torch.zeros(shape, dtype=dtype, device=self.device))
        self.enqueue()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def enqueue(self) -> None:
        """Run on what is bound, in torch's current stream; returns before it is done.

        Raises
        ------
        EngineError
            When something is not bound, or the engine refuses to run.
        """
        if missing := [name for name in self.tensors if name not in self._bound]:
            raise EngineError(f"not bound: {', '.join(missing)}")
        cuda = self.device.type == "cuda"
        stream = torch.cuda.current_stream(self.device).cuda_stream if cuda else 0
        if not self._context.execute_async_v3(stream):
            raise self._backend.failed("the engine did not run")
