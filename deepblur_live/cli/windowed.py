"""A run in the window, until the window is closed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from deepblur_live.cli.headless import feed
from deepblur_live.gui import show
from deepblur_live.gui.replay import Replay

if TYPE_CHECKING:
    from deepblur_live.acquisition import Series
    from deepblur_live.cli.mda import MdaRun
    from deepblur_live.session import LiveSession

__all__ = ["show_live", "show_replay"]

_JOIN_S = 10.0
_DRAIN_S = 0.25


def show_live(
    session: LiveSession,
    *,
    start: bool,
    seconds: float | None = None,
    mda: MdaRun | None = None,
) -> None:
    """Show a session with a core until the window is closed, or for `seconds`.

    Parameters
    ----------
    session
        A running session.
    start
        Whether to start live mode.
    seconds
        Close the window after this time; None leaves that to the user.
    mda
        A sequence to run; the window stays open after its end.
    """
    assert session.core is not None
    if start:
        session.core.startContinuousSequenceAcquisition()
    if mda is not None:
        mda.start()
    show(session, seconds=seconds)
    if mda is not None:
        _ = mda.ended  # raises the error it ended with


def show_replay(
    session: LiveSession, source: Series, seconds: float | None = None
) -> None:
    """Show a session that processes a recording, until the window is closed.

    After its end the window offers the report, and a slider through the frames.
    """
    stop = threading.Event()
    failure: list[Exception] = []
    replay = Replay(source)

    def run() -> None:
        try:
            feed(session, source, stop=stop)
            while not stop.is_set() and not session.listener.drain(_DRAIN_S):
                pass
        except Exception as error:  # raised when the window is closed
            failure.append(error)
            # The window shows it now.
            replay.error = f"the replay ended: {error}"
            session.background_errors.append(replay.error)
        replay.finished.set()

    feeder = threading.Thread(target=run, name="replay", daemon=True)
    feeder.start()
    try:
        show(session, seconds=seconds, replay=replay)
    finally:
        stop.set()
        feeder.join(_JOIN_S)
    if failure:
        raise failure[0]
