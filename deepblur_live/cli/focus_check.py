"""The command check: whether the estimate follows a step of the focus drive."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from deepblur_live.cli.cores import core_from_config
from deepblur_live.cli.sweep import read_planes, say_answer, with_progress
from deepblur_live.runtime.focus_check import check_frames
from deepblur_live.session.check_report import check_json, check_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console

    from deepblur_live.profile import Profile

__all__ = ["check_file", "check_live"]


def check_file(
    console: Console,
    file: str,
    profile: Profile,
    z_step_um: float,
    *,
    channel: str | None = None,
    planes: Sequence[int] | None = None,
    as_json: bool = False,
) -> None:
    """Check the estimates of the planes of a recorded z-stack.

    The parameters are those of `deepblur_live.cli.sweep.sweep_file`.

    Raises
    ------
    SeriesError
        The recording cannot be read.
    SweepError
        Its planes cannot be used for a check.
    """
    frames, z_um, origin = read_planes(
        file, profile, z_step_um, channel=channel, planes=planes
    )
    _evaluate(console, profile, frames, z_um, origin, as_json)


def check_live(
    console: Console,
    config: Path,
    profile: Profile,
    step_um: float,
    *,
    as_json: bool = False,
) -> None:
    """Move a microscope's focus drive by one step to each side, and check there.

    Raises
    ------
    MicroscopeError
        The microscope cannot be used.
    SweepError
        The stage does not follow, or the frames cannot be used for a check.
    """
    from deepblur_live.acquisition.focus_sweep import acquire_sweep
    from deepblur_live.session.focus_check import CHECK_STEPS

    core = core_from_config(config)
    step = abs(step_um)
    sweep = acquire_sweep(core, step * CHECK_STEPS, range_um=step)
    where = f"{sweep.stage} at {sweep.start_um:.3f} µm"
    _evaluate(console, profile, sweep.frames, sweep.z_um, where, as_json)


def _evaluate(
    console: Console,
    profile: Profile,
    frames: Sequence[NDArray[Any]],
    z_um: NDArray[np.float64],
    origin: str,
    as_json: bool,
) -> None:
    family, result = with_progress(
        console,
        "Identifying …",
        partial(check_frames, profile, frames, z_um),
        quiet=as_json,
    )
    answer = check_json if as_json else check_text
    say_answer(console, profile, answer(family, result, origin))
