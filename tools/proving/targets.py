"""Compile the Triton kernels for cards that need not be there, and list what they use.

python tools/proving/targets.py [CAPABILITY,… [CHANNELS,… [KERNEL,…]]] prints JSON.

It is a program of its own because the kernels must be imported without Triton's
interpreter, and without the package, whose import takes longer than a compilation.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

KERNELS = (
    Path(__file__).parents[2] / "deepblur_live" / "deblurring" / "triton_kernels.py"
)
TARGETS = (80, 86, 89, 90, 120)
CHANNELS = (16, 32)
NAMES = ("first", "hidden", "last")
# As `triton_fista` launches them: on Hopper with fewer columns.
COLUMNS, HOPPER, HOPPER_COLUMNS = 128, 90, 64
WARPS, STAGES, SLOPE = 4, 2, 0.1
_USAGE = re.compile(r"REG:(\d+) STACK:(\d+)")
_PRODUCT = re.compile(r"\b(?:mma\.sync|wgmma\.mma_async|tcgen05\.mma)\.")
_SIZES = {"rows": "i32", "columns": "i32", "strip": "i32"}


def main() -> None:
    asked = sys.argv[1:]
    targets = [int(t) for t in asked[0].split(",")] if asked else TARGETS
    channels = [int(c) for c in asked[1].split(",")] if asked[1:] else CHANNELS
    names = asked[2].split(",") if asked[2:] else NAMES
    kernels = load()
    found = [
        compiled(kernels, name, count, target)
        for count in channels
        for target in targets
        for name in names
    ]
    print(json.dumps(found, indent=1))


def load() -> Any:
    """Return the kernels' module, without its package."""
    spec = importlib.util.spec_from_file_location("triton_kernels", KERNELS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compiled(kernels: Any, name: str, channels: int, target: int) -> dict[str, Any]:
    """Compile one kernel in float16; return what it uses."""
    half, single = "*fp16", "*fp32"
    tensors = {"weight": half, "bias": half, "image": single, "target": half}
    columns = HOPPER_COLUMNS if target == HOPPER else COLUMNS
    constants: dict[str, Any] = {"slope": SLOPE, "COLUMNS": columns}
    if name == "first":
        function = kernels.first_convolution
        tensors["contrast"] = half
        constants |= {"NOISE_MAP": True, "OUTPUTS": channels}
    else:
        function, last = kernels.convolution, name == "last"
        tensors["source"] = half
        if last:
            tensors["target"] = single
        constants |= {
            "LAST": last,
            "INPUTS": channels,
            "OUTPUTS": 16 if last else channels,
        }
    order = function.arg_names
    types = tensors | _SIZES | dict.fromkeys(constants, "constexpr")
    source = ASTSource(
        function,
        {argument: types[argument] for argument in order},
        {(order.index(argument),): value for argument, value in constants.items()},
        # Torch's memory is aligned.
        {(order.index(tensor),): [["tt.divisibility", 16]] for tensor in tensors},
    )
    options = {"num_warps": WARPS, "num_stages": STAGES}
    binary = triton.compile(source, GPUTarget("cuda", target, 32), options)
    registers, stack = usage(binary.asm["cubin"])
    return {
        "kernel": name,
        "channels": channels,
        "target": f"sm_{target}",
        "triton": triton.__version__,
        "registers": registers,
        "spilled_bytes": stack,
        "shared_bytes": binary.metadata.shared,
        "tensor_core_instructions": len(_PRODUCT.findall(binary.asm["ptx"])),
    }


def usage(cubin: bytes) -> tuple[int, int]:
    """Return registers and bytes of stack of one thread, as Triton's cuobjdump says."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "kernel.cubin")
        file.write_bytes(cubin)
        said = subprocess.run(
            [tool, "-res-usage", file],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    found = _USAGE.search(said.stdout)
    if found is None:
        raise RuntimeError(f"{tool}: reports no registers: {said.stdout[-200:]}")
    return int(found[1]), int(found[2])


if __name__ == "__main__":
    main()
