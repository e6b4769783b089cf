import threading
import time
from collections.abc import Iterator
from multiprocessing.shared_memory import SharedMemory

import numpy as np
import pytest

from deepblur_live.acquisition.ring import FrameRing

FRAME = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)


class Bench:
    """A ring, what it reported, and what is taken from it."""

    def __init__(
        self, memory_bytes: int = 1 << 20, policy: str = "newest", max_taken: int = 2
    ) -> None:
        self.reports: list[str] = []
        self.ring = FrameRing(
            memory_bytes, policy, max_taken=max_taken, report=self.reports.append
        )

    def put(self, pixels: np.ndarray = FRAME, **metadata: object) -> bool:
        return self.ring.put(pixels, source="test", metadata=metadata)

    def take(self, most: int = 2):
        return self.ring.take(most, timeout=0)

    def finish(self, lease) -> None:
        self.ring.release(lease)
        self.ring.settle(processed=True)

    def balance(self) -> tuple[int, int, int, int]:
        counts = self.ring.counts()
        assert counts.captured == counts.processed + counts.dropped + counts.in_flight
        return counts.captured, counts.processed, counts.dropped, counts.in_flight


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.ring.close()


@pytest.fixture
def keeping() -> Iterator[Bench]:
    # Two result slots of 12288 bytes and five frames of 6144.
    bench = Bench(2 * 12288 + 5 * 6144, policy="all")
    yield bench
    bench.ring.close()


def test_the_same_error_is_reported_once(bench: Bench) -> None:
    for _ in range(5):
        assert not bench.put(np.array([object()]))
    assert len(bench.reports) == 1
    assert bench.balance() == (5, 0, 5, 0)


@pytest.mark.parametrize(
    ("memory_bytes", "taken"),
    [
        (3 * 12288 + 4 * 6144, 3),
        # One byte too few for three results and four frames.
        (3 * 12288 + 4 * 6144 - 1, 2),
        (2 * 12288 + 3 * 6144, 2),
        (2 * 12288 + 3 * 6144 - 1, 0),
    ],
)
def test_with_little_memory_fewer_are_taken_at_a_time(memory_bytes, taken) -> None:
    bench = Bench(memory_bytes, "all", max_taken=3)
    leases = []
    for _ in range(4):
        bench.put()
        leases.append(bench.take(most=3))
    there = [lease for lease in leases if lease is not None]
    assert len(there) == taken
    refused = [text for text in bench.reports if "memory_bytes of at least" in text]
    assert bool(refused) == (taken == 0)
    for lease in there:
        bench.finish(lease)
    bench.put()
    assert (bench.take(most=3) is not None) == (taken > 0)
    bench.ring.close()


def odd_frames() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    floats = rng.normal(size=(17, 23)).astype(np.float32)
    floats[3, 4], floats[5, 6] = np.nan, -np.inf
    return {
        "not numbers": floats,
        "RGB": rng.integers(0, 255, (12, 10, 3)).astype(np.uint8),
        "big-endian": rng.integers(0, 65535, (8, 9)).astype(">u2"),
        "transposed": FRAME.T,
        "every other pixel": FRAME[::2, ::-3],
        "one pixel": np.array([[7]], np.uint8),
        "no pixel": np.zeros((0, 5), np.float64),
        "scalar": np.array(3.5),
        "booleans": FRAME > 100,
        "complex": floats.astype(np.complex64),
        "read-only": np.broadcast_to(np.uint16(9), (5, 6)),
    }


@pytest.mark.parametrize("name", odd_frames())
def test_odd_frames_arrive_unchanged(bench: Bench, name: str) -> None:
    pixels = odd_frames()[name]
    assert bench.put(pixels, note=name)
    lease = bench.take()
    back = lease.raw()
    assert back.dtype == pixels.dtype
    assert back.dtype.byteorder == pixels.dtype.byteorder
    assert back.shape == pixels.shape
    np.testing.assert_array_equal(back, pixels)
    assert lease.info.metadata == {"note": name}
    assert back.base is None
    bench.finish(lease)


