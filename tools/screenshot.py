"""Draw the README's picture: the demo's own window after some seconds.

python tools/screenshot.py [--seconds 70]
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from tempfile import TemporaryDirectory

# A picture needs no screen.
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from deepblur_live.acquisition.scene import SimulatedScene
from deepblur_live.acquisition.simulated import simulated_core
from deepblur_live.cli.rig import Rig
from deepblur_live.cli.runs import demo_profile
from deepblur_live.cli.windowed import application
from deepblur_live.gui.binding import QtCore
from deepblur_live.gui.main_window import MainWindow


def main() -> None:
    """Run the demo in an invisible window and save it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=70)
    parser.add_argument("--out", type=Path, default=Path("tools/window.png"))
    options = parser.parse_args()
    running = application()
    scene = SimulatedScene()
    profile = demo_profile(scene)
    core = simulated_core(scene)
    with TemporaryDirectory() as folder, Rig(profile, Path(folder), core=core) as rig:
        window = MainWindow(rig.session, mmcore=core)
        window.resize(1400, 900)
        window.show()
        core.startContinuousSequenceAcquisition()
        QtCore.QTimer.singleShot(int(options.seconds * 1000), running.quit)
        running.exec()
        window.grab().save(str(options.out))
        core.stopSequenceAcquisition()
        window.close()
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
