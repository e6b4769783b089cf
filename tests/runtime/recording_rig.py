"""A rig whose pipelines record what becomes of them, for tests of what makes them."""

import numpy as np

from deepblur_live.runtime.frame import Frame, SynchronousPipeline


class Recorder(SynchronousPipeline):
    """Records what it was started from, and whether it was closed."""

    def __init__(self, family):
        self.family, self.known, self.closed = family, [], False

    def start_from(self, known):
        self.known.append(known)

    def close(self):
        self.closed = True


class RecordingRig:
    """Shows frames to a pipeline, a second apart, and lists the inner ones it makes."""

    def __init__(self, recorder, build):
        self.made, self._recorder = [], recorder
        self.pipeline = build(self._make)
        self._time = 0.0

    def _make(self, family):
        self.made.append(self._recorder(family))
        return self.made[-1]

    def show(self, *shape, **metadata):
        self._time += 1.0
        pixels = np.zeros(shape, np.uint16)
        frame = Frame(pixels, 0, self._time, "live", metadata)
        return self.pipeline.submit(frame).result()
