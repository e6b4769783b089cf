"""Pipelines for workers to run in tests: importable in a process, numpy alone."""

import os
import time
import zlib

import numpy as np

from deepblur_live.runtime.frame import Frame, FrameResult, FrameState


class Echo:
    """Answers with the pixels themselves, after a while if told so."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s

    def process(self, frame: Frame) -> FrameResult:
        time.sleep(self.delay_s)
        return FrameResult(
            frame,
            FrameState.DEBLURRED,
            deblurred=frame.pixels.astype(np.float32),
            timings={"total": 1e3 * self.delay_s},
        )


class Naming:
    """Passes every frame on raw; the reason says what arrived in the worker."""

    def process(self, frame: Frame) -> FrameResult:
        return FrameResult(frame, FrameState.RAW_ONLY, fingerprint(frame.pixels))


def fingerprint(pixels: np.ndarray) -> str:
    return f"{pixels.dtype.str} {pixels.shape} {zlib.crc32(pixels.tobytes())}"


class Raising:
    """Raises at every frame of odd number."""

    def process(self, frame: Frame) -> FrameResult:
        if frame.number % 2:
            raise ValueError("odd frames displease")
        return Echo().process(frame)


class Dying:
    """Ends its process at a frame that holds a 13."""

    def process(self, frame: Frame) -> FrameResult:
        if (frame.pixels == 13).any():
            os._exit(3)
        return Echo().process(frame)


class Hanging:
    """Never comes back from a frame that holds a 13."""

    def process(self, frame: Frame) -> FrameResult:
        if (frame.pixels == 13).any():
            time.sleep(3600)
        return Echo().process(frame)


class Unpicklable:
    """Answers with what cannot leave the process."""

    def process(self, frame: Frame) -> FrameResult:
        return FrameResult(frame, FrameState.DEBLURRED, estimate=lambda: None)


class Larger:
    """Answers with more pixels than came in."""

    def process(self, frame: Frame) -> FrameResult:
        large = np.kron(frame.pixels, np.ones((3, 3), np.float32))
        return FrameResult(frame, FrameState.DEBLURRED, deblurred=large)


def failing() -> Echo:
    raise FileNotFoundError("no weights of model 'nobody' in engines/")
