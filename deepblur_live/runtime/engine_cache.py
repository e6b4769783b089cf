"""Built engines on disk, each valid only for exactly what it was built from."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import platformdirs
from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from deepblur_live.runtime.tensorrt import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["CachedEngine", "EngineCache", "EngineSpec", "default_folder"]

_log = logging.getLogger(__name__)
# Increment when plans made by an earlier version of this program must not be used.
_SCHEMA = 1
_LOCK_TIMEOUT_S = 1800.0
# See docs/decisions/0030-engine-failures.md.
_MAX_FAILURES, _FAILURES_COUNT_S = 2, 86400.0
_PLAN, _KERNELS, _FAILURE = ".plan", ".kernels", ".failure"


def default_folder() -> Path:
    """Return the user's folder for engines; it can be deleted at any time."""
    return platformdirs.user_cache_path("deepblur-live", appauthor=False) / "engines"


@dataclass(frozen=True)
class EngineSpec:
    """Everything that an engine depends on: any difference makes another engine.

    Parameters
    ----------
    network, shape, precision
        The network, the static shape of its input, the data type of its convolutions.
    onnx_sha256
        Hash of the ONNX model, weights included.
    backend, version, options
        The TensorRT library, and its build options.
    gpu, capability, driver
        The card, and its driver's version.
    schema
        Version of the cache's format in this program.
    """

    network: str
    shape: tuple[int, ...]
    precision: str
    onnx_sha256: str
    backend: str
    version: str
    options: str
    gpu: str
    capability: tuple[int, int]
    driver: str
    schema: int = _SCHEMA

    @property
    def name(self) -> str:
        """A readable file name, different for different engines."""
        key = hashlib.sha256(repr(self).encode()).hexdigest()[:16]
        sides = "x".join(str(n) for n in self.shape)
        parts = (self.network, sides, self.precision, self.backend, self.version, key)
        return "-".join(parts)


@dataclass(frozen=True)
class _Header:
    """The first line of an engine's file, as JSON."""

    spec: EngineSpec
    sha256: str
    timed_busy: bool = False


_HEADER = TypeAdapter(_Header)


@dataclass(frozen=True)
class CachedEngine:
    """A file of the cache.

    Parameters
    ----------
    path
        The file.
    spec
        Its build inputs, or None if its header cannot be read.
    fault
        Why it is not used; empty if it is usable.
    plan
        The bytes after the header.
    timed_busy
        Whether kernels were timed while the card processed frames; a build on an idle
        card may find faster ones.
    """

    path: Path
    spec: EngineSpec | None = None
    fault: str = ""
    plan: bytes = b""
    timed_busy: bool = False


