"""Built engines on disk, each valid only for exactly what it was built from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import time
import uuid
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import platformdirs
from filelock import FileLock, Timeout

from deepblur_live.runtime.tensorrt import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["CachedEngine", "EngineCache", "EngineSpec", "Kept", "default_folder"]

_log = logging.getLogger(__name__)
# Increment when plans made by an earlier version of this program must not be used.
_SCHEMA = 1
_LOCK_TIMEOUT_S = 1800.0
# See docs/decisions/0030-engine-failures.md.
_MAX_FAILURES, _FAILURES_COUNT_S = 2, 86400.0


class Kept(StrEnum):
    """The files that are kept of an engine, by their suffix."""

    PLAN = ".plan"
    KERNELS = ".kernels"
    """Compiled for the card at the first run (TensorRT for RTX)."""
    BUSY = ".busy"
    """Present where the plan's kernels were timed while the card processed frames."""


def default_folder() -> Path:
    """Return the user's folder for engines; it can be deleted at any time."""
    return platformdirs.user_cache_path("deepblur-live", appauthor=False) / "engines"


@dataclass(frozen=True)
class EngineSpec:
    """Everything that an engine depends on: any difference makes another engine.

    Parameters
    ----------
    network, shape, precision
        ``"proximal"`` or ``"identification"``, the static shape of its input, and the
        data type of its convolutions.
    onnx_sha256
        Of the ONNX model, weights included.
    backend, version
        The TensorRT library.
    gpu, capability, driver
        The card, and its driver's version.
    options
        The builder's.
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
    def name(self) -> str:
        """A readable file name, different for different engines."""
        content = json.dumps(asdict(self), sort_keys=True)
        key = hashlib.sha256(content.encode()).hexdigest()[:16]
        sides = "x".join(str(n) for n in self.shape)
        parts = (self.network, sides, self.precision, self.backend, self.version, key)
        return "-".join(parts)


@dataclass(frozen=True)
class CachedEngine:
    """An engine on disk, as listed by `EngineCache.contents`.

    Parameters
    ----------
    path
        The plan.
    spec
        What it was built from, or None where its header cannot be read.
    megabytes, sha256
        Size and hash of the plan.
    fault
        Why it will not be used; empty for a sound one.
    timed_busy
        Whether its kernels were timed while the card processed frames; a build on an
        idle card may find faster ones.
    """

    path: Path
    spec: EngineSpec | None
    megabytes: float
    sha256: str
    fault: str
    timed_busy: bool = False


class EngineCache:
    """A folder of plans, each after a line of JSON that says what it was built from.

    A plan is used only when this header holds the same `EngineSpec` and the sha256 of
    its bytes; any other is deleted and built again. Files are written to a temporary
    name and renamed; several processes may share the folder.

    Parameters
    ----------
    folder
        Where; `default_folder` if None.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = default_folder() if folder is None else folder

    def find(self, spec: EngineSpec, what: Kept = Kept.PLAN) -> bytes | None:
        """Return the plan of an engine, or None; an unsound one is deleted."""
        path = self._path(spec, what)
        try:
            found, plan, fault = _read(path)
        except FileNotFoundError:
            return None
        except OSError:
            found, plan, fault = None, b"", "cannot be read"
        if found == spec and not fault:
            return plan
        with contextlib.suppress(OSError):  # held by a virus scanner, on Windows
            path.unlink(missing_ok=True)
        return None

    def get(
        self,
        spec: EngineSpec,
        build: Callable[[], bytes],
        progress: Callable[[str], None],
        *,
        rebuild: bool = False,
    ) -> tuple[bytes, bool]:
        """Return the plan of an engine, and whether it was built by this call.

        Another process that needs the same engine waits for this one to build it.

        Parameters
        ----------
        spec
            The engine.
        build
            Builds its plan.
        progress
            Called while another process holds the lock; an exception raised there ends
            the wait. Also called when the plan could not be written.
        rebuild
            Build it in any case.

        Raises
        ------
        EngineError
            When `build` raises it; when the folder cannot be written; when another
            process holds the lock for too long; or when the engine has failed twice.
        """
        with self._locked(spec, progress):
            if fault := self._failed_twice(spec):
                raise EngineError(
                    f"{self._path(spec)}: {fault}; it is not used for a day, or until "
                    "`deepblur-live engines clear`: try that after a change of driver "
                    "or version"
                )
            plan = None if rebuild else self.find(spec)
            if plan is not None:
                return plan, False
            plan = build()
            self.keep(spec, plan, Kept.PLAN, progress)
            return plan, True

    def keep(
        self,
        spec: EngineSpec,
        content: bytes,
        what: Kept,
        progress: Callable[[str], None],
    ) -> None:
        """Write a file of an engine; `progress` is called where that fails."""
        try:
            _write(self._path(spec, what), spec, content)
        except OSError as error:
            text = f"{self.folder}: an engine is not kept: {error.strerror or error}"
            _log.warning("%s", text)
            progress(text)

    def was_timed_busy(self, spec: EngineSpec) -> bool:
        """Whether an engine's kernels were timed while the card processed frames."""
        return self._path(spec, Kept.BUSY).exists()

    def set_timed_busy(self, spec: EngineSpec, busy: bool) -> None:
        """Keep how an engine was built."""
        file = self._path(spec, Kept.BUSY)
        with contextlib.suppress(OSError):
            if busy:
                file.touch()
            else:
                file.unlink(missing_ok=True)

    @contextlib.contextmanager
    def opening(
        self, spec: EngineSpec, progress: Callable[[str], None]
    ) -> Iterator[None]:
        """Enclose the opening and first run of an engine, which may crash the process.

        It is counted as a failure in advance; after the second one `get` refuses the
        engine.
        """
        with self._locked(spec, progress):
            before = self._failures(spec)
            self._write_failures(spec, [*before, time.time()])
            try:
                yield
            finally:
                self._write_failures(spec, before)

    def card_failed(self, spec: EngineSpec) -> None:
        """Count a failure of the card while an engine was in use."""
        self._write_failures(spec, [*self._failures(spec), time.time()])

    def contents(self) -> list[CachedEngine]:
        """Return the engines in the folder, sound or not, by name."""
        engines = []
        for path in sorted(self.folder.glob("*.plan")):
            try:
                spec, plan, fault = _read(path)
            except FileNotFoundError:  # deleted meanwhile
                continue
            except OSError as error:
                spec, plan, fault = None, b"", f"cannot be read: {error.strerror}"
            sha256 = hashlib.sha256(plan).hexdigest()
            if spec is not None and not fault:
                misnamed = path != self._path(spec)
                fault = "its name is another engine's" if misnamed else ""
                fault = fault or self._failed_twice(spec)
            busy = path.with_suffix(Kept.BUSY).exists()
            engines.append(
                CachedEngine(path, spec, len(plan) / 1e6, sha256, fault, busy)
            )
        return engines

    def clear(self) -> int:
        """Delete all engines and leftovers of interrupted builds; return how many.

        Raises
        ------
        EngineError
            When a file cannot be deleted; the text names it.
        """
        count = 0
        for pattern in (*(f"*{what}" for what in Kept), "*.part", "*.failures"):
            for path in self.folder.glob(pattern):
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    raise EngineError(f"{path}: {error.strerror}") from error
                count += pattern == f"*{Kept.PLAN}"
        return count

    def _path(self, spec: EngineSpec, what: Kept = Kept.PLAN) -> Path:
        return self.folder / f"{spec.name}{what}"

    def _failures(self, spec: EngineSpec) -> list[float]:
        """Return the times of an engine's failures within the last day."""
        file = self._path(spec).with_suffix(".failures")
        try:
            times = [float(word) for word in file.read_text("ascii").split()]
        except (OSError, ValueError):
            return []
        now = time.time()
        return [then for then in times if now - then < _FAILURES_COUNT_S]

    def _write_failures(self, spec: EngineSpec, times: list[float]) -> None:
        file = self._path(spec).with_suffix(".failures")
        with contextlib.suppress(OSError):
            if times:
                file.write_text("\n".join(map(str, times)), "ascii")
            else:
                file.unlink(missing_ok=True)

    def _failed_twice(self, spec: EngineSpec) -> str:
        if len(self._failures(spec)) < _MAX_FAILURES:
            return ""
        return "this engine has crashed the program or failed the card twice in a day"

    @contextlib.contextmanager
    def _locked(
        self, spec: EngineSpec, progress: Callable[[str], None]
    ) -> Iterator[None]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self._path(spec).with_suffix(".lock"))
            _acquire(lock, progress)
        except OSError as error:
            raise EngineError(
                f"{self.folder}: engines cannot be kept here "
                f"({error.strerror or error}): make it a writable folder"
            ) from error
        try:
            yield
        finally:
            lock.release()


