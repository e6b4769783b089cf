"""The listener on a real core, over both signal backends."""

import functools
import gc
import threading
import time
import weakref

import numpy as np
import pymmcore
import pytest
from echo_pipeline import Echo
from pymmcore_plus import CMMCorePlus
from pymmcore_plus.mda import mda_listeners_connected
from useq import MDASequence

from deepblur_live.acquisition import DeblurListener
from deepblur_live.acquisition.core_signals import connect_direct
from deepblur_live.runtime.frame import FrameState


def series(n_frames: int, interval: float = 0) -> MDASequence:
    return MDASequence(
        channels=["DAPI"], time_plan={"interval": interval, "loops": n_frames}
    )


def balanced(listener: DeblurListener):
    now = listener.statistics
    assert now.captured == now.processed + now.dropped + now.in_flight
    return now


@pytest.fixture
def listener(results):
    with DeblurListener(Echo, policy="all", in_process=True) as listener:
        yield results.listen(listener) and listener
    assert listener.background_errors == []


def test_a_slow_worker_does_not_delay_a_hardware_sequence(core: CMMCorePlus) -> None:
    core.mda.engine.use_hardware_sequencing = True
    core.setExposure(5)
    with (
        DeblurListener(functools.partial(Echo, 0.05)) as listener,
        listener.attached(core),
    ):
        watched, started = [], []
        core.mda.events.eventStarted.connect(started.append)
        listener.events.resultReady.connect(
            lambda _: watched.append(balanced(listener))
        )
        core.mda.run(series(250))  # an overflow of the core's buffer would raise
        assert listener.drain(10)
        now = balanced(listener)
        assert len(started) == 1  # one sequenced event: the camera runs freely
        assert now.captured == 250
        assert now.processed == len(watched)
        # A handler that waited for the worker would have had all frames processed.
        assert 0 < now.processed < 250
        assert listener.latest.frame.metadata["index"]["t"] >= 240
        assert listener.latest.frame.source == "mda"
    assert listener.background_errors == []


def test_every_frame_of_an_mda_with_its_metadata(
    core: CMMCorePlus, listener, results
) -> None:
    seen = []
    with (
        listener.attached(core),
        mda_listeners_connected(
            _Handler(lambda image, *_: seen.append(image)),
            mda_events=core.mda.events,
            asynchronous=False,
        ),
    ):
        core.mda.run(series(7))
    assert listener.drain(10)
    assert len(results.all) == 7
    for t, (result, image) in enumerate(zip(results.all, seen, strict=True)):
        np.testing.assert_array_equal(result.frame.pixels, image)
        assert result.state is FrameState.DEBLURRED
        metadata = result.frame.metadata
        assert metadata["index"]["t"] == t
        assert {type(key) for key in metadata["index"]} == {str}
        assert metadata["exposure_ms"] == core.getExposure()
        assert metadata["camera"] == "Camera"
        assert metadata["runner_time_ms"] > 0


class _Handler:
    def __init__(self, frameReady) -> None:
        self.frameReady = frameReady


@pytest.mark.parametrize("attached", [True, False])
def test_as_an_output_each_frame_counts_once(
    core: CMMCorePlus, listener, attached: bool
) -> None:
    # A hardware sequence of DemoCamera may end a frame short: count what it sends.
    sent = []
    core.mda.events.frameReady.connect(handler := lambda *frame: sent.append(frame))
    if attached:
        listener.attach(core)
    core.mda.run(series(6), output=listener)
    assert listener.drain(10)
    assert balanced(listener).captured == len(sent) >= 5
    with mda_listeners_connected(
        listener, mda_events=core.mda.events, asynchronous=False
    ):
        core.mda.run(series(3))
    assert listener.drain(10)
    assert balanced(listener).captured == len(sent) >= 7
    core.mda.events.frameReady.disconnect(handler)


def test_attached_to_one_core_and_the_output_of_another(
    core: CMMCorePlus, listener
) -> None:
    other = CMMCorePlus()
    other.loadSystemConfiguration()
    listener.attach(other)
    core.mda.run(series(4), output=listener)
    other.mda.run(series(5))
    assert listener.drain(10)
    assert balanced(listener).captured == 9
    listener.detach()
    other.unloadAllDevices()


def test_attaching_twice_is_once_and_detaching_is_permanent(
    core: CMMCorePlus, listener
) -> None:
    listener.attach(core)
    listener.attach(core)
    core.mda.run(series(4))
    listener.detach()
    listener.detach()
    core.mda.run(series(4))
    core.snap()
    core.startContinuousSequenceAcquisition()
    core.stopSequenceAcquisition()
    assert balanced(listener).captured == 4


def test_an_mda_from_another_thread_does_not_need_this_one(
    core: CMMCorePlus, listener
) -> None:
    """A queued Qt slot would wait for this thread's event loop, which is blocked."""
    listener.attach(core)
    thread = core.run_mda(series(5))
    thread.join(20)
    assert listener.drain(10)
    assert balanced(listener).processed == 5


def test_a_snap_is_one_frame_and_none_is_added_during_an_mda(
    core: CMMCorePlus, listener, results
) -> None:
    core.mda.engine.use_hardware_sequencing = False
    with listener.attached(core):
        image = core.snap()
        assert listener.drain(10)
        (result,) = results.all
        np.testing.assert_array_equal(result.frame.pixels, image)
        assert result.frame.source == "snap"
        assert result.frame.metadata["exposure_ms"] == core.getExposure()
        core.mda.run(series(3))
        assert listener.drain(10)
    assert [r.frame.source for r in results.all[1:]] == ["mda"] * 3


