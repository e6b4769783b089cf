"""Identify the blur of one frame and remove it."""

import deepblur_live as dbl
from deepblur_live.acquisition.simulated import simulated_core

if __name__ == "__main__":
    core = simulated_core()  # or any array of shape (H, W)
    core.snapImage()
    frame = core.getImage()[:256, :256]

    profile = dbl.Profile()  # or dbl.load_profile("rig.toml")
    sharp, estimate = dbl.deblur(frame, profile)

    if estimate.trusted:
        for noll, value in zip(profile.optics.noll, estimate.coefficients, strict=True):
            print(f"Noll {noll}: {value:+.3f} waves rms")
        print(f"range of values: {frame.min()}–{frame.max()} → {sharp.max():.0f}")
    else:
        print(f"no reliable estimate: {estimate.reason}")
