"""Add the window to pymmcore-gui's Window menu."""

from pymmcore_gui import create_mmgui
from pymmcore_gui.actions import WidgetActionInfo
from qtpy.QtCore import QTimer

import deepblur_live as dbl
from deepblur_live.acquisition.simulated import simulated_core
from deepblur_live.gui import MainWindow, application

if __name__ == "__main__":  # the worker is a process of its own
    app = application()
    core = simulated_core()  # or CMMCorePlus.instance()

    with dbl.LiveSession.from_profile(dbl.Profile(), core) as session:

        def make(parent):
            """Return the dock's widget."""
            return MainWindow(session, parent=parent)

        # Before pymmcore-gui makes its window.
        WidgetActionInfo(key="deepblur", text="Deblurred", create_widget=make)
        host = create_mmgui(
            mmcore=core, mm_config=False, install_sentry=False, exec_app=False
        )
        window = host.get_widget("deepblur")

        QTimer.singleShot(2000, app.quit)  # leave this out: run until it is closed
        app.exec()
        window.close()
        host.close()
