"""Pipelines for workers to run in tests: importable in a process, numpy alone."""

import os
import time
import zlib

import numpy as np

from deepblur_live.runtime.frame import (
    Frame,
    FrameResult,
    FrameState,
    SynchronousPipeline,
)


def deblurred(frame: Frame, pixels: np.ndarray, **fields: object) -> FrameResult:
    return FrameResult(
        frame.info,
        FrameState.DEBLURRED,
        raw=frame.pixels,
        deblurred=pixels,
        **fields,
    )


class Echo(SynchronousPipeline):
    """Returns the pixels themselves, after a delay."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s

    def process(self, frame: Frame) -> FrameResult:
        time.sleep(self.delay_s)
        pixels = frame.pixels.astype(np.float32)
        return deblurred(frame, pixels, timings={"total": 1e3 * self.delay_s})


class Naming(SynchronousPipeline):
    """Passes every frame on raw; the reason says what arrived in the worker."""

    def process(self, frame: Frame) -> FrameResult:
        name = fingerprint(frame.pixels)
        return FrameResult(frame.info, FrameState.RAW_ONLY, name, raw=frame.pixels)


def fingerprint(pixels: np.ndarray) -> str:
    return f"{pixels.dtype.str} {pixels.shape} {zlib.crc32(pixels.tobytes())}"


class Raising(SynchronousPipeline):
    """Raises at every frame of odd number."""

    def process(self, frame: Frame) -> FrameResult:
        if frame.number % 2:
            raise ValueError("odd frames displease")
        return Echo().process(frame)


class Dying(SynchronousPipeline):
    """Ends its process at a frame that holds a 13."""

    def process(self, frame: Frame) -> FrameResult:
        if (frame.pixels == 13).any():
            os._exit(3)
        return Echo().process(frame)


class Hanging(SynchronousPipeline):
    """Never returns from a frame that holds a 13."""

    def process(self, frame: Frame) -> FrameResult:
        if (frame.pixels == 13).any():
            time.sleep(3600)
        return Echo().process(frame)


class Unpicklable(SynchronousPipeline):
    """Returns what cannot leave the process."""

    def process(self, frame: Frame) -> FrameResult:
        return deblurred(frame, None, estimate=lambda: None)


class Larger(SynchronousPipeline):
    """Returns more pixels than came in."""

    def process(self, frame: Frame) -> FrameResult:
        return deblurred(frame, np.kron(frame.pixels, np.ones((3, 3), np.float32)))


def failing() -> Echo:
    raise FileNotFoundError("no weights of model 'nobody' in engines/")


class Knowing(SynchronousPipeline):
    """Passes every frame on raw; the reason says what the worker starts from."""

    def __init__(self) -> None:
        self.known = "nothing"

    def start_from(self, known: object) -> None:
        self.known = (
            f"{known.coefficients.tolist()} at {known.time}, "
            f"variance {known.covariance[0, 0]}"
        )

    def process(self, frame: Frame) -> FrameResult:
        return FrameResult(
            frame.info, FrameState.RAW_ONLY, self.known, raw=frame.pixels
        )
