"""The worker as a real process: its results, its death, its replacement."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from echo_pipeline import Dying, Hanging, Knowing, Larger, Unpicklable, failing

from deepblur_live.acquisition import DeblurListener, WorkerState
from deepblur_live.acquisition.worker import MAX_AT_WORKER
from deepblur_live.drift import Gaussian
from deepblur_live.runtime.frame import FrameState
from deepblur_live.runtime.series_key import SeriesKey

FRAME = np.zeros((64, 48), np.uint16)
FATAL = np.full((64, 48), 13, np.uint16)


def balanced(listener: DeblurListener):
    now = listener.statistics
    assert now.captured == now.processed + now.dropped + now.in_flight
    return now


def test_what_is_known_reaches_the_worker_and_the_next_one(results) -> None:
    known = Gaussian(2.5, np.array([0.1, -0.2]), np.eye(2))

    def reason(time: float) -> str:
        count = len(results.all)
        listener.submit(FRAME, time=time)
        results.wait(lambda: len(results.all) > count)
        return str(results.all[-1].reason)

    with DeblurListener(Knowing, restart_delays_s=(0.1,)) as listener:
        results.listen(listener)
        assert reason(1.0) == "nothing"
        listener.start_from(known, 3 * np.eye(2))
        assert reason(2.0) == "[0.1, -0.2] at 2.5, variance 1.0"
        os.kill(listener.worker_pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        results.wait(lambda: WorkerState.RAW_ONLY in results.states)
        results.wait(lambda: results.states[-1] is WorkerState.RUNNING, timeout=30)
        # It has drifted meanwhile.
        assert reason(4.5) == "[0.1, -0.2] at 4.5, variance 7.0"


def test_what_is_known_of_a_channel_waits_for_its_frames(results) -> None:
    green, red = ({"index": {"c": c}, "channel": c} for c in ("green", "red"))
    known = Gaussian(0.0, np.array([0.1, -0.2]), np.eye(2))
    with DeblurListener(Knowing, in_process=True) as listener:
        results.listen(listener)
        listener.start_from(known, series=SeriesKey("red"))
        for count, tags in enumerate((green, red), 1):
            listener.submit(FRAME, tags, time=float(count))
            results.wait(lambda count=count: len(results.all) == count)
        reasons = [result.reason for result in results.all]
        assert reasons == ["nothing", "[0.1, -0.2] at 0.0, variance 1.0"]


def test_what_is_forgotten_is_not_sent(results) -> None:
    with DeblurListener(Knowing, in_process=True) as listener:
        results.listen(listener)
        listener.start_from(Gaussian(0.0, np.zeros(2), np.eye(2)))
        listener.forget_known()
        listener.submit(FRAME)
        results.wait(lambda: results.all)
        assert results.all[0].reason == "nothing"


def test_a_killed_worker_is_replaced_and_frames_are_passed_on_raw_meanwhile(
    results,
) -> None:
    with DeblurListener(Dying, restart_delays_s=(0.5,)) as listener:
        results.listen(listener)
        listener.submit(FRAME)
        results.wait(lambda: results.all)
        assert results.all[0].state is FrameState.DEBLURRED
        first = listener.worker_pid
        assert first not in (None, os.getpid())

        os.kill(first, getattr(signal, "SIGKILL", signal.SIGTERM))
        results.wait(lambda: WorkerState.RAW_ONLY in results.states)
        listener.submit(FRAME)
        results.wait(lambda: len(results.all) == 2)
        assert results.all[1].state is FrameState.RAW_ONLY
        assert results.all[1].reason == "worker is down"
        np.testing.assert_array_equal(results.all[1].frame.pixels, FRAME)

        results.wait(lambda: WorkerState.RUNNING in results.states, timeout=30)
        assert listener.worker_pid != first
        listener.submit(FRAME)
        results.wait(lambda: results.all[-1].state is FrameState.DEBLURRED)
        assert listener.drain(5)
        balanced(listener)
        (error,) = results.errors
        assert "died" in error
        assert "restart 1 of 1" in error
        if sys.platform != "win32":
            assert "SIGKILL" in error

        # Dead again, and no restart is left: raw for good.
        listener.submit(FATAL)
        results.wait(lambda: len(results.errors) == 2)
        assert "exit code 3" in results.errors[1]
        assert "stays down" in results.errors[1]
        assert listener.drain(5)
        assert balanced(listener).dropped == 1
        listener.submit(FATAL)
        assert listener.drain(5)
        assert balanced(listener).raw_only == {"worker is down": 2}
    assert listener.shared_bytes == 0


def test_where_every_frame_counts_they_wait_for_the_restart(results) -> None:
    with DeblurListener(Dying, policy="all", restart_delays_s=(0.1,)) as listener:
        results.listen(listener)
        for value in (1, 2, 13, 4, 5, 6, 7, 8):
            listener.submit(np.full((8, 9), value), block=True)
        assert listener.drain(60)
        now = balanced(listener)
        # Lost are the frame that ends the worker and at most those sent to it before.
        assert 1 <= now.dropped <= MAX_AT_WORKER
        assert now.raw_only == {}
        (error,) = results.errors
        assert "frames are kept; restart 1 of 1 follows" in error
        assert [r.frame.number for r in results.all[-3:]] == [5, 6, 7]


def test_a_worker_that_hangs_is_killed(results) -> None:
    with DeblurListener(Hanging, restart_delays_s=(), frame_timeout_s=0.3) as listener:
        results.listen(listener)
        listener.submit(FATAL)
        results.wait(lambda: results.errors)
        assert "no reply for 0.3 s" in results.errors[0]
        assert listener.worker_pid is None
        listener.submit(FRAME)
        assert listener.drain(5)
        assert results.all[0].reason == "worker is down"
        assert balanced(listener).dropped == 1


def test_a_failing_factory_is_reported_from_the_process(results) -> None:
    listener = DeblurListener(failing)
    results.listen(listener)
    assert not listener.start()
    results.wait(lambda: results.errors)
    assert "FileNotFoundError: no weights of model 'nobody'" in results.errors[0]
    assert "echo_pipeline.py" in results.errors[0]
    listener.close()


@pytest.mark.parametrize("factory", [Larger, Unpicklable])
def test_results_that_do_not_fit_the_slot_or_the_pipe(results, factory) -> None:
    with DeblurListener(factory, in_process=True) as listener:
        results.listen(listener)
        listener.submit(FRAME + 5)
        assert listener.drain(10)
        (result,) = results.all
        if factory is Larger:
            assert result.deblurred.shape == (192, 144)
            assert (result.deblurred == 5).all()
        else:
            assert result.state is FrameState.RAW_ONLY
            assert "lambda" in result.reason
            assert listener.statistics.worker_state is WorkerState.RUNNING


PROGRAM = """
import functools, sys, time
import numpy as np
sys.path.insert(0, {here!r})
from echo_pipeline import Echo
from deepblur_live.acquisition import DeblurListener

