"""The checks of the doctor, one for each subject."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from itertools import groupby
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import TYPE_CHECKING

from deepblur_live.cli.doctor import Finding, Level
from deepblur_live.cli.screen import (
    NOT_OPENED,
    binding_fault,
    find_binding,
    why_no_window,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from deepblur_live.cli.doctor import Probe
    from deepblur_live.profile import Profile

__all__ = ["PROBES"]

_TEST_BYTES = 16 << 20
# A point of the charts should last this many averaging times: see Drift.batch_s.
_BATCH_AVERAGES = 6


def system(profile: Profile) -> Iterator[Finding]:
    """Describe Python and the machine."""
    del profile
    version = _version("deepblur-live")
    if version is None:
        text = f"runs from {Path(__file__).parents[2]}, not installed"
        yield Finding("deepblur-live", text, Level.NOTE, "pip install -e .")
    else:
        yield Finding("deepblur-live", version)
    yield Finding("Python", f"{platform.python_version()} in {sys.prefix}")
    cores = os.cpu_count() or 1
    yield Finding("system", f"{platform.platform()}, {cores} cores")


def devices(profile: Profile) -> Iterator[Finding]:
    """Describe torch and the devices it finds."""
    import torch

    from deepblur_live.runtime.device import usable_cores, why_no_card

    threads = profile.model.threads or max(1, usable_cores() - 1)
    yield Finding("torch", f"{torch.__version__}, threads on the CPU: {threads}")
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        capability = f"compute capability {card.major}.{card.minor}"
        memory = f"{card.total_memory / 2**30:.0f} GiB"
        yield Finding("device", f"{card.name}, {capability}, {memory}")
    if not torch.cuda.is_available():
        text = f"none: {why_no_card()}; the CPU is used"
        remedy = "if there is one: "
        if torch.version.cuda is None:
            # For Windows, PyPI has torch without CUDA only.
            remedy += "install torch for CUDA: https://pytorch.org/get-started"
        else:
            remedy += "check that `nvidia-smi` shows it; if not, install its driver"
        yield Finding("NVIDIA card", text, Level.NOTE, remedy)


def executor(profile: Profile) -> Iterator[Finding]:
    """List the ways to run the networks, in order, and why some are not used."""
    from deepblur_live.runtime.engine_cache import EngineCache
    from deepblur_live.runtime.order import executor_order

    taken = False
    order = executor_order(profile.model.device)
    # Without a card most are unavailable for one reason, which is printed once.
    for why, group in groupby(order, lambda one: None if one.usable else one.why):
        if why is not None:
            names = "; ".join(attempt.name for attempt in group)
            yield Finding("executor", f"not used, as {why}: {names}", Level.NOTE)
            continue
        for attempt in group:
            # It may still be rejected when it is built or compared with torch.
            chosen = "tried first" if attempt.must_be_prepared else "used"
            verdict = "next" if taken else chosen
            taken = True
            yield Finding("executor", f"{attempt.name}, {verdict}: {attempt.why}")
    if kept := EngineCache().contents():
        wrong = sum(bool(engine.fault) for engine in kept)
        busy = sum(engine.timed_busy for engine in kept)
        text = f"{len(kept)} in the cache" + (f", {wrong} unusable" if wrong else "")
        text += f", {busy} built while frames were processed" if busy else ""
        yield Finding("engines", f"{text}: `deepblur-live engines list`")


def optics(profile: Profile) -> Iterator[Finding]:
    """Describe the family of blurs of these optics."""
    from deepblur_live.calibration.rig import rig_family

    try:
        family = rig_family(profile)
    except ValueError as error:
        yield Finding("optics", str(error), Level.FAULT, "correct the profile")
        return
    names = ", ".join(family.names)
    yield Finding(
        "optics",
        f"{profile.model.family}: {family.n_coefficients} coefficients in "
        f"{family.unit} ({names})",
    )
    if text := family.describe():
        yield Finding("PSF", text)


def models(profile: Profile) -> Iterator[Finding]:
    """Check the models: complete, unaltered, and suited to this rig's optics."""
    from deepblur_live.runtime.device import choose_device
    from deepblur_live.runtime.pack import find_packs, load_pack, preferred_weights

    wanted = profile.model.name
    for name in sorted({*find_packs(), wanted}):
        level = Level.FAULT if name == wanted else Level.NOTE
        try:
            if name == wanted:
                device = choose_device(profile.model.device).device
                weights = preferred_weights(profile.model.deblurring, device)
                pack = load_pack(name, weights)
            else:
                pack = load_pack(name)
        except ValueError as error:
            yield Finding("model", str(error), level, "reinstall deepblur-live")
            continue
        low, high = pack.manifest.sampling_min, pack.manifest.sampling_max
        text = f"{name}, unaltered, for λ/(NA·px) from {low:g} to {high:g} pixels"
        if name != wanted:
            yield Finding("model", text)
            continue
        try:
            pack.check(profile.optics)
        except ValueError as error:
            remedy = "change binning or magnification, or correct the profile"
            yield Finding("model", str(error), level, remedy)
        else:
            yield Finding(
                "model", f"{text}, which includes this rig; {pack.weights} weights"
            )


