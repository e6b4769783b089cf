"""Alarms into a real MDA of the simulated camera: paused, resumed, recalibrated."""

from __future__ import annotations

import queue
import threading

import pytest
from pymmcore_plus.mda import MDAEngine
from useq import CustomAction, MDAEvent, MDASequence

from deepblur_live.acquisition.core_signals import let_core_exit
from deepblur_live.acquisition.simulated import simulated_core
from deepblur_live.acquisition.simulated_sample import SimulatedSample
from deepblur_live.session.sinks import AlertDispatcher, NoticeKind
from deepblur_live.session.sinks.mda import (
    InterruptibleEvents,
    MdaPauseSink,
    RecalibrateSink,
    RecalibratingEngine,
)

PATIENCE = 20.0


@pytest.fixture
def core(monkeypatch):
    monkeypatch.setenv("PYMM_SIGNALS_BACKEND", "psygnal")
    sample = SimulatedSample(shape=(128, 128))
    core = simulated_core(sample, exposure_ms=1.0, wait=lambda seconds: None)
    let_core_exit(core)
    yield core
    core.mda.cancel()


class Frames:
    """Counts a run's frames, and waits for a number of further ones."""

    def __init__(self, core) -> None:
        self.count = 0
        self._changed = threading.Condition()
        core.mda.events.frameReady.connect(self._on_frame)

    def _on_frame(self, *_: object) -> None:
        with self._changed:
            self.count += 1
            self._changed.notify_all()

    def wait_more(self, more: int, timeout: float = PATIENCE) -> bool:
        with self._changed:
            wanted = self.count + more
            return self._changed.wait_for(lambda: self.count >= wanted, timeout)


def end(core, run: threading.Thread) -> None:
    """Cancel again and again: a request may come between two events and be lost."""
    for _ in range(int(PATIENCE / 0.1)):
        core.mda.cancel()
        run.join(0.1)
        if not run.is_alive():
            return
    raise AssertionError("the MDA did not end")


TIME_LAPSE = MDASequence(time_plan={"interval": 0.01, "loops": 5000})


@pytest.fixture
def running(core):
    """Start a time lapse; it ends with the test."""
    started = []

    def start(events=TIME_LAPSE):
        started.append(core.run_mda(events))

    yield start
    for run in started:
        end(core, run)


def wait_for_pause(core, frames: Frames) -> None:
    """Return once paused for good: where a request is made again, a frame still comes.

    One more may come after the first look, from the event that has begun just then.
    """
    changed = threading.Event()
    for _ in range(int(PATIENCE / 0.01)):
        if core.mda.is_paused() and not frames.wait_more(1, timeout=0.2):
            assert core.mda.is_paused()
            return
        changed.wait(0.01)
    raise AssertionError("the MDA was not paused")


def pause_as_somebody_else(core) -> None:
    """Ask during an event: there a request is never lost."""
    requested = threading.Event()

    def ask(event: MDAEvent) -> None:
        core.mda.events.eventStarted.disconnect(ask)
        core.mda.set_paused(True)
        requested.set()

    core.mda.events.eventStarted.connect(ask)
    assert requested.wait(PATIENCE)


@pytest.mark.parametrize("kind", [NoticeKind.ACKNOWLEDGED, NoticeKind.CLEARED])
def test_an_alarm_pauses_until_it_is_acknowledged_or_clears(
    core, running, make_notice, kind
):
    frames, errors = Frames(core), []
    dispatcher = AlertDispatcher([MdaPauseSink(core)], errors.append)
    running()
    assert frames.wait_more(3)
    dispatcher.send(make_notice())
    wait_for_pause(core, frames)
    dispatcher.send(make_notice(kind))
    assert frames.wait_more(3)
    dispatcher.close()
    assert errors == []


def test_a_request_that_the_mda_forgets_is_made_again(
    core, running, make_notice, monkeypatch
):
    """The alarm comes after the last look for a pause, before the event begins."""
    frames, sink = Frames(core), MdaPauseSink(core)
    wait = core.mda._wait_until_event
    lost = threading.Event()

    def alarm_after(event: MDAEvent) -> bool:
        ended = wait(event)
        if event.index["t"] == 3:
            sink.deliver(make_notice())
            assert core.mda.is_paused()
            lost.set()
        return ended

    monkeypatch.setattr(core.mda, "_wait_until_event", alarm_after)
    running()
    assert lost.wait(PATIENCE)
    wait_for_pause(core, frames)
    assert frames.count == 4
    sink.deliver(make_notice(NoticeKind.CLEARED))
    assert frames.wait_more(3)
    sink.close()


