"""Where a core's frames lie on the sensor."""

from __future__ import annotations

from pymmcore_plus import CMMCorePlus

from deepblur_live.acquisition.core_source import CoreSource
from deepblur_live.acquisition.simulated import simulated_core

KEYS = ("region", "sensor", "binning", "binning_before")


def snapped(core: CMMCorePlus) -> tuple[CoreSource, list[dict]]:
    found: list[dict] = []

    def accept(pixels, metadata, source):
        found.append({key: metadata[key] for key in KEYS if key in metadata})

    def fail(text):
        raise AssertionError(text)

    return CoreSource(core, accept, on_gap=fail, report=fail), found


def test_the_region_follows_the_camera(core: CMMCorePlus) -> None:
    source, found = snapped(core)
    core.snapImage()
    core.setROI(64, 32, 256, 300)
    core.snapImage()
    core.setProperty("Camera", "Binning", "2")
    core.snapImage()
    core.clearROI()
    core.snapImage()
    source.close()
    # The camera keeps its region of unbinned pixels.
    sensor = {"sensor": (512, 512), "binning": 1}
    binned = sensor | {"binning": 2, "binning_before": 1}
    assert found == [
        {"region": (0, 0, 512, 512)} | sensor,
        {"region": (32, 64, 300, 256)} | sensor,
        {"region": (32, 64, 300, 256)} | binned,
        {"region": (0, 0, 512, 512)} | binned,
    ]


def test_a_sensor_of_which_only_a_region_was_seen_is_unknown() -> None:
    core = simulated_core()
    core.setROI(64, 32, 256, 300)
    source, found = snapped(core)
    core.snapImage()
    core.clearROI()
    core.snapImage()
    source.close()
    assert found == [
        {"region": (32, 64, 300, 256), "binning": 1},
        {"region": (0, 0, 512, 512), "sensor": (512, 512), "binning": 1},
    ]


def test_a_region_that_cannot_be_read_is_said_to_be_unknown(
    core: CMMCorePlus, monkeypatch
) -> None:
    source, found = snapped(core)
    core.snapImage()
    monkeypatch.setattr(core, "getROI", lambda: (0, 0, 100, 100))
    core.snapImage()

    def busy() -> None:
        raise RuntimeError("the camera is busy")

    monkeypatch.setattr(core, "getROI", busy)
    core.snapImage()
    source.close()
    assert found[1:] == [{"region": None, "binning": 1}, {"region": None}]
