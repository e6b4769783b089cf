"""A plan on disk, its sidecar, and all that makes an engine what it is."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["EngineSpec", "delete_plan", "read_plan", "read_sidecar", "write_plan"]

# To be raised when plans made by an earlier version of this program must not be used.
_SCHEMA = 1


@dataclass(frozen=True)
class EngineSpec:
    """All that makes an engine what it is: any difference is another engine.

    Parameters
    ----------
    network, shape, precision
        ``"proximal"`` or ``"identification"``, the static shape of its input, and the
        dtype of its convolutions.
    onnx_sha256
        Of the ONNX model, weights included.
    backend, version
        Which TensorRT.
    gpu, capability, driver
        The card, and its driver's version.
    options
        What the builder was told.
    schema
        This program's own version of all of it.
    """

    network: str
    shape: tuple[int, ...]
    precision: str
    onnx_sha256: str
    backend: str
    version: str
    gpu: str
    capability: tuple[int, int]
    driver: str
    options: str
    schema: int = _SCHEMA

    @property
    def key(self) -> str:
        """64 hexadecimal digits, equal for equal engines."""
        content = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def name(self) -> str:
        """A file's name that a person can read."""
        sides = "x".join(str(n) for n in self.shape)
        parts = (self.network, sides, self.precision, self.backend, self.version)
        return "-".join((*parts, self.key[:16]))


def read_sidecar(path: Path) -> tuple[EngineSpec | None, str]:
    """Return what a plan was built from and its sha256, or None where none is told."""
    try:
        about = json.loads(path.with_suffix(".json").read_text("utf-8"))
        sha256 = str(about.pop("sha256"))
        for field in fields(EngineSpec):
            if isinstance(about[field.name], list):
                about[field.name] = tuple(about[field.name])
        spec = EngineSpec(**about)
        # What is no number or text where one belongs has no name.
        return (spec, sha256) if spec.name else (None, "")
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None, ""
    except RecursionError:
        return None, ""


def read_plan(path: Path, spec: EngineSpec) -> tuple[bytes | None, str]:
    """Return a plan that is what `spec` and its sidecar say; else None and the fault.

    With neither plan nor fault there is simply none.
    """
    try:
        plan = path.read_bytes()
    except FileNotFoundError:
        return None, ""
    except OSError as error:
        return None, f"cannot be read: {error.strerror}"
    found, sha256 = read_sidecar(path)
    if found != spec:
        return None, "built from something else, or its sidecar cannot be read"
    if hashlib.sha256(plan).hexdigest() != sha256:
        return None, "altered or cut short"
    return plan, ""


def delete_plan(path: Path) -> None:
    """Delete a plan and its sidecar, as far as they can be."""
    # The sidecar first: a plan without one does not count. Where a virus scanner
    # holds a file on Windows it stays, and is found wrong again.
    for file in (path.with_suffix(".json"), path):
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)


def write_plan(path: Path, spec: EngineSpec, plan: bytes) -> None:
    """Keep a plan and what it was built from.

    Raises
    ------
    OSError
        When a file cannot be written.
    """
    about = asdict(spec) | {"sha256": hashlib.sha256(plan).hexdigest()}
    _write(path, plan)
    # The sidecar last: without it the plan does not count.
    _write(path.with_suffix(".json"), json.dumps(about, indent=1).encode())


def _write(path: Path, content: bytes) -> None:
    part = path.with_suffix(f".{uuid.uuid4().hex}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
