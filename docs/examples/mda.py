"""Monitor an MDA: frames are deblurred while the sequence runs."""

from useq import MDASequence

import deepblur_live as dbl
from deepblur_live.acquisition.simulated import simulated_core

if __name__ == "__main__":  # the worker is a process of its own
    core = simulated_core()  # or CMMCorePlus.instance(), with your configuration
    sequence = MDASequence(time_plan={"interval": 0.1, "loops": 10})
    profile = dbl.Profile()  # or "rig.toml"
    with dbl.LiveSession.from_profile(profile, core, folder="sessions") as session:
        session.events.alertRaised.connect(lambda alert: print(alert.text))
        core.mda.run(sequence)
        session.listener.drain(timeout=30)  # the last frames
    print(session.summary.text())
