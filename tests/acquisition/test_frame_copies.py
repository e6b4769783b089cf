"""How often a frame is copied: each image once into the ring, once out of it."""

import tracemalloc

import numpy as np

from deepblur_live.acquisition import DeblurListener
from deepblur_live.runtime.frame import FrameResult, FrameState, SynchronousPipeline

SHAPE = (1024, 1024)
RAW_BYTES, DEBLURRED_BYTES = 2 * 1024**2, 4 * 1024**2
SLACK = 256 * 1024
PIXELS = np.arange(1024**2, dtype=np.uint16).reshape(SHAPE)
DEBLURRED = PIXELS.astype(np.float32)


def address(pixels):
    return pixels.__array_interface__["data"][0]


class Recording(SynchronousPipeline):
    """Returns an array that exists already, and records what memory was used."""

    def process(self, frame):
        self.address = address(frame.pixels)
        self.allocated = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        return FrameResult(
            frame.info, FrameState.DEBLURRED, raw=frame.pixels, deblurred=DEBLURRED
        )


def test_each_picture_is_copied_into_the_ring_and_out_of_it(results, monkeypatch):
    copied = []
    copyto = np.copyto

    def counting(destination, source, **options):
        copied.append((address(destination), address(source)))
        copyto(destination, source, **options)

    pipeline = Recording()
    with DeblurListener(lambda: pipeline, in_process=True) as listener:
        results.listen(listener)
        listener.submit(PIXELS)
        results.wait(lambda: results.all)
        assert listener.drain(5)
        results.all.clear()

        monkeypatch.setattr(np, "copyto", counting)
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        listener.submit(PIXELS)
        results.wait(lambda: results.all)
        assert listener.drain(5)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        (result,) = results.all

        block = listener._ring._block
        base = address(np.frombuffer(block.buffer, np.uint8))
        frame, deblurred = pipeline.address, base + block.result_offset(0)
        # The pipeline works on the slot itself: until then nothing was allocated.
        assert base <= frame < deblurred
        assert pipeline.allocated[1] - before < SLACK
        # Raw into its slot, deblurred into its slot, and both out for good.
        assert len(copied) == 4
        assert copied[0] == (frame, address(PIXELS))
        assert copied[1][1] == address(DEBLURRED)
        slot = copied[1][0]
        assert deblurred <= slot < base + block.size
        assert set(copied[2:]) == {
            (address(result.raw), frame),
            (address(result.deblurred), slot),
        }
        assert peak - before < RAW_BYTES + DEBLURRED_BYTES + SLACK
    np.testing.assert_array_equal(result.raw, PIXELS)
    np.testing.assert_array_equal(result.deblurred, DEBLURRED)