def test_rgb_frames_arrive(core: CMMCorePlus, listener, results) -> None:
    core.setProperty("Camera", "PixelType", "32bitRGB")
    with listener.attached(core):
        image = core.snap()
    assert listener.drain(10)
    assert image.ndim == 3
    np.testing.assert_array_equal(results.all[0].frame.pixels, image)


def test_live_with_a_roi_change_on_the_way(core: CMMCorePlus, results) -> None:
    core.setExposure(5)
    with DeblurListener(Echo, in_process=True) as listener:
        results.listen(listener)

        def frames(shape: tuple[int, int]) -> list:
            return [r for r in results.all if r.frame.pixels.shape == shape]

        with listener.attached(core):
            core.startContinuousSequenceAcquisition()
            results.wait(lambda: len(frames((512, 512))) > 30)
            # This camera ends its sequence here, as many do.
            core.setROI(16, 32, 200, 100)
            results.wait(lambda: results.errors)
            core.stopSequenceAcquisition()
            core.startContinuousSequenceAcquisition()
            results.wait(lambda: len(frames((100, 200))) > 30)
            core.stopSequenceAcquisition()
            assert listener.drain(5)
        assert len(frames((512, 512))) + len(frames((100, 200))) == len(results.all)
        assert {r.frame.source for r in results.all} == {"live"}
        numbers = [r.frame.metadata["image_number"] for r in frames((100, 200))]
        assert numbers == sorted(set(numbers))
        now = balanced(listener)
        assert now.captured + now.missed.total >= 60
    (error,) = results.errors
    assert "'Camera' ended live mode by itself" in error
    assert listener.background_errors == results.errors


def test_live_already_running_and_read_by_another_program(
    core: CMMCorePlus, listener, results
) -> None:
    core.setExposure(5)
    core.startContinuousSequenceAcquisition()
    with listener.attached(core):
        results.wait(lambda: len(results.all) > 10)
        # The tap peeks: what it saw is still there for whoever pops.
        core.stopSequenceAcquisition()
        assert core.getRemainingImageCount() >= 10
        assert core.popNextImage().shape == (512, 512)


def test_a_sequence_that_ends_by_itself_then_live_then_an_mda(
    core: CMMCorePlus, listener, results
) -> None:
    core.setExposure(5)
    with listener.attached(core):
        core.startSequenceAcquisition(5, 0, True)
        results.wait(
            lambda: results.all and results.all[-1].frame.metadata["image_number"] == 4
        )
        core.startContinuousSequenceAcquisition()
        n = len(results.all)
        results.wait(lambda: len(results.all) > n + 5)
        core.stopSequenceAcquisition()
        core.mda.run(series(5))
        assert listener.drain(10)
    assert sum(r.frame.source == "mda" for r in results.all) == 5


def test_a_frozen_callback_does_not_slow_the_acquisition(core: CMMCorePlus) -> None:
    core.setExposure(5)
    thaw = threading.Event()
    with DeblurListener(Echo, in_process=True) as listener:
        listener.events.resultReady.connect(lambda _: thaw.wait(60))
        with listener.attached(core):
            core.mda.run(series(100))
            now = balanced(listener)
            assert now.captured == 100
            assert now.dropped > 90
            thaw.set()
            assert listener.drain(10)
    assert listener.background_errors == []


def test_a_core_is_unregistered_at_exit_once(core: CMMCorePlus, monkeypatch) -> None:
    """The C++ side must not call into an interpreter that shuts down."""
    at_exit = []
    monkeypatch.setattr(
        "deepblur_live.acquisition.core_signals.atexit.register",
        lambda *call: at_exit.append(call),
    )
    listener = DeblurListener(Echo, in_process=True)
    for _ in range(2):
        listener.attach(core)
        listener.detach()
    (call,) = [c for c in at_exit if c[0].__module__.endswith("core_signals")]
    native = threading.Event()
    disconnect = connect_direct(core.events.exposureChanged, lambda *_: native.set())
    pymmcore.CMMCore.setExposure(core, "Camera", 21)
    assert native.wait(5)
    native.clear()
    call[0](*call[1:])
    pymmcore.CMMCore.setExposure(core, "Camera", 22)
    assert not native.wait(0.2)
    disconnect()
    listener.close()


def test_a_core_is_freed_while_the_listener_lives(signal_backend, caplog) -> None:
    # Its log records, which pytest keeps, hold the core.
    caplog.set_level("CRITICAL", logger="pymmcore-plus")
    core = CMMCorePlus()
    core.loadSystemConfiguration()
    with DeblurListener(Echo, in_process=True) as listener:
        listener.attach(core)
        core.snap()
        assert listener.drain(10)
        held = weakref.ref(core)
        del core
        for _ in range(50):
            gc.collect()
            if held() is None:
                break
            time.sleep(0.05)  # the tap may be asking it something
        assert held() is None
        assert not listener.live_mode
        # Another core takes its place.
        other = CMMCorePlus()
        other.loadSystemConfiguration()
        with listener.attached(other):
            other.snap()
            assert listener.drain(10)
        assert listener.statistics.captured == 2
    assert listener.background_errors == []