def main():
    from pymmcore_plus import CMMCorePlus
    core = CMMCorePlus()
    core.loadSystemConfiguration()
    listener = DeblurListener(functools.partial(Echo, 0.01))
    assert listener.start()
    listener.attach(core)
    core.startContinuousSequenceAcquisition()
    while listener.statistics.processed < 5:
        time.sleep(0.01)
    try:
        print(listener.worker_pid, flush=True)
        if sys.platform != "win32":
            time.sleep(30)
    except KeyboardInterrupt:
        pass
    time.sleep(0.2)
    print(listener.statistics.worker_state)

if __name__ == "__main__":
    main()
"""


def test_a_script_that_is_interrupted_and_closes_nothing_ends_cleanly(
    tmp_path: Path,
) -> None:
    script = tmp_path / "script.py"
    here = str(Path(__file__).parent)
    script.write_text(PROGRAM.format(here=here), encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYMM_SIGNALS_BACKEND": "psygnal"},
    ) as program:
        worker = int(program.stdout.readline())
        if sys.platform != "win32":
            # As Ctrl-C does: to everyone in the group.
            os.killpg(program.pid, signal.SIGINT)
        out, err = program.communicate(timeout=60)
    # No traceback of the worker, no leaked shared memory, no abort of the core.
    assert (program.returncode, err) == (0, "")
    assert out == "running\n"
    if sys.platform != "win32":
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)


UNGUARDED = """
import sys
sys.path.insert(0, {here!r})
from echo_pipeline import Echo
from deepblur_live.acquisition import DeblurListener

with DeblurListener(Echo) as listener:
    print(listener.statistics.worker_state)
    print(*listener.background_errors)
print("acquired")
"""


def test_a_script_without_a_main_guard_is_reported_and_does_not_run_twice(
    tmp_path: Path,
) -> None:
    script = tmp_path / "script.py"
    here = str(Path(__file__).parent)
    script.write_text(UNGUARDED.format(here=here), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout.count("acquired") == 1
    assert 'if __name__ == "__main__"' in done.stdout
