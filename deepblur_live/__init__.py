"""Live blind deblurring for microscopes, and alerts when their optics drift.

>>> import deepblur_live as dbl
>>> profile = dbl.load_profile("rig.toml")  # doctest: +SKIP
>>> sharp, estimate = dbl.deblur(frame, profile)  # doctest: +SKIP

This module is the public API; each name is loaded when it is first used. These are the
extension points, as stable as the API (docs/extending.md):

- `deepblur_live.blur.BlurFamily`: your own family of blurs
- `deepblur_live.blur.LinearBlur`: a blur that is not a convolution
- `deepblur_live.runtime.frame.FramePipeline`: another pipeline for a `DeblurListener`
- `deepblur_live.session.sinks.AlertSink`: another destination for alerts
- `deepblur_live.gui.MainWindow`: the window, to embed in an application
- `deepblur_live.acquisition.simulated`: a simulated microscope, for tests

A profile, model, recording or frame that cannot be used raises a `ValueError` (a
subclass named after what it concerns) whose text says what and where. All else is
private and may change with any version.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepblur_live.acquisition.listener import DeblurListener
    from deepblur_live.acquisition.recordings import open_series
    from deepblur_live.api import deblur
    from deepblur_live.blur.estimate import Estimate
    from deepblur_live.calibration import calibrate_stack, load_calibration
    from deepblur_live.drift.alert import Alert
    from deepblur_live.gui import show
    from deepblur_live.profile import Profile, load_profile
    from deepblur_live.runtime.frame import Frame, FrameResult
    from deepblur_live.session.calibrate_files import calibrate_files
    from deepblur_live.session.live import LiveSession

    __version__: str

__all__ = [
    "Alert",
    "DeblurListener",
    "Estimate",
    "Frame",
    "FrameResult",
    "LiveSession",
    "Profile",
    "__version__",
    "calibrate_files",
    "calibrate_stack",
    "deblur",
    "load_calibration",
    "load_profile",
    "open_series",
    "show",
]

_MODULES = {
    "Alert": "drift.alert",
    "DeblurListener": "acquisition.listener",
    "Estimate": "blur.estimate",
    "Frame": "runtime.frame",
    "FrameResult": "runtime.frame",
    "LiveSession": "session.live",
    "Profile": "profile",
    "calibrate_files": "session.calibrate_files",
    "calibrate_stack": "calibration",
    "deblur": "api",
    "load_calibration": "calibration",
    "load_profile": "profile",
    "open_series": "acquisition.recordings",
    "show": "gui",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            value: Any = version("deepblur-live")
        except PackageNotFoundError:  # runs from a checkout without being installed
            value = "0+unknown"
    elif name in _MODULES:
        module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
        value = getattr(module, name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, loaded or not."""
    return sorted({*globals(), *__all__})