def test_newest_replaces_waiting_frames(bench: Bench) -> None:
    for value in range(5):
        bench.put(np.full_like(FRAME, value))
    assert bench.balance() == (5, 0, 4, 1)
    lease = bench.take()
    assert lease.info.number == 4
    assert (lease.raw() == 4).all()
    bench.finish(lease)
    assert bench.balance() == (5, 1, 4, 0)
    assert bench.reports == []


def test_all_keeps_the_order_and_drops_the_oldest_when_full(keeping: Bench) -> None:
    for value in range(8):
        keeping.put(np.full_like(FRAME, value))
    assert keeping.balance() == (8, 0, 3, 5)
    assert len(keeping.reports) == 1
    assert "budget" in keeping.reports[0]
    numbers = []
    while lease := keeping.take():
        assert (lease.raw() == lease.info.number).all()
        numbers.append(lease.info.number)
        keeping.finish(lease)
    assert numbers == [3, 4, 5, 6, 7]
    assert keeping.balance() == (8, 5, 3, 0)
    for _ in range(7):  # another outage is reported again
        keeping.put()
    assert len(keeping.reports) == 2


def test_no_more_are_taken_than_allowed(bench: Bench) -> None:
    bench.put()
    first = bench.take(most=1)
    bench.put()
    assert bench.take(most=1) is None
    second = bench.take(most=2)
    assert second.result != first.result
    bench.ring.drop(first)
    bench.finish(second)
    assert bench.balance() == (2, 1, 1, 0)


def test_a_frame_is_in_flight_until_it_is_settled(bench: Bench) -> None:
    bench.put()
    lease = bench.take()
    bench.ring.release(lease)
    assert bench.balance() == (1, 0, 0, 1)
    assert not bench.ring.wait_idle(0.01)
    bench.ring.settle(processed=True)
    assert bench.ring.wait_idle(0.01)


def test_a_larger_frame_makes_a_new_block_and_the_old_one_drains(bench: Bench) -> None:
    bench.put()
    small = bench.take()
    before = bench.ring.shared_bytes
    large = np.kron(FRAME, np.ones((2, 2), np.uint16))
    assert bench.put(large)
    grown = bench.ring.shared_bytes
    np.testing.assert_array_equal(small.raw(), FRAME)
    bench.finish(small)
    assert bench.ring.shared_bytes == grown - before
    lease = bench.take()
    np.testing.assert_array_equal(lease.raw(), large)
    bench.finish(lease)
    assert bench.put(FRAME)  # a smaller one uses the block that is there
    assert bench.ring.shared_bytes == grown - before


def test_a_source_that_waits_loses_no_frame_that_grows(keeping: Bench) -> None:
    first, second, third = (np.zeros((n, n), np.uint8) for n in (20, 30, 40))
    keeping.put(first)
    assert keeping.ring.wait_room(0, second)
    keeping.put(second)
    # Two blocks at most: this one waits until the first has drained.
    assert not keeping.ring.wait_room(0, third)
    keeping.finish(keeping.take())
    assert keeping.ring.wait_room(0, third)
    keeping.put(third)
    assert keeping.balance() == (3, 1, 0, 2)
    assert keeping.reports == []


def test_frames_lost_because_they_grow_are_reported(keeping: Bench) -> None:
    for side in (20, 30, 40):
        keeping.put(np.zeros((side, side), np.uint8))
    assert keeping.balance() == (3, 0, 1, 2)
    (report,) = keeping.reports
    assert "grown twice" in report


def test_more_pixels_in_as_many_bytes_need_a_larger_result(bench: Bench) -> None:
    bench.put(np.zeros((10, 10), np.uint16))
    assert bench.put(np.zeros((10, 20), np.uint8))
    assert bench.take().block.result_bytes >= 10 * 20 * 4


@pytest.mark.parametrize("policy", ["newest", "all"])
def test_never_more_than_two_blocks(policy: str) -> None:
    bench = Bench(1 << 20, policy)
    bench.put()
    stuck = bench.take()  # a worker that sleeps
    for size in range(50, 150):
        bench.put(np.zeros((size, size), np.uint16))
        assert bench.ring.shared_bytes <= 2 << 20
        bench.balance()
    bench.finish(stuck)
    assert bench.put(np.zeros((150, 150), np.uint16))
    bench.ring.close()
    assert bench.ring.shared_bytes == 0
    assert bench.balance()[3] == 0


