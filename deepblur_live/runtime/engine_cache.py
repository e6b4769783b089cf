"""Built engines on disk: found again by all that made them, and by nothing less."""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import platformdirs
from filelock import FileLock, Timeout

from deepblur_live.runtime.engine_files import (
    EngineSpec,
    delete_plan,
    read_plan,
    read_sidecar,
    write_plan,
)
from deepblur_live.runtime.tensorrt import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["CachedEngine", "EngineCache", "default_folder"]

_log = logging.getLogger(__name__)
_LOCK_TIMEOUT_S = 1800.0
# A plan whose opening has ended so many programs is left until it is cleared; one that
# ran on a card that has failed so often within a day, too. A computer that was put to
# sleep fails its card once.
_MOST_CRASHES = _MOST_FAILURES = 2
_FAILURES_COUNT_S = 86400.0


def default_folder() -> Path:
    """Return the user's folder for engines; it can be deleted at any time."""
    return platformdirs.user_cache_path("deepblur-live", appauthor=False) / "engines"


@dataclass(frozen=True)
class CachedEngine:
    """An engine on disk, as `EngineCache.contents` finds it.

    Parameters
    ----------
    path
        The plan.
    spec
        What it was built from, or None where its sidecar cannot be read.
    megabytes
        Of the plan.
    fault
        Why it will not be used; empty for a sound one.
    """

    path: Path
    spec: EngineSpec | None
    megabytes: float
    fault: str = ""