def _acquire(lock: FileLock, progress: Callable[[str], None]) -> None:
    for _ in range(int(_LOCK_TIMEOUT_S)):
        try:
            lock.acquire(timeout=1.0)
        except Timeout:
            progress("another process is building it")
        else:
            return
    raise EngineError(
        f"{lock.lock_file}: another process has been building this engine for "
        f"{_LOCK_TIMEOUT_S / 60:.0f} minutes, and holds this file: end that process"
    )


def _read(path: Path) -> tuple[EngineSpec | None, bytes, str]:
    """Return what a plan was built from, its bytes, and what is wrong with it."""
    header, _, plan = path.read_bytes().partition(b"\n")
    try:
        content = json.loads(header)
        sha256 = content.pop("sha256")
        for key, value in content.items():
            content[key] = tuple(value) if isinstance(value, list) else value
        spec = EngineSpec(**content)
        str(spec.name)  # raises where a field is of a wrong type
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None, plan, "its header cannot be read"
    sound = hashlib.sha256(plan).hexdigest() == sha256
    return spec, plan, "" if sound else "altered or truncated"


def _write(path: Path, spec: EngineSpec, plan: bytes) -> None:
    about = asdict(spec) | {"sha256": hashlib.sha256(plan).hexdigest()}
    part = path.with_suffix(f".{uuid.uuid4().hex}.part")
    try:
        with part.open("wb") as file:
            file.write(json.dumps(about).encode() + b"\n" + plan)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
