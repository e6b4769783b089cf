"""Save the picture of the window that the documentation shows.

python tools/screenshot.py [--seconds 70]
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from deepblur_live.acquisition.simulated import simulated_core
from deepblur_live.acquisition.simulated_sample import SimulatedSample
from deepblur_live.cli.demo import demo_profile
from deepblur_live.gui import MainWindow, application
from deepblur_live.gui.binding import QtCore
from deepblur_live.session import LiveSession


def main() -> None:
    """Run the demo in an invisible window and save it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=70)
    parser.add_argument("--out", type=Path, default=Path("docs/images/window.png"))
    options = parser.parse_args()
    _ = application()
    sample = SimulatedSample()
    core = simulated_core(sample)
    with (
        TemporaryDirectory() as folder,
        LiveSession.from_profile(demo_profile(sample), core, folder) as session,
    ):
        window = MainWindow(session, remember=False)
        window.resize(1400, 900)
        window.show()
        core.startContinuousSequenceAcquisition()
        # Not the application's quit, which would close the window before it is saved.
        loop = QtCore.QEventLoop()
        QtCore.QTimer.singleShot(int(options.seconds * 1000), loop.quit)
        loop.exec()
        window.grab().save(str(options.out))
        core.stopSequenceAcquisition()
        window.close()
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
