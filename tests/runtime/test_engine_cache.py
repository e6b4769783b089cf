"""Engines on disk: an unsound one is never used."""

import dataclasses
import errno
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from deepblur_live.runtime.engine_cache import EngineCache, EngineSpec, default_folder
from deepblur_live.runtime.tensorrt import EngineError

SPEC = EngineSpec(
    network="proximal",
    shape=(1, 1, 560, 560),
    precision="float16",
    onnx_sha256="ab" * 32,
    backend="tensorrt",
    version="11.4.0",
    options="workspace of 1024 MiB",
    gpu="NVIDIA H100",
    capability=(9, 0),
    driver="570.86",
)
OTHER = {
    "network": "identification",
    "shape": (1, 1, 560, 576),
    "precision": "bfloat16",
    "onnx_sha256": "cd" * 32,
    "backend": "tensorrt-rtx",
    "version": "11.4.1",
    "gpu": "NVIDIA H200",
    "capability": (8, 9),
    "driver": "575.10",
    "options": "workspace of 512 MiB",
    "schema": 2,
}


class Builder:
    """Builds plans that differ from each other, and counts them."""

    def __init__(self):
        self.count = 0

    def __call__(self):
        self.count += 1
        return b"plan %d " % self.count + bytes(range(256)) * 8


@pytest.fixture
def cache(tmp_path):
    return EngineCache(tmp_path / "engines")


@pytest.fixture
def build():
    return Builder()


def quiet(text):
    pass


def get(cache, build, spec=SPEC, progress=quiet, **options):
    with cache.plan(spec, build, progress, **options) as plan:
        return plan


def age(file, seconds):
    """Make a file older."""
    then = time.time() - seconds
    os.utime(file, (then, then))


def file(cache):
    return next(cache.folder.glob("*.plan"))


def test_an_engine_is_built_once(cache, build):
    plan = get(cache, build)
    assert get(cache, build) == plan
    # By another process, which shares the folder alone.
    assert get(EngineCache(cache.folder), build) == plan
    assert build.count == 1
    header = json.loads(file(cache).read_bytes().partition(b"\n")[0])
    assert header["spec"]["gpu"] == "NVIDIA H100"
    assert not list(cache.folder.glob("*.part"))


def test_every_field_of_the_key_is_tried_below():
    assert {field.name for field in dataclasses.fields(EngineSpec)} == OTHER.keys()


@pytest.mark.parametrize("field", OTHER)
def test_any_change_builds_another_and_keeps_the_first(cache, build, field):
    first = get(cache, build)
    changed = dataclasses.replace(SPEC, **{field: OTHER[field]})
    assert changed.name != SPEC.name
    second = get(cache, build, changed)
    assert second != first
    assert build.count == 2
    assert get(cache, build) == first
    assert get(cache, build, changed) == second
    assert build.count == 2


def truncated(path):
    path.write_bytes(path.read_bytes()[:-7])


def bit_flipped(path):
    content = bytearray(path.read_bytes())
    content[-1000] ^= 4
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


def plan_missing(path):
    path.write_bytes(path.read_bytes().partition(b"\n")[0] + b"\n")


def foreign(path):
    """Another engine's file under this one's name, sound in itself."""
    cache = EngineCache(path.parent / "elsewhere")
    other = dataclasses.replace(SPEC, driver="560.1")
    get(cache, lambda: b"plan of another driver", other)
    path.write_bytes(file(cache).read_bytes())


def with_header(path, change):
    header, _, plan = path.read_bytes().partition(b"\n")
    path.write_bytes(change(header) + b"\n" + plan)


def header_missing(path):
    path.write_bytes(path.read_bytes().partition(b"\n")[2])


def header_cut(path):
    with_header(path, lambda header: header[:50])


def header_of_something_else(path):
    with_header(path, lambda _: b"[1, 2]")


def header_of_an_older_program(path):
    def older(header):
        about = json.loads(header)
        del about["spec"]["driver"]
        return json.dumps(about).encode()

    with_header(path, older)


def header_of_other_types(path):
    def spoilt(header):
        about = json.loads(header)
        about["spec"] |= {"shape": 5, "version": None}
        return json.dumps(about).encode()

    with_header(path, spoilt)


def header_without_end(path):
    with_header(path, lambda _: b"[" * 200_000)


@pytest.mark.parametrize(
    "harm",
    [
        truncated,
        bit_flipped,
        empty,
        plan_missing,
        foreign,
        header_missing,
        header_cut,
        header_of_something_else,
        header_of_an_older_program,
        header_of_other_types,
        header_without_end,
    ],
)
def test_an_unsound_engine_is_listed_and_built_again(cache, build, harm):
    first = get(cache, build)
    harm(file(cache))
    (shown,) = cache.contents()
    assert shown.fault
    again = get(cache, build)
    assert cache.contents()[0].fault == ""
    assert again != first
    assert build.count == 2
    assert get(cache, build) == again


def test_an_engine_that_cannot_be_read_is_built_again(cache, build):
    get(cache, build)
    path = file(cache)
    path.unlink()
    path.mkdir()  # as unreadable to root as to anybody
    (shown,) = cache.contents()
    assert "cannot be read: " in shown.fault
    get(cache, build)
    assert build.count == 2


def test_an_engine_built_while_frames_run_is_built_again_on_an_idle_card(cache, build):
    """The builder times kernels: while frames run it may choose slow ones."""
    for _ in range(2):
        get(cache, build, card_busy=True)
        assert cache.contents()[0].timed_busy
    assert build.count == 1
    for busy in (False, False, True):
        get(cache, build, card_busy=busy)
        assert build.count == 2
        assert not cache.contents()[0].timed_busy


