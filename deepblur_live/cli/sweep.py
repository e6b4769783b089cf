"""The command sweep: the blur from planes at known positions, and the correction."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from deepblur_live.acquisition import open_series
from deepblur_live.blur import focus_direction
from deepblur_live.calibration.rig import rig_family
from deepblur_live.cli.console import say
from deepblur_live.cli.cores import core_from_config
from deepblur_live.profile import Profile
from deepblur_live.runtime.focus_sweep import best_planes, sweep_frames
from deepblur_live.session.sweep_report import sweep_json, sweep_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from rich.console import Console

__all__ = [
    "parse_length",
    "parse_planes",
    "read_planes",
    "say_answer",
    "sweep_file",
    "sweep_live",
]

_Answer = TypeVar("_Answer")

_LENGTH = re.compile(r"([+-]?[0-9.]+)\s*(nm|um|µm|\u03bcm)?")
# Planes of a live sweep.
_LIVE_PLANES = 3


def parse_length(text: str, option: str) -> float:
    """Return a length in µm of a text such as "200nm", "0.2um" or "200" (nm).

    Below 1 the unit is needed: "0.2" may be meant as µm.

    Raises
    ------
    ValueError
        The text is not a length, or it is zero, or below 1 without a unit.
    """
    match = _LENGTH.fullmatch(text.strip())
    try:
        value = float(match[1]) if match else 0.0
    except ValueError:
        value = 0.0
    if match is None or value == 0 or (match[2] is None and abs(value) < 1):
        raise ValueError(f"{option} {text}: give a length such as 200nm or 0.2um")
    return value if match[2] not in (None, "nm") else value / 1000


def parse_planes(text: str) -> list[int]:
    """Return the numbers of a text such as "15,17,19".

    Raises
    ------
    ValueError
        The text is not a list of numbers.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--planes {text}: give numbers such as 15,17,19") from None


def _optics_text(profile: Profile) -> str:
    """Return the optics that an answer assumes, and whether they are the defaults."""
    optics = profile.optics
    origin = ""
    if optics == Profile().optics:
        origin = ": the defaults; give your own with --profile"
    return (
        f"This assumes NA {optics.numerical_aperture:g}, {optics.wavelength_nm:g} nm, "
        f"{optics.pixel_size_nm:g} nm pixels{origin}."
    )


def sweep_file(
    console: Console,
    file: str,
    profile: Profile,
    z_step_um: float,
    *,
    channel: str | None = None,
    planes: Sequence[int] | None = None,
    as_json: bool = False,
) -> None:
    """Evaluate a recorded z-stack.

    Parameters
    ----------
    console
        Where the answer goes.
    file
        As `open_series` takes it.
    profile
        The rig.
    z_step_um
        Distance of neighbouring planes, negative if z falls along the stack.
    channel
        Name or number of the channel, if there are several.
    planes
        Numbers of the planes to use, from 0; by default those of `best_planes`.
    as_json
        Whether to print JSON instead of text.

    Raises
    ------
    SeriesError
        The recording cannot be read.
    SweepError
        The planes cannot be evaluated as a sweep.
    """
    frames, z_um, origin = read_planes(
        file, profile, z_step_um, channel=channel, planes=planes
    )
    _evaluate(console, profile, frames, z_um, origin, as_json)


def read_planes(
    file: str,
    profile: Profile,
    z_step_um: float,
    *,
    channel: str | None = None,
    planes: Sequence[int] | None = None,
) -> tuple[list[NDArray[Any]], NDArray[np.float64], str]:
    """Return K planes (H, W) of a z-stack, their positions (K,), and what z = 0 is.

    The parameters are those of `sweep_file`.

    Raises
    ------
    SeriesError
        The recording cannot be read.
    """
    family = rig_family(profile.uniform)
    per_um = float(np.linalg.norm(focus_direction(family) / family.prior.scale))
    with open_series(file, channel=channel) as source:
        if planes is None:
            contrast = [float(np.std(source[k])) for k in range(len(source))]
            chosen, centre = best_planes(contrast, z_step_um, per_um)
        else:
            chosen = list(planes)
            for number in chosen:
                if not 0 <= number < len(source):
                    raise ValueError(
                        f"--planes: there is no plane {number}; {source.path} has "
                        f"planes 0 to {len(source) - 1}"
                    )
            if len(set(chosen)) < len(chosen):
                raise ValueError("--planes: a plane is given twice")
            centre = chosen[len(chosen) // 2]
        frames = [source[k] for k in chosen]
        name = str(source.path)
    z_um = z_step_um * (np.array(chosen, dtype=np.float64) - centre)
    return frames, z_um, f"{name}: plane {centre}"


def sweep_live(
    console: Console,
    config: Path,
    profile: Profile,
    z_step_um: float,
    *,
    as_json: bool = False,
) -> None:
    """Sweep a microscope's focus drive by one step to each side, and evaluate it.

    Raises
    ------
    MicroscopeError
        The microscope cannot be used.
    SweepError
        The stage does not follow, or the planes cannot be evaluated as a sweep.
    """
    from deepblur_live.acquisition.focus_sweep import acquire_sweep

    core = core_from_config(config)
    steps = np.arange(_LIVE_PLANES, dtype=np.float64) - _LIVE_PLANES // 2
    offsets: NDArray[np.float64] = abs(z_step_um) * steps
    sweep = acquire_sweep(core, offsets, range_um=float(offsets.max()))
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
        "Searching …",
        partial(sweep_frames, profile, frames, z_um),
        quiet=as_json,
    )
    answer = (
        sweep_json(family, result, z_um, origin)
        if as_json
        else sweep_text(family, result, origin)
    )
    say_answer(console, profile, answer)


def say_answer(
    console: Console, profile: Profile, answer: Mapping[str, Any] | Sequence[str]
) -> None:
    """Print an answer as JSON; or its lines, and the optics that it assumes."""
    if isinstance(answer, Mapping):
        say(console, json.dumps(answer, indent=1))
        return
    for line in answer:
        say(console, line)
    say(console, _optics_text(profile))


def with_progress(
    console: Console,
    doing: str,
    run: Callable[[Callable[[float], None]], _Answer],
    *,
    quiet: bool,
) -> _Answer:
    """Return what `run` returns, and show the share that it reports unless `quiet`."""
    if quiet:
        return run(lambda share: None)
    with console.status(doing) as status:
        return run(lambda share: status.update(f"{doing} {share:.0%}"))
