"""A plan opened on a card: its inputs and outputs bound, run in torch's stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from deepblur_live.runtime.tensorrt import EngineError

if TYPE_CHECKING:
    from deepblur_live.runtime.tensorrt import Card, Library

__all__ = ["Engine"]

# TensorRT's own table lacks bfloat16.
_DTYPES = {"FLOAT": torch.float32, "HALF": torch.float16, "BF16": torch.bfloat16}


class Engine:
    """A plan opened on a card, with its scratch memory; not thread-safe.

    Parameters
    ----------
    library
        That built the plan.
    plan
        Its bytes.
    card
        From `find_card`, which has made sure that torch finds it.

    Attributes
    ----------
    tensors
        Name → shape and dtype of its inputs and outputs.
    bound
        Name → the tensor that an input or output was bound to. It must outlive the
        engine's use of its address.

    Raises
    ------
    EngineError
        When the plan does not open here.
    """

    def __init__(self, library: Library, plan: bytes, card: Card) -> None:
        trt = library.module
        self._library, self.device = library, card.device
        self._runtime = library.make("Runtime", library.log)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise library.failed(f"the engine does not open on {card.name}")
        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        self._context = self._engine.create_execution_context(strategy)
        if self._context is None:
            raise library.failed(f"the engine cannot be made ready on {card.name}")
        size = int(self._engine.device_memory_size_v2)
        # TensorRT wants an alignment of 256 bytes; torch's allocations have more.
        self._scratch = torch.empty(
            max(size, 256), dtype=torch.uint8, device=self.device
        )
        self._context.set_device_memory(self._scratch.data_ptr(), size)
        self.tensors: dict[str, tuple[tuple[int, ...], torch.dtype]] = {}
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            kind = self._engine.get_tensor_dtype(name).name
            if kind not in _DTYPES:
                raise EngineError(f"{library.name}: tensor {name!r} is of type {kind}")
            shape = tuple(int(n) for n in self._engine.get_tensor_shape(name))
            self.tensors[name] = (shape, _DTYPES[kind])
        self.bound: dict[str, torch.Tensor] = {}

    def bind(self, name: str, tensor: torch.Tensor) -> None:
        """Use `tensor` as an input or output from now on.

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
            raise self._library.failed(f"tensor {name!r}: its address was refused")
        self.bound[name] = tensor

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
        """Run on the bound tensors, in torch's current stream; returns before it ends.

        Raises
        ------
        EngineError
            When a tensor is not bound, or the engine refuses to run.
        """
        if missing := [name for name in self.tensors if name not in self.bound]:
            raise EngineError(f"not bound: {', '.join(missing)}")
        cuda = self.device.type == "cuda"
        stream = torch.cuda.current_stream(self.device).cuda_stream if cuda else 0
        if not self._context.execute_async_v3(stream):
            raise self._library.failed("the engine did not run")