def test_compiled_kernels_are_kept_with_an_engine(cache):
    assert cache.kernels(SPEC) == b""
    cache.folder.mkdir()
    cache.keep_kernels(SPEC, b"kernels")
    assert cache.kernels(SPEC) == b"kernels"
    assert cache.kernels(dataclasses.replace(SPEC, driver="999.1")) == b""
    for kept in cache.folder.glob("*.kernels"):
        truncated(kept)
    assert cache.kernels(SPEC) == b""


def test_two_that_need_the_same_engine_build_it_once(cache):
    begun, go = threading.Event(), threading.Event()
    plans = []

    def build():
        begun.set()
        assert go.wait(10)
        return b"the one plan"

    threads = [
        threading.Thread(
            target=lambda: plans.append(get(EngineCache(cache.folder), build))
        )
        for _ in range(2)
    ]
    threads[0].start()
    assert begun.wait(10)
    # The second finds the lock held, and may not build: its build would begin now.
    begun.clear()
    threads[1].start()
    go.set()
    for thread in threads:
        thread.join(20)
    assert plans == [b"the one plan"] * 2
    assert not begun.is_set()


def test_waiting_for_another_process_can_be_stopped(cache):
    begun, go = threading.Event(), threading.Event()

    def build():
        begun.set()
        assert go.wait(10)
        return b"plan"

    def stop(text):
        raise EngineError(f"stopped while {text}")

    first = threading.Thread(target=lambda: get(cache, build))
    first.start()
    assert begun.wait(10)
    try:
        with pytest.raises(EngineError, match="stopped while another process is"):
            get(EngineCache(cache.folder), build, progress=stop)
    finally:
        go.set()
        first.join(10)


def test_an_engine_whose_opening_crashed_twice_is_not_used(cache, build):
    get(cache, build)
    code = (
        "import os, pathlib, sys\n"
        "from deepblur_live.runtime.engine_cache import EngineCache, EngineSpec\n"
        "spec = EngineSpec(*eval(sys.argv[2]))\n"
        "with EngineCache(pathlib.Path(sys.argv[1])).plan(spec, None, print):\n"
        "    os._exit(9)\n"
    )
    spec = repr(dataclasses.astuple(SPEC))
    command = [sys.executable, "-c", code, str(cache.folder), spec]
    assert subprocess.run(command, timeout=120, check=False).returncode == 9
    get(cache, build)  # the program may have been ended by its user
    # To be refused does not count.
    with pytest.raises(EngineError), cache.plan(SPEC, build, quiet):
        raise EngineError("does not open")
    get(cache, build)
    assert subprocess.run(command, timeout=120, check=False).returncode == 9
    with pytest.raises(EngineError, match=r"crashed the program.*engines clear"):
        get(cache, build)
    assert "crashed the program" in cache.contents()[0].fault
    cache.clear()
    get(cache, build)
    assert build.count == 2


def test_an_engine_that_the_end_of_the_program_finds_opening_has_not_failed(
    cache, build
):
    """The program is then ended before it has opened."""
    get(cache, build)
    with cache.plan(SPEC, build, quiet):
        (counted,) = cache.folder.glob("*.failure")
        cache.program_ends()
        assert not counted.exists()
    with pytest.raises(EngineError, match="ending"):
        get(cache, build)


def test_an_engine_is_not_used_after_two_failures_of_the_card_in_a_day(cache, build):
    get(cache, build)
    first = cache.card_failed(SPEC)
    # The computer may have been put to sleep.
    get(cache, build)
    age(first, 86401)
    second = cache.card_failed(SPEC)
    get(cache, build)
    cache.card_failed(SPEC)
    with pytest.raises(EngineError, match=r"failed the card twice.*engines clear"):
        get(cache, build)
    assert "failed the card twice" in cache.contents()[0].fault
    # Another driver's is another engine.
    get(cache, build, dataclasses.replace(SPEC, driver="999.1"))
    age(second, 86401)
    get(cache, build)
    assert build.count == 2


def test_a_plan_that_cannot_be_stored_is_still_used(cache, build, monkeypatch, caplog):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert get(cache, build).startswith(b"plan 1")
    assert cache.contents() == []
    assert "No space left on device" in caplog.text


def test_a_build_that_fails_keeps_nothing(cache, build):
    def fail():
        raise EngineError("no kernel")

    with pytest.raises(EngineError, match="no kernel"):
        get(cache, fail)
    assert cache.contents() == []
    assert get(cache, build)


def test_the_contents_are_listed_and_cleared(cache, build):
    assert cache.contents() == []
    assert cache.clear() == 0
    get(cache, build)
    get(cache, build, dataclasses.replace(SPEC, shape=(1, 1, 96, 96)))
    shown = cache.contents()
    assert [engine.spec.shape[-1] for engine in shown] == [560, 96]
    assert all(engine.fault == "" for engine in shown)
    assert shown[0].plan.startswith(b"plan 1")
    assert cache.clear() == 2
    assert cache.contents() == []
    assert not [p for p in cache.folder.iterdir() if p.suffix != ".lock"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path, build):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"file.engines"):
        get(EngineCache(tmp_path / "file" / "engines"), build)


def test_the_folder_is_the_users_cache():
    folder = default_folder()
    assert folder.parts[-2:] == ("deepblur-live", "engines")
    if sys.platform == "linux" and "XDG_CACHE_HOME" not in os.environ:
        assert ".cache" in folder.parts
