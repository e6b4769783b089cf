"""A TensorRT without a card: the same calls, run by ONNX's reference on the CPU.

Only what the project calls is here. `FAKE_TENSORRT_FAULT` in the environment, which the
build's child process has too, makes one thing go wrong as TensorRT goes wrong: mostly
by returning None or False and logging the reason.
"""

import ctypes
import enum
import os
import time

import numpy as np

__version__ = os.environ.get("FAKE_TENSORRT_VERSION", "11.4.0.1")

_HEADER = b"FAKE PLAN"


def fault(name):
    return os.environ.get("FAKE_TENSORRT_FAULT") == name


class ILogger:
    class Severity(enum.Enum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 1


class BuilderFlag(enum.Enum):
    TF32 = 0


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class ExecutionContextAllocationStrategy(enum.Enum):
    USER_MANAGED = 2


class DataType(enum.Enum):
    FLOAT = 0


class Teller:
    # Fault whose object is none: its making raises, in the binding's words.
    none = ""

    def __init__(self, log):
        self.log = log
        if self.none and self.fails(self.none, "CUDA initialization failure: 35"):
            raise TypeError("pybind11::init(): factory function returned nullptr")

    def fails(self, name, what):
        if fault(name):
            self.log.log(ILogger.Severity.WARNING, "nothing of interest")
            self.log.log(ILogger.Severity.ERROR, what)
        return fault(name)


class Network:
    model = b""


class Config:
    def __init__(self):
        self.flags = {BuilderFlag.TF32}

    def set_memory_pool_limit(self, pool, size):
        assert size > 0

    def clear_flag(self, flag):
        self.flags.discard(flag)


class Builder(Teller):
    none = "builder"

    def create_network(self, flags):
        assert flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
        return None if self.fails("network", "out of memory") else Network()

    def create_builder_config(self):
        return None if self.fails("config", "out of memory") else Config()

    def build_serialized_network(self, network, config):
        if fault("crash"):
            os.abort()
        if fault("hang"):
            time.sleep(600)
        if self.fails("build", "no kernel for node Conv_7"):
            return None
        return memoryview(_HEADER + network.model)


class ParserError:
    def desc(self):
        return "In node 3: unsupported operator FFT"


class OnnxParser(Teller):
    none, num_errors = "parser", 1

    def __init__(self, network, log):
        super().__init__(log)
        self.network = network

    def parse(self, model):
        self.network.model = model
        return not self.fails("parse", "ModelImporter: failed")

    def get_error(self, index):
        return ParserError()


class Runtime(Teller):
    none = "runtime"

    def deserialize_cuda_engine(self, plan):
        if fault("open") or not bytes(plan).startswith(_HEADER):
            self.log.log(ILogger.Severity.ERROR, "header.magicTag differs")
            return None
        return Engine(self.log, bytes(plan).removeprefix(_HEADER))


class Engine(Teller):
    device_memory_size_v2 = 0

    def __init__(self, log, model):
        super().__init__(log)
        import onnx
        from onnx.reference import ReferenceEvaluator

        graph = onnx.load_from_string(model).graph
        self.run = ReferenceEvaluator(onnx.load_from_string(model)).run
        self.shapes = {
            v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim)
            for v in (*graph.input, *graph.output)
        }
        self.inputs = [v.name for v in graph.input]
        self.num_io_tensors = len(self.shapes)

    def create_execution_context(self, strategy):
        assert strategy is ExecutionContextAllocationStrategy.USER_MANAGED
        if self.fails("context", "cudaMalloc failed"):
            return None
        return Context(self)

    def get_tensor_name(self, index):
        return list(self.shapes)[index]

    def get_tensor_shape(self, name):
        return self.shapes[name]

    def get_tensor_dtype(self, name):
        return DataType.FLOAT


class Context:
    def __init__(self, engine):
        self.engine, self.addresses = engine, {}

    def set_device_memory(self, address, size):
        assert address
        assert size == self.engine.device_memory_size_v2

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return not self.engine.fails("address", "misaligned address")

    def array(self, name):
        shape = self.engine.shapes[name]
        kind = ctypes.c_float * int(np.prod(shape))
        return np.frombuffer(
            kind.from_address(self.addresses[name]), np.float32
        ).reshape(shape)

    def execute_async_v3(self, stream):
        engine = self.engine
        if engine.fails("run", "an illegal memory access was encountered"):
            return False
        (name,) = set(engine.shapes) - set(engine.inputs)
        (result,) = engine.run(None, {n: self.array(n) for n in engine.inputs})
        # As half-precision engines have been seen to fail, without a word.
        if fault("nan"):
            result = result * np.float32("nan")
        if fault("black"):
            result = result * 0
        if fault("wrong"):
            result = result * np.float32(1.01)
        self.array(name)[...] = result
        return True