def microscope(profile: Profile) -> Iterator[Finding]:
    """Describe the core and its device adapters."""
    del profile
    import pymmcore
    from pymmcore_plus import CMMCorePlus, find_micromanager

    plus = importlib.metadata.version("pymmcore-plus")
    interface = pymmcore.__version__.split(".")[3]
    text = f"pymmcore-plus {plus}, pymmcore {pymmcore.__version__}"
    yield Finding("core", f"{text}: device interface {interface}")
    folders: Sequence[str] = find_micromanager(return_first=False)
    adapters = CMMCorePlus().getDeviceAdapterNames()
    if adapters:
        shown = ", ".join(sorted(adapters)[:6]) + (" ..." if len(adapters) > 6 else "")
        where = folders[0] if folders else "the search path"
        yield Finding("adapters", f"{len(adapters)} in {where}: {shown}")
        return
    yield Finding(
        "adapters",
        f"none for device interface {interface}; the simulated camera needs none",
        Level.NOTE,
        "for a real microscope: `mmcore install`, or a Micro-Manager with the same "
        "device interface",
    )


def window(profile: Profile) -> Iterator[Finding]:
    """Check the Qt binding and the screen."""
    del profile
    found = find_binding()
    if found is None:
        remedy = "pip install 'deepblur-live[pyqt6]'; on a bare Debian or Ubuntu also "
        remedy += "apt-get install libegl1 libgl1 libxkbcommon0 libdbus-1-3"
        yield Finding("Qt", f"{binding_fault()}: headless", Level.NOTE, remedy)
        return
    name, version = found
    crashes = name == "PySide6" and version.startswith("6.12")
    if crashes and sys.version_info[:2] == (3, 11):
        text = f"{name} {version} crashes on Python 3.11"
        yield Finding("Qt", text, Level.NOTE, "pip install 'PySide6<6.12', or PyQt6")
    else:
        yield Finding("Qt", f"{name} {version}")
    reason = why_no_window()
    if reason:
        remedy = ""
        if reason.startswith(NOT_OPENED):
            remedy = "on a bare Debian or Ubuntu: apt-get install libxcb-cursor0 "
            remedy += "libxcb-icccm4 libxcb-keysyms1 libxkbcommon-x11-0"
        yield Finding("screen", f"headless: {reason}", Level.NOTE, remedy)
    else:
        yield Finding("screen", "a window can be opened")


def shared_memory(profile: Profile) -> Iterator[Finding]:
    """Check that frames can be passed to the worker process."""
    del profile
    try:
        memory = SharedMemory(create=True, size=_TEST_BYTES)
    except OSError as error:
        remedy = "free some (in a container: --shm-size=1g), or use --in-process"
        yield Finding("shared memory", f"not available: {error}", Level.FAULT, remedy)
        return
    try:
        assert memory.buf is not None
        memory.buf[:1] = memory.buf[-1:] = b"x"
        yield Finding("shared memory", f"{_TEST_BYTES >> 20} MiB can be allocated")
    finally:
        memory.close()
        memory.unlink()


def alarms(profile: Profile) -> Iterator[Finding]:
    """Check that false alarms are as rare as configured, and that sinks work."""
    from deepblur_live.cli.alarms import alarm_sinks
    from deepblur_live.session.sinks import without_secret

    least = _BATCH_AVERAGES * profile.model.average_s
    if profile.drift.batch_s < least:
        text = f"drift.batch_s {profile.drift.batch_s:g} s, model.average_s "
        text += f"{profile.model.average_s:g} s: points share frames, which causes "
        text += "false alarms"
        remedy = f"set drift.batch_s to {least:g} or more"
        yield Finding("alarms", text, Level.NOTE, remedy)
    for spec in profile.alerts.on_alarm:
        if spec == "log" or spec.startswith("mda-"):
            continue  # always possible, or only with a sequence
        try:
            alarm_sinks([("alerts.on_alarm", spec)])
        except ValueError as error:
            yield Finding("alarms", str(error), Level.FAULT, "correct the profile")
        else:
            yield Finding("alarms", f"{without_secret(spec)} is available")


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


PROBES: Sequence[Probe] = (
    system,
    devices,
    executor,
    optics,
    models,
    microscope,
    window,
    shared_memory,
    alarms,
)