def test_a_frame_beyond_the_budget_is_dropped_and_reported_once() -> None:
    bench = Bench(100_000)
    vast = np.zeros((300, 300), np.uint16)
    assert not bench.put(vast)
    assert not bench.put(vast)
    assert bench.balance() == (2, 0, 2, 0)
    (text,) = bench.reports
    assert "(300, 300)" in text
    need = int(text.split("at least ")[1].split(",")[0])
    enough = Bench(need)
    assert enough.put(vast)
    enough.ring.close()
    assert not Bench(need - 1).put(vast)
    bench.ring.close()


@pytest.mark.parametrize("pixels", [np.array([[None, {}]]), [[1, 2], [3]]])
def test_what_is_not_a_frame_is_dropped_without_raising(
    bench: Bench, pixels: object
) -> None:
    assert not bench.put(pixels)
    assert bench.balance() == (1, 0, 1, 0)
    assert "dropped" in bench.reports[0]
    assert bench.put()


def test_closing_releases_the_memory_with_the_last_frame() -> None:
    bench = Bench()
    bench.put()
    lease = bench.take()
    bench.put()
    name = lease.block.name
    assert len(bench.ring.buffer(name)) == bench.ring.shared_bytes
    bench.ring.close()
    assert bench.balance() == (2, 0, 1, 1)
    np.testing.assert_array_equal(lease.raw(), FRAME)
    bench.ring.drop(lease)
    assert bench.ring.shared_bytes == 0
    with pytest.raises(FileNotFoundError):
        SharedMemory(name)
    with pytest.raises(KeyError, match=name):
        bench.ring.buffer(name)
    assert not bench.put()
    assert bench.take() is None
    assert bench.balance() == (3, 0, 3, 0)


def test_room(bench: Bench, keeping: Bench) -> None:
    assert bench.ring.wait_room(0)
    bench.put()
    assert not bench.ring.wait_room(0)
    lease = bench.take()
    assert bench.ring.wait_room(0)
    bench.finish(lease)
    for _ in range(5):
        assert keeping.ring.wait_room(0)
        keeping.put()
    assert not keeping.ring.wait_room(0)
    keeping.finish(keeping.take())
    assert keeping.ring.wait_room(0)


@pytest.mark.parametrize("policy", ["newest", "all"])
def test_conservation_under_many_producers(policy: str) -> None:
    bench = Bench(200_000, policy)
    numbers: list[int] = []
    done = threading.Event()

    def produce(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(300):
            shape = rng.integers(1, 70, 2)
            bench.put(np.full(shape, shape[0], rng.choice(["u1", ">u2", "f4"])))

    def consume() -> None:
        while not done.is_set() or bench.balance()[3]:
            lease = bench.ring.take(2, 0.01)
            if lease is not None:
                pixels = lease.raw()
                assert (pixels == pixels.shape[0]).all()
                numbers.append(lease.info.number)
                bench.finish(lease)
            bench.balance()

    producers = [threading.Thread(target=produce, args=(k,)) for k in range(4)]
    consumer = threading.Thread(target=consume)
    for thread in (consumer, *producers):
        thread.start()
    for thread in producers:
        thread.join(20)
    done.set()
    consumer.join(20)
    captured, processed, _, in_flight = bench.balance()
    assert (captured, in_flight) == (1200, 0)
    assert processed == len(numbers) > 0
    assert numbers == sorted(set(numbers))
    assert all("budget" in r or "grown twice" in r for r in bench.reports)
    bench.ring.close()
    assert bench.ring.shared_bytes == 0


def test_putting_is_quick_while_nobody_takes(bench: Bench) -> None:
    bench = Bench(64 << 20)
    pixels = np.zeros((512, 512), np.uint16)
    took = []
    for _ in range(300):
        began = time.perf_counter()
        bench.put(pixels)
        took.append(time.perf_counter() - began)
    assert np.median(took) < 1e-3
    bench.ring.close()


def test_invalid_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="policy"):
        Bench(policy="oldest")
    with pytest.raises(ValueError, match="memory_bytes"):
        Bench(0)
