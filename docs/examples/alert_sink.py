"""Send alarms to a destination of your own: here, a line in a lab book."""

import time
from pathlib import Path

import deepblur_live as dbl
from deepblur_live.acquisition.simulated import simulated_core
from deepblur_live.session.sinks import AlertNotice, AlertSink


class LabBook(AlertSink):
    """Appends a line to a text file at each alarm; it may be slow, or fail."""

    name = "lab book"

    def __init__(self, path: Path) -> None:
        self.path = path

    def deliver(self, notice: AlertNotice) -> None:
        """Write one line."""
        with self.path.open("a", encoding="utf-8") as book:
            book.write(f"{notice.when:%Y-%m-%d %H:%M}  {notice.rig}: {notice.text}\n")


if __name__ == "__main__":  # the worker is a process of its own
    core = simulated_core()  # or CMMCorePlus.instance(), with your configuration
    profile = dbl.Profile(name="room 12")  # or "rig.toml"
    sinks = [LabBook(Path("labbook.txt"))]
    with dbl.LiveSession.from_profile(profile, core, sinks=sinks) as session:
        core.startContinuousSequenceAcquisition()
        time.sleep(1)  # your acquisition
    for sink in session.sinks:
        print(sink.text)
