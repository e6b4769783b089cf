"""Reduced strength is noted once when it begins, and once when it ends."""

import logging
from types import SimpleNamespace

import pytest

from deepblur_live.runtime.frame import FrameState
from deepblur_live.session.strength import StrengthWatch

WHY = "60% strength: the blur is uncertain (± 50 nm)"


class Notifier:
    time = 61.0

    def __init__(self):
        self.events = []

    def event(self, event, **values):
        self.events.append((event, values))


@pytest.fixture
def follow():
    notifier = Notifier()
    watch = StrengthWatch(notifier)

    def take(strength, reason="", state=FrameState.DEBLURRED):
        watch.follow(SimpleNamespace(state=state, strength=strength, reason=reason))
        return [kind for kind, _ in notifier.events]

    take.notifier = notifier
    return take


def test_each_period_of_reduced_strength_has_two_events(follow, caplog):
    with caplog.at_level(logging.INFO, "deepblur_live"):
        assert follow(1.0) == []
        assert follow(0.6, WHY) == ["strengthReduced"]
        assert follow(0.5, WHY) == ["strengthReduced"]
        # About the limit at which a reason is given it does not end at once.
        assert follow(0.77) == ["strengthReduced"]
        assert follow(0.9) == ["strengthReduced", "strengthRestored"]
        assert follow(0.77) == ["strengthReduced", "strengthRestored"]
    assert follow.notifier.events[0][1] == {"strength": 0.6, "reason": WHY}
    assert [record.message.split(": ", 1)[1] for record in caplog.records] == [
        WHY,
        "frames are shown at 80% strength or more again",
    ]


def test_raw_frames_neither_begin_nor_end_it(follow):
    assert follow(0.0, "saturated", FrameState.RAW_ONLY) == []
    follow(0.6, WHY)
    assert follow(0.0, "saturated", FrameState.RAW_ONLY) == ["strengthReduced"]
