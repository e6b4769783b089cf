"""Load a Micro-Manager configuration, with errors that name what is missing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pymmcore_plus import CMMCorePlus
from pymmcore_plus.experimental.unicore import UniMMCore

from deepblur_live.acquisition.core_signals import let_core_exit

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["MicroscopeError", "core_from_config"]

_ADAPTER = re.compile(r'Failed to load device adapter "([^"]+)"')
_LINE = re.compile(r"Line (\d+): (.*)")


class MicroscopeError(RuntimeError):
    """The microscope cannot be used; the text names the file and the device."""


def core_from_config(config: Path) -> CMMCorePlus:
    """Return a core with `config` loaded and a camera selected.

    Raises
    ------
    MicroscopeError
        The file is missing, one of its devices cannot be loaded, or it selects no
        camera.
    """
    try:
        text = config.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise MicroscopeError(f"{config}: cannot be read: {error.strerror}") from error
    if config.suffix.lower() == ".toml":
        raise MicroscopeError(
            f"{config}: a TOML file: give a profile as --profile; --config takes the "
            "microscope's Micro-Manager configuration (.cfg)"
        )
    # The core for devices written in Python is experimental: use it only if necessary.
    python_devices = any(line.startswith("#py") for line in text.splitlines())
    core = UniMMCore() if python_devices else CMMCorePlus()
    let_core_exit(core)
    try:
        core.loadSystemConfiguration(config)
    except Exception as error:  # whatever a device driver raises
        raise MicroscopeError(_explain(config, core, str(error))) from error
    if not core.getCameraDevice():
        raise MicroscopeError(
            f"{config}: no camera: add a line Property,Core,Camera,LABEL with the "
            "label of a loaded camera"
        )
    return core


def _explain(config: Path, core: CMMCorePlus, message: str) -> str:
    place = _LINE.search(message)
    where = f"{config}, line {place[1]} ({place[2].strip()})" if place else f"{config}"
    adapter = _ADAPTER.search(message)
    if adapter is None:
        reasons = [line.strip() for line in message.splitlines() if line.strip()]
        return f"{where}: {' '.join(reasons[1 if place else 0 :])}"
    found = ", ".join(sorted(core.getDeviceAdapterNames()))
    found = found or "none (`mmcore install` installs those of Micro-Manager)"
    interface = core.getAPIVersionInfo()
    return (
        f"{where}: the device adapter {adapter[1]} cannot be loaded; found: {found}. "
        f"It must match the core: {interface}. `deepblur-live doctor` shows both"
    )
