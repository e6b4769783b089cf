"""Replay a recorded series, every frame of it."""

import numpy as np
import tifffile

import deepblur_live as dbl
from deepblur_live.acquisition.simulated import simulated_core

FILE = "recording.tif"


def record(frames: int) -> None:
    """Write a small recording; leave this out if you have one."""
    core = simulated_core(exposure_ms=10)
    stack = []
    for _ in range(frames):
        core.snapImage()
        stack.append(core.getImage()[:256, :256])
    axes = {"axes": "TYX"}
    tifffile.imwrite(FILE, np.stack(stack), imagej=True, metadata=axes)


if __name__ == "__main__":  # the worker is a process of its own
    record(5)
    profile = dbl.Profile()  # or "rig.toml"
    with (
        dbl.open_series(FILE) as series,
        dbl.LiveSession.from_profile(profile, every_frame=True) as session,
    ):
        session.listener.events.resultReady.connect(
            lambda result: print(result.frame.number, result.state, result.reason)
        )
        for number, (pixels, metadata) in enumerate(series):
            time = metadata.get("time_s", 1.0 * number)  # s, of the recording's clock
            session.listener.submit(pixels, metadata, "replay", time=time, block=True)
        session.listener.drain(timeout=60)
    print(session.summary.text())
