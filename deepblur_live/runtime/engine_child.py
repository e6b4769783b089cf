"""Building and opening engines in a process of its own, which may crash or hang.

The parent calls `run_job`; ``python -m deepblur_live.runtime.engine_child`` is the
other side. It gets one job as a line of JSON on its standard input, answers in lines of
JSON, and ends when its input does: with its parent.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import torch

import deepblur_live
from deepblur_live.runtime.engine import Engine
from deepblur_live.runtime.tensorrt import (
    BuilderOptions,
    Card,
    EngineError,
    Precision,
    build_plan,
    find_backend,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Job", "run_job"]

_TICK_S = 0.1
_PROGRESS_EVERY_S = 0.5
_END_S = 10.0
_QUOTED = 300


@dataclass(frozen=True)
class Job:
    """What the child is to do.

    Parameters
    ----------
    backend
        Name of one of `BACKENDS`.
    plan
        File of the plan.
    card
        Where to open it; None to build without opening.
    onnx
        File of the model to build it from; None to open what is there.
    precision, options
        For the builder.
    """

    backend: str
    plan: Path
    card: Card | None
    onnx: Path | None = None
    precision: Precision = "float16"
    options: BuilderOptions = field(default_factory=BuilderOptions)

    def to_json(self) -> str:
        """Return the job in one line."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Return the job that `to_json` wrote."""
        content: dict[str, Any] = json.loads(text)
        card = content["card"]
        if card is not None:
            device, capability = torch.device(card["device"]), card["capability"]
            card |= {"device": device, "capability": tuple(capability)}
        return cls(
            content["backend"],
            Path(content["plan"]),
            None if card is None else Card(**card),
            None if content["onnx"] is None else Path(content["onnx"]),
            content["precision"],
            BuilderOptions(**content["options"]),
        )


def run_job(
    job: Job,
    timeout: float,
    progress: Callable[[str], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Do a job in a child process, and wait for it.

    Parameters
    ----------
    job
        What to do.
    timeout
        Seconds after which the child is ended.
    progress
        Told now and then what the builder is at.
    stopped
        Asked often; the child is ended when it says so.

    Raises
    ------
    EngineError
        Whatever went wrong: the child's own words, its crash, or the time.
    """
    # Found there as here, installed or not.
    root = str(Path(deepblur_live.__file__).parents[1])
    paths = filter(None, [root, *sys.path])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            encoding="utf-8",
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        listener = _Listener(child.stdout)
        try:
            with contextlib.suppress(OSError):  # it ended already: said below
                assert child.stdin is not None
                child.stdin.write(job.to_json() + "\n")
                child.stdin.flush()
            _wait(child, listener, timeout, progress, stopped)
        finally:
            child.kill()
            child.wait(_END_S)
            listener.join()
            with contextlib.suppress(OSError):
                child.__exit__(None, None, None)
        if listener.error is not None:
            raise EngineError(listener.error)
        if not listener.done:
            size = errors.seek(0, os.SEEK_END)
            errors.seek(max(0, size - _QUOTED))
            said = errors.read().decode(errors="replace").strip()
            doing = "building" if job.onnx is not None else "opening"
            raise EngineError(
                f"{job.backend}: {doing} the engine ended its process "
                f"(exit code {child.returncode}); a newer driver or another version of "
                f"{job.backend} may do better; {said}".rstrip("; ")
            )


def _wait(
    child: subprocess.Popen[str],
    listener: _Listener,
    timeout: float,
    progress: Callable[[str], None],
    stopped: Callable[[], bool],
) -> None:
    ends = time.monotonic() + timeout
    told = ""
    while child.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_TICK_S)
        if listener.progress != told:
            told = listener.progress
            progress(told)
        if stopped():
            raise EngineError("stopped before the engine was built")
        if time.monotonic() > ends:
            raise EngineError(
                f"the engine was not ready after {timeout:.0f} s"
                + (f" ({told})" if told else "")
                + "; build it while nothing else runs: `deepblur-live engines build`"
            )
    listener.join()


class _Listener:
    """Reads what the child says, on a thread that ends with the child's output."""

    def __init__(self, stream: IO[str] | None) -> None:
        assert stream is not None
        self._stream = stream
        self.progress = ""
        self.error: str | None = None
        self.done = False
        self._thread = threading.Thread(
            target=self._listen, name="engine build", daemon=True
        )
        self._thread.start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in self._stream:
                message = json.loads(line)
                self.progress = message.get("progress", self.progress)
                self.error = message.get("error", self.error)
                self.done |= "done" in message

    def join(self) -> None:
        self._thread.join(_END_S)


# The child's side.


def _main() -> None:
    # Whatever a library prints must not end up among the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lock = threading.Lock()

    def answer(**message: Any) -> None:
        with lock:
            answers.write(json.dumps(message) + "\n")
            answers.flush()

    job = Job.from_json(_read_line())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _do(job, lambda text: answer(progress=text))
        answer(done=True)
    except Exception as error:
        text = str(error) if isinstance(error, EngineError) else repr(error)
        answer(error=text)
    # The end of an interpreter that holds a card's context may crash or hang.
    os._exit(0)


def _read_line() -> str:
    # Not sys.stdin: a thread waiting in it would keep the interpreter from ending.
    line = b""
    while not line.endswith(b"\n"):
        more = os.read(0, 1 << 16)
        if not more:
            os._exit(3)
        line += more
    return line.decode("utf-8")


def _end_with_parent() -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 1):
            pass
    os._exit(3)


def _do(job: Job, answer: Callable[[str], None]) -> None:
    backend = find_backend(job.backend)
    last = 0.0

    def progress(text: str) -> bool:
        nonlocal last
        if time.monotonic() - last > _PROGRESS_EVERY_S:
            last = time.monotonic()
            answer(text)
        return True

    answer(f"{backend.name} {backend.version} starts")
    if job.onnx is not None:
        model = job.onnx.read_bytes()
        plan = build_plan(
            backend, model, job.precision, job.options, job.card, progress
        )
        job.plan.write_bytes(plan)
    if job.card is None:
        return
    engine = Engine(backend, job.plan.read_bytes(), job.card)
    tensors = {}
    for name, (shape, dtype) in engine.tensors.items():
        tensors[name] = torch.rand(shape, device=job.card.device).to(dtype)
        engine.bind(name, tensors[name])
    engine.enqueue()
    for name, tensor in tensors.items():
        # Copied to the processor it waits for the card, which tells its errors here.
        if not bool(torch.isfinite(tensor.cpu()).all()):
            raise EngineError(
                f"{backend.name}: {name!r} came out not finite in {job.precision}; "
                "the next precision is tried, or torch serves"
            )


if __name__ == "__main__":
    _main()
