"""Show raw and deblurred frames as napari layers."""

import napari
from qtpy.QtCore import QTimer

import deepblur_live as dbl
from deepblur_live.acquisition.simulated import simulated_core

if __name__ == "__main__":  # the worker is a process of its own
    viewer = napari.Viewer()
    core = simulated_core()  # or CMMCorePlus.instance()
    layers = {}

    with dbl.LiveSession.from_profile(dbl.Profile(), core) as session:

        def refresh() -> None:
            """Show the newest deblurred frame."""
            result = session.listener.latest
            if result is None or result.deblurred is None:
                return
            for name, image in (
                ("raw", result.frame.pixels),
                ("deblurred", result.deblurred),
            ):
                if name in layers:
                    layers[name].data = image
                else:
                    layers[name] = viewer.add_image(image, name=name)

        timer = QTimer()
        timer.timeout.connect(refresh)
        timer.start(50)
        core.startContinuousSequenceAcquisition()
        napari.run()