class EngineCache:
    """A folder of plans, each after a line of JSON that states its build inputs.

    A plan is used only if its name is that of the `EngineSpec` in this header, and its
    sha256 agrees with the header; any other is built again. Files are written to a
    temporary name and renamed; several processes may share the folder.

    Parameters
    ----------
    folder
        The folder; `default_folder` if None.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = default_folder() if folder is None else folder
        # Engines that are being opened here: each counts as a failure until it is open.
        self._counted: set[Path] = set()
        self._ending = False

    @contextlib.contextmanager
    def plan(
        self,
        spec: EngineSpec,
        build: Callable[[], bytes],
        progress: Callable[[str], None],
        *,
        card_busy: bool = False,
    ) -> Iterator[bytes]:
        """Enclose the opening and first run of an engine; yield its plan.

        They may crash the process, so they are counted as a failure in advance. Other
        threads and processes wait to build or open the same engine.

        Parameters
        ----------
        spec
            The engine.
        build
            Builds its plan, if there is no usable one.
        progress
            Called while another builds it; an exception raised there ends the wait.
        card_busy
            Whether the card processes frames at the same time. If not, a plan whose
            kernels were timed on a busy card is built again.

        Raises
        ------
        EngineError
            When `build` raises it, the engine has failed twice, or another process
            holds its lock for too long.
        OSError
            When the folder cannot be written.
        """
        with self._locked(spec, progress):
            if fault := self._failed_twice(spec.name):
                raise EngineError(
                    f"{self.folder / spec.name}: {fault}; it is not used for a day, or "
                    "until `deepblur-live engines clear`: try that after a change of "
                    "driver or TensorRT"
                )
            found = _read(self.folder / (spec.name + _PLAN))
            plan = found.plan
            if found.fault or (found.timed_busy and not card_busy):
                plan = build()
                self._write(_PLAN, spec, plan, timed_busy=card_busy)
            if self._ending:
                raise EngineError("the program is ending")
            counted = self.card_failed(spec)
            self._counted.add(counted)
            try:
                yield plan
            finally:
                counted.unlink(missing_ok=True)
                self._counted.discard(counted)

    def program_ends(self) -> None:
        """Do not count engines that are being opened as failed, and open no more."""
        self._ending = True
        for counted in list(self._counted):
            counted.unlink(missing_ok=True)

    def kernels(self, spec: EngineSpec) -> bytes:
        """Return what `keep_kernels` stored for an engine, or nothing."""
        found = _read(self.folder / (spec.name + _KERNELS))
        return b"" if found.fault else found.plan

    def keep_kernels(self, spec: EngineSpec, kernels: bytes) -> None:
        """Store the kernels that the library compiled for the card."""
        self._write(_KERNELS, spec, kernels)

    def card_failed(self, spec: EngineSpec) -> Path:
        """Count a failure of the card while an engine was in use; return its file."""
        file = self.folder / f"{spec.name}.{uuid.uuid4().hex}{_FAILURE}"
        with contextlib.suppress(OSError):
            file.touch()
        return file

    def contents(self) -> list[CachedEngine]:
        """Return the engines in the folder, sound or not, by name."""
        engines = [_read(path) for path in sorted(self.folder.glob("*" + _PLAN))]
        return [
            engine
            if engine.fault
            else replace(engine, fault=self._failed_twice(engine.path.stem))
            for engine in engines
        ]

    def clear(self) -> int:
        """Delete all engines and parts of interrupted builds; return their number."""
        count = 0
        for suffix in (_PLAN, _KERNELS, _FAILURE, ".part"):
            for path in self.folder.glob("*" + suffix):
                path.unlink(missing_ok=True)
                count += suffix == _PLAN
        return count

    @contextlib.contextmanager
    def _locked(
        self, spec: EngineSpec, progress: Callable[[str], None]
    ) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / f"{spec.name}.lock")
        for _ in range(int(_LOCK_TIMEOUT_S)):
            try:
                lock.acquire(timeout=1.0)
                break
            except Timeout:
                progress("another process is building it")
        else:
            raise EngineError(
                f"{lock.lock_file}: another process has held this file for "
                f"{_LOCK_TIMEOUT_S / 60:.0f} minutes: end that process"
            )
        try:
            yield
        finally:
            lock.release()

    def _failed_twice(self, name: str) -> str:
        now, recent = time.time(), 0
        for file in self.folder.glob(f"{name}.*{_FAILURE}"):
            with contextlib.suppress(FileNotFoundError):
                recent += now - file.stat().st_mtime < _FAILURES_COUNT_S
        if recent < _MAX_FAILURES:
            return ""
        return "this engine has crashed the program or failed the card twice in a day"

    def _write(
        self, suffix: str, spec: EngineSpec, content: bytes, timed_busy: bool = False
    ) -> None:
        """Write a file of an engine; without it the engine is built again."""
        header = _Header(spec, hashlib.sha256(content).hexdigest(), timed_busy)
        part = self.folder / f"{spec.name}{suffix}.part"
        try:
            part.write_bytes(_HEADER.dump_json(header) + b"\n" + content)
            part.replace(self.folder / (spec.name + suffix))
        except OSError as error:
            _log.warning("%s: an engine could not be stored: %s", self.folder, error)


def _read(path: Path) -> CachedEngine:
    try:
        first, _, content = path.read_bytes().partition(b"\n")
        header = _HEADER.validate_json(first)
    except OSError as error:
        return CachedEngine(path, fault=f"cannot be read: {error.strerror}")
    except ValidationError:
        return CachedEngine(path, fault="its header cannot be read")
    fault = ""
    if header.spec.name != path.stem:
        fault = "its name belongs to another engine"
    elif hashlib.sha256(content).hexdigest() != header.sha256:
        fault = "altered or truncated"
    return CachedEngine(path, header.spec, fault, content, header.timed_busy)