def test_an_alarm_while_the_mda_prepares(core, running, make_notice):
    frames, sink = Frames(core), MdaPauseSink(core)

    class AlarmingEngine(MDAEngine):
        def setup_sequence(self, sequence):
            sink.deliver(make_notice())
            return super().setup_sequence(sequence)

    core.mda.set_engine(AlarmingEngine(core))
    running()
    assert frames.wait_more(1)
    wait_for_pause(core, frames)
    assert frames.count == 1
    sink.close()


def test_an_mda_resumed_by_the_user_is_not_paused_again(core, running, make_notice):
    frames, sink = Frames(core), MdaPauseSink(core)
    running()
    assert frames.wait_more(1)
    sink.deliver(make_notice())
    wait_for_pause(core, frames)
    core.mda.set_paused(False)
    assert frames.wait_more(5)
    assert not core.mda.is_paused()
    # Nor is a later pause of theirs ended by the alarm's end.
    pause_as_somebody_else(core)
    wait_for_pause(core, frames)
    sink.deliver(make_notice(NoticeKind.CLEARED))
    assert core.mda.is_paused()
    sink.close()


def test_an_alarm_is_forgotten_with_its_mda(core, make_notice):
    frames, sink = Frames(core), MdaPauseSink(core)
    core.mda.events.eventStarted.connect(lambda event: sink.deliver(make_notice()))
    run = core.run_mda(TIME_LAPSE)
    assert frames.wait_more(1)
    wait_for_pause(core, frames)
    end(core, run)
    core.mda.events.eventStarted.disconnect()
    sink.close()
    sink = MdaPauseSink(core)
    sink.deliver(make_notice())  # without an MDA: nothing to do
    core.mda.run(MDASequence(time_plan={"interval": 0, "loops": 5}))
    assert core.mda.status.finish_reason == "completed"
    sink.close()


def test_a_pause_that_somebody_else_made_is_left_alone(core, running, make_notice):
    frames, sink = Frames(core), MdaPauseSink(core)
    running()
    assert frames.wait_more(1)
    pause_as_somebody_else(core)
    wait_for_pause(core, frames)
    sink.deliver(make_notice())
    sink.deliver(make_notice(NoticeKind.CLEARED))
    assert core.mda.is_paused()
    sink.close()


def test_a_recalibration_in_the_users_own_queue(core, make_notice):
    events: queue.Queue[MDAEvent | None] = queue.Queue(8)
    seen = []
    core.mda.events.eventStarted.connect(lambda event: seen.append(event.action))
    sink = RecalibrateSink(events.put)
    events.put(MDAEvent())
    sink.deliver(make_notice())
    events.put(MDAEvent())
    events.put(None)
    run = core.run_mda(iter(events.get, None))
    run.join(PATIENCE)
    assert not run.is_alive()
    assert [isinstance(action, CustomAction) for action in seen] == [False, True, False]
    assert seen[1].name == "recalibrate"
    assert seen[1].data == make_notice().record()


def test_an_alarm_recalibrates_in_the_middle_of_a_sequence(core, make_notice):
    frames, done = Frames(core), threading.Event()
    calls: list = []
    errors: list[str] = []

    def recalibrate(own_core, alert):
        calls.append((own_core is core, alert["event"], frames.count))
        done.set()
        if len(calls) == 2:
            raise RuntimeError("the mirror does not respond")

    core.mda.set_engine(RecalibratingEngine(core, recalibrate, errors.append))
    events = InterruptibleEvents(MDASequence(time_plan={"interval": 0, "loops": 60}))
    dispatcher = AlertDispatcher([RecalibrateSink(events.put)], errors.append)
    run = core.run_mda(events)
    for expected in (1, 2):
        assert frames.wait_more(3)
        done.clear()
        dispatcher.send(make_notice())
        assert done.wait(PATIENCE)
        assert len(calls) == expected
    run.join(PATIENCE)
    assert not run.is_alive()
    dispatcher.close()
    # Between two frames, with none lost, and a failure costs no frame either.
    assert frames.count == 60
    assert all(own and event == "alertRaised" for own, event, _ in calls)
    assert 3 <= calls[0][2] < calls[1][2] < 60
    assert errors == [
        "recalibration failed: RuntimeError: the mirror does not respond",
    ]


def test_a_sequence_that_takes_no_events_is_an_error(make_notice):
    sink = RecalibrateSink(InterruptibleEvents([]).put)
    for _ in range(16):
        sink.deliver(make_notice())
    with pytest.raises(RuntimeError, match="the MDA does not take them"):
        sink.deliver(make_notice())