class EngineCache:
    """A folder of plans, each with a JSON sidecar that says what it was built from.

    A plan is used only when its sidecar names the same `EngineSpec` and its bytes have
    the sidecar's sha256; anything else is deleted and built again. Files appear
    whole, by a rename, the sidecar last; several processes may share the folder.

    Parameters
    ----------
    folder
        Where; `default_folder` if None.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = default_folder() if folder is None else folder

    def find(self, spec: EngineSpec) -> bytes | None:
        """Return the plan of an engine, or None; what is wrong is deleted."""
        path = self._path(spec)
        plan, fault = read_plan(path, spec)
        if fault:
            self.evict(spec)
        return plan

    def get(
        self,
        spec: EngineSpec,
        build: Callable[[], bytes],
        stopped: Callable[[], bool],
        tell: Callable[[str], None] = lambda _: None,
        *,
        anew: bool = False,
    ) -> bytes:
        """Return the plan of an engine, built by `build` if there is none.

        Whoever else needs the same engine meanwhile waits, and gets this one; `tell`
        hears of that. With `anew` it is built in any case; what there was stays where
        it cannot be.

        Raises
        ------
        EngineError
            What `build` raises; when the folder cannot be written; when another
            process holds the lock for too long, or `stopped` says so meanwhile; or
            when the engine has ended programs before.
        """
        with self._locked(spec, stopped, tell):
            if left := self._why_left(spec):
                raise EngineError(
                    f"{self._path(spec)}: {left}; it is left until `deepblur-live "
                    "engines clear`: try that after a change of driver or version"
                )
            if self._crashes(spec):
                # Nobody else is opening it now: the mark is of one that has ended.
                delete_plan(self._path(spec))
            plan = None if anew else self.find(spec)
            if plan is None:
                plan = build()
                try:
                    write_plan(self._path(spec), spec, plan)
                except OSError as error:
                    why = error.strerror or error
                    _log.warning("%s: an engine is not kept: %s", self.folder, why)
                    tell(f"not kept for the next time, {self.folder}: {why}")
            return plan

    @contextlib.contextmanager
    def opening(self, spec: EngineSpec, stopped: Callable[[], bool]) -> Iterator[None]:
        """Hold what opens an engine and runs it for the first time.

        If that ends the process, `get` builds the engine anew, and at the second time
        leaves it.

        Raises
        ------
        EngineError
            As `get`.
        """
        mark = self._mark(spec)
        with self._locked(spec, stopped):
            with contextlib.suppress(OSError):
                mark.write_text(str(self._crashes(spec) + 1), "ascii")
            try:
                yield
            finally:
                with contextlib.suppress(OSError):
                    mark.unlink(missing_ok=True)

    def card_failed(self, spec: EngineSpec) -> None:
        """Count a failure of the card while an engine was in use."""
        count = self._failures(spec) + 1
        with contextlib.suppress(OSError):
            self._path(spec).with_suffix(".failed").write_text(str(count), "ascii")

    def _failures(self, spec: EngineSpec) -> int:
        """Return how often the card has failed with an engine lately."""
        file = self._path(spec).with_suffix(".failed")
        try:
            lately = time.time() - file.stat().st_mtime < _FAILURES_COUNT_S
            return int(file.read_text("ascii")) if lately else 0
        except (OSError, ValueError):
            return 0

    def _why_left(self, spec: EngineSpec) -> str:
        """Return why `get` will not give an engine, or nothing."""
        if self._crashes(spec) >= _MOST_CRASHES:
            return "opening this engine has ended the program twice"
        if self._failures(spec) >= _MOST_FAILURES:
            return "the card has failed twice while this engine was in use"
        return ""

    def _crashes(self, spec: EngineSpec) -> int:
        """Return how many programs have ended while they opened an engine."""
        try:
            return int(self._mark(spec).read_text("ascii") or 1)
        except FileNotFoundError:
            return 0
        except (OSError, ValueError):
            return 1

    @contextlib.contextmanager
    def _locked(
        self,
        spec: EngineSpec,
        stopped: Callable[[], bool],
        tell: Callable[[str], None] = lambda _: None,
    ) -> Iterator[None]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self._path(spec).with_suffix(".lock"))
            _take(lock, stopped, tell)
        except OSError as error:
            raise EngineError(
                f"{self.folder}: engines cannot be kept here "
                f"({error.strerror or error}): make it a folder that can be written"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def evict(self, spec: EngineSpec) -> None:
        """Delete an engine, if it is there."""
        delete_plan(self._path(spec))
        with contextlib.suppress(OSError):
            self._mark(spec).unlink(missing_ok=True)

    def contents(self) -> list[CachedEngine]:
        """Return what is kept, sound or not, by name."""
        found = []
        for path in sorted(self.folder.glob("*.plan")):
            spec = read_sidecar(path)[0]
            if spec is None:
                fault = "no readable sidecar"
            elif path != self._path(spec):
                fault = "its name is another engine's"
            else:
                fault = self._why_left(spec) or read_plan(path, spec)[1]
            with contextlib.suppress(OSError):  # deleted meanwhile
                size = path.stat().st_size / 1e6
                found.append(CachedEngine(path, spec, size, fault))
        return found

    def clear(self) -> int:
        """Delete all engines, and what was left of broken-off builds; return how many.

        Raises
        ------
        EngineError
            When a file cannot be deleted; the text names it.
        """
        count = 0
        for pattern in ("*.json", "*.plan", "*.part", "*.opening", "*.failed"):
            for path in self.folder.glob(pattern):
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    raise EngineError(f"{path}: {error.strerror}") from error
                count += pattern == "*.plan"
        return count

    def _path(self, spec: EngineSpec) -> Path:
        return self.folder / f"{spec.name}.plan"

    def _mark(self, spec: EngineSpec) -> Path:
        return self._path(spec).with_suffix(".opening")


def _take(
    lock: FileLock, stopped: Callable[[], bool], tell: Callable[[str], None]
) -> None:
    for _ in range(int(_LOCK_TIMEOUT_S)):
        try:
            lock.acquire(timeout=1.0)
        except Timeout:
            tell("another process builds it")
            if stopped():
                raise EngineError("stopped while another process built it") from None
        else:
            return
    raise EngineError(
        f"{lock.lock_file}: another process has been building this engine for "
        f"{_LOCK_TIMEOUT_S / 60:.0f} minutes, and holds this file: end that process"
    )
