"""A plan opened on a card: its inputs and outputs bound, run in torch's stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from deepblur_live.runtime.tensorrt import EngineError

if TYPE_CHECKING:
    from deepblur_live.runtime.tensorrt import Card, Library

__all__ = ["ALIGNMENT", "Engine"]

ALIGNMENT = 256
"""Inputs, outputs and scratch memory of TensorRT begin at multiples of it, bytes."""

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
    kernels
        What `kernels` of an engine of this plan returned on this card.

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

    def __init__(
        self, library: Library, plan: bytes, card: Card, kernels: bytes = b""
    ) -> None:
        trt = library.module
        self._library, self.device = library, card.device
        self._runtime = library.make("Runtime", library.log)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise library.failed(f"the engine does not open on {card.name}")
        settings = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        self._kernels: Any = None
        if hasattr(trt, "IRuntimeCache"):
            # TensorRT for RTX compiles its kernels at the first run, unless it has them
            # from an earlier one. It refuses those of another card or driver.
            config = self._engine.create_runtime_config()
            config.set_execution_context_allocation_strategy(settings)
            self._kernels = config.create_runtime_cache()
            if kernels:
                self._kernels.deserialize(kernels)
            config.set_runtime_cache(self._kernels)
            settings = config
        self._context = self._engine.create_execution_context(settings)
        if self._context is None:
            raise library.failed(f"the engine cannot be made ready on {card.name}")
        size = int(self._engine.device_memory_size_v2)
        # Torch's allocations are aligned to 512 bytes.
        self._scratch = torch.empty(
            max(size, ALIGNMENT), dtype=torch.uint8, device=self.device
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
            device or layout, or does not begin at a multiple of `ALIGNMENT`.
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
        # On a CPU, where only tests run, within the memory that it is a part of.
        start = (
            tensor.data_ptr()
            if self.device.type == "cuda"
            else tensor.storage_offset() * tensor.element_size()
        )
        if start % ALIGNMENT:
            raise EngineError(
                f"tensor {name!r}: must begin at a multiple of {ALIGNMENT} bytes, "
                f"begins {start % ALIGNMENT} after one"
            )
        if not self._context.set_tensor_address(name, tensor.data_ptr()):
            raise self._library.failed(f"tensor {name!r}: its address was refused")
        self.bound[name] = tensor

    def kernels(self) -> bytes:
        """Return the kernels that were compiled for this card so far, to be kept.

        Nothing where the plan holds them.
        """
        found = None if self._kernels is None else self._kernels.serialize()
        return b"" if found is None else bytes(memoryview(found))

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
