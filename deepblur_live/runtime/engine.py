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

    It has run once, on zeros, which stay bound: some kernels are only compiled then.

    Parameters
    ----------
    library
        The library that built the plan.
    plan
        The plan's bytes.
    card
        The card, from `find_card`, which has checked that torch finds it.
    kernels
        Result of `kernels` of an engine of this plan on this card.

    Attributes
    ----------
    bound
        Name → the tensor that an input or output is bound to. It must outlive the
        engine's use of its address.

    Raises
    ------
    EngineError
        When the plan does not open or run here.
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
        self.bound: dict[str, torch.Tensor] = {}
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            shape = tuple(self._engine.get_tensor_shape(name))
            dtype = _DTYPES[self._engine.get_tensor_dtype(name).name]
            self.bound[name] = torch.zeros(shape, dtype=dtype, device=self.device)
            self.bind(name, self.bound[name])
        self.enqueue()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def bind(self, name: str, tensor: torch.Tensor) -> None:
        """Use `tensor` as an input or output from now on.

        Raises
        ------
        EngineError
            When the tensor is of another shape, dtype, device or layout, or does not
            begin at a multiple of `ALIGNMENT`: the engine would access memory outside.
        """
        now = self.bound[name]
        # Torch's allocations are aligned, parts of them need not be.
        start = tensor.storage_offset() * tensor.element_size()
        same = tensor.shape == now.shape and tensor.dtype == now.dtype
        if (
            not (same and tensor.device == now.device and tensor.is_contiguous())
            or start % ALIGNMENT
        ):
            raise EngineError(
                f"tensor {name!r}: must be a contiguous {now.dtype} of "
                f"{tuple(now.shape)} on {now.device}, from a multiple of {ALIGNMENT} "
                f"bytes; is {tensor.dtype} of {tuple(tensor.shape)} on "
                f"{tensor.device}, from byte {start}"
            )
        if not self._context.set_tensor_address(name, tensor.data_ptr()):
            raise self._library.failed(f"tensor {name!r}: its address was refused")
        self.bound[name] = tensor

    def kernels(self) -> bytes:
        """Return the kernels that were compiled for this card so far, to be cached.

        Empty if the plan contains them.
        """
        found = None if self._kernels is None else self._kernels.serialize()
        return b"" if found is None else bytes(memoryview(found))

    def enqueue(self) -> None:
        """Run on the bound tensors, in torch's current stream; returns before it ends.

        Raises
        ------
        EngineError
            When the engine refuses to run.
        """
        cuda = self.device.type == "cuda"
        stream = torch.cuda.current_stream(self.device).cuda_stream if cuda else 0
        if not self._context.execute_async_v3(stream):
            raise self._library.failed("the engine did not run")
