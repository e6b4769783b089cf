"""Dock the window, and a part of it, into a Qt application."""

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QDockWidget, QMainWindow

import deepblur_live as dbl
from deepblur_live.acquisition.simulated import simulated_core
from deepblur_live.gui import MainWindow, StatePanel, application

if __name__ == "__main__":  # the worker is a process of its own
    app = application()  # before the core, so that its events reach Qt's thread
    core = simulated_core()  # or CMMCorePlus.instance()
    host = QMainWindow()  # your application's window

    with dbl.LiveSession.from_profile(dbl.Profile(), core) as session:
        window = MainWindow(session)
        for name, widget in (("Deblurred", window), ("State", StatePanel(session))):
            dock = QDockWidget(name, host)
            dock.setWidget(widget)
            host.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, dock)

        host.show()
        core.startContinuousSequenceAcquisition()
        QTimer.singleShot(2000, app.quit)  # leave this out: run until it is closed
        app.exec()
        window.close()
