"""Engines on disk: nothing wrong is ever used again."""

import dataclasses
import errno
import json
import os
import subprocess
import sys
import threading

import pytest

from deepblur_live.runtime import engine_files
from deepblur_live.runtime.engine_cache import EngineCache, default_folder
from deepblur_live.runtime.engine_files import EngineSpec
from deepblur_live.runtime.tensorrt import EngineError

SPEC = EngineSpec(
    network="proximal",
    shape=(1, 1, 560, 560),
    precision="float16",
    onnx_sha256="ab" * 32,
    backend="tensorrt",
    version="11.4.0",
    gpu="NVIDIA H100",
    capability=(9, 0),
    driver="570.86",
    options="(3, 1024)",
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
    "options": "(5, 1024)",
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


def get(cache, build, spec=SPEC):
    return cache.get(spec, build, lambda: False)


def files(cache):
    plan = next(cache.folder.glob("*.plan"))
    return plan, plan.with_suffix(".json")


def test_an_engine_is_built_once(cache, build):
    plan = get(cache, build)
    assert get(cache, build) == plan
    # By another process, which shares the folder alone.
    assert get(EngineCache(cache.folder), build) == plan
    assert build.count == 1
    about = json.loads(files(cache)[1].read_text())
    assert about["gpu"] == "NVIDIA H100"
    assert not list(cache.folder.glob("*.part"))


def test_every_field_of_the_key_is_tried_below():
    assert {field.name for field in dataclasses.fields(EngineSpec)} == OTHER.keys()


@pytest.mark.parametrize("field", OTHER)
def test_any_change_builds_anew_and_leaves_the_other(cache, build, field):
    first = get(cache, build)
    changed = dataclasses.replace(SPEC, **{field: OTHER[field]})
    assert changed.key != SPEC.key
    second = get(cache, build, changed)
    assert second != first
    assert build.count == 2
    assert get(cache, build) == first
    assert get(cache, build, changed) == second
    assert build.count == 2


def truncated(plan, sidecar):
    plan.write_bytes(plan.read_bytes()[:-7])


def bit_flipped(plan, sidecar):
    content = bytearray(plan.read_bytes())
    content[len(content) // 2] ^= 4
    plan.write_bytes(content)


def empty(plan, sidecar):
    plan.write_bytes(b"")


def foreign(plan, sidecar):
    """Another engine's files under this one's name, sound in themselves."""
    cache = EngineCache(plan.parent / "elsewhere")
    other = dataclasses.replace(SPEC, driver="560.1")
    cache.get(other, lambda: b"plan of another driver", lambda: False)
    for source, target in zip(files(cache), (plan, sidecar), strict=True):
        target.write_bytes(source.read_bytes())


def without_sidecar(plan, sidecar):
    sidecar.unlink()


def sidecar_cut(plan, sidecar):
    sidecar.write_bytes(sidecar.read_bytes()[:50])


def sidecar_of_something_else(plan, sidecar):
    sidecar.write_text("[1, 2]")


def sidecar_of_an_older_program(plan, sidecar):
    about = json.loads(sidecar.read_text())
    del about["driver"]
    sidecar.write_text(json.dumps(about))


def sidecar_of_other_kinds(plan, sidecar):
    about = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps(about | {"shape": 5, "version": None}))


def sidecar_without_end(plan, sidecar):
    sidecar.write_text("[" * 200_000)


@pytest.mark.parametrize(
    "harm",
    [
        truncated,
        bit_flipped,
        empty,
        foreign,
        without_sidecar,
        sidecar_cut,
        sidecar_of_something_else,
        sidecar_of_an_older_program,
        sidecar_of_other_kinds,
        sidecar_without_end,
    ],
)
def test_what_is_wrong_is_told_deleted_and_built_again(cache, build, harm):
    first = get(cache, build)
    harm(*files(cache))
    (shown,) = cache.contents()
    assert shown.fault
    assert cache.find(SPEC) is None
    assert not list(cache.folder.glob("*.plan"))
    again = get(cache, build)
    assert again != first
    assert build.count == 2
    assert get(cache, build) == again


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


def test_who_waits_for_another_can_be_stopped(cache):
    begun, go = threading.Event(), threading.Event()

    def build():
        begun.set()
        assert go.wait(10)
        return b"plan"

    first = threading.Thread(target=lambda: get(cache, build))
    first.start()
    assert begun.wait(10)
    try:
        with pytest.raises(EngineError, match="stopped while another process"):
            EngineCache(cache.folder).get(SPEC, build, lambda: True)
        told = []
        with pytest.raises(EngineError):
            EngineCache(cache.folder).get(SPEC, build, lambda: bool(told), told.append)
        assert told == ["another process builds it"]
    finally:
        go.set()
        first.join(10)


def test_a_plan_whose_opening_ended_a_process_is_built_again(cache, build):
    first = get(cache, build)
    code = (
        "import os, pathlib, sys\n"
        "from deepblur_live.runtime.engine_cache import EngineCache\n"
        "from deepblur_live.runtime.engine_files import EngineSpec\n"
        "spec = EngineSpec(*eval(sys.argv[2]))\n"
        "cache = EngineCache(pathlib.Path(sys.argv[1]))\n"
        "with cache.opening(spec, lambda: False):\n"
        "    os._exit(9)\n"
    )
    spec = repr(dataclasses.astuple(SPEC))
    command = [sys.executable, "-c", code, str(cache.folder), spec]
    assert subprocess.run(command, timeout=120, check=False).returncode == 9
    assert get(cache, build) != first
    assert build.count == 2
    # At the second time in a row it is left, until somebody clears the folder.
    for _ in range(2):
        assert subprocess.run(command, timeout=120, check=False).returncode == 9
    with pytest.raises(EngineError, match=r"ended the program twice.*engines clear"):
        get(cache, build)
    assert "ended the program twice" in cache.contents()[0].fault
    assert build.count == 2
    cache.clear()
    get(cache, build)
    assert build.count == 3
    # A refusal is no crash, and whoever opens it meanwhile keeps it.
    with pytest.raises(EngineError), cache.opening(SPEC, lambda: False):
        raise EngineError("does not open")
    get(cache, build)
    assert build.count == 3


def test_an_engine_is_left_after_two_failures_of_the_card_in_a_day(cache, build):
    get(cache, build)
    cache.card_failed(SPEC)
    # A computer may have been put to sleep.
    get(cache, build)
    (failed,) = cache.folder.glob("*.failed")
    days_ago = failed.stat().st_mtime - 2 * 86400
    os.utime(failed, (days_ago, days_ago))
    cache.card_failed(SPEC)
    get(cache, build)
    assert build.count == 1
    cache.card_failed(SPEC)
    with pytest.raises(EngineError, match=r"card has failed twice.*engines clear"):
        get(cache, build)
    assert "failed twice" in cache.contents()[0].fault
    # Another driver's is another engine.
    get(cache, build, dataclasses.replace(SPEC, driver="999.1"))
    cache.clear()
    get(cache, build)
    assert build.count == 3


def test_a_plan_that_cannot_be_kept_is_used_all_the_same(cache, build, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(engine_files, "_write", full)
    told = []
    plan = cache.get(SPEC, build, lambda: False, told.append)
    assert plan.startswith(b"plan 1")
    assert cache.contents() == []
    assert "No space left on device" in told[0]


def test_a_build_that_fails_keeps_nothing(cache, build):
    def fail():
        raise EngineError("no kernel")

    with pytest.raises(EngineError, match="no kernel"):
        cache.get(SPEC, fail, lambda: False)
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
    assert shown[0].megabytes == pytest.approx(2055e-6, rel=0.01)
    assert cache.clear() == 2
    assert cache.contents() == []
    assert not [p for p in cache.folder.iterdir() if p.suffix != ".lock"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path, build):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EngineError, match=r"file.engines: engines cannot be kept here"):
        get(EngineCache(tmp_path / "file" / "engines"), build)


def test_the_folder_is_the_users_cache():
    folder = default_folder()
    assert folder.parts[-2:] == ("deepblur-live", "engines")
    if sys.platform == "linux" and "XDG_CACHE_HOME" not in os.environ:
        assert ".cache" in folder.parts
