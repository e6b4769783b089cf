"""Where a core's frames lie on the sensor."""

from __future__ import annotations

from pymmcore_plus import CMMCorePlus

from deepblur_live.acquisition.core_region import CoreRegion
from deepblur_live.acquisition.core_source import CoreSource
from deepblur_live.acquisition.simulated import simulated_core

KEYS = ("region", "sensor", "binning", "binning_before")


def snapped(core: CMMCorePlus) -> tuple[CoreSource, list[dict]]:
    found: list[dict] = []

    def accept(pixels, metadata, source):
        found.append({key: metadata[key] for key in KEYS if key in metadata})

    def fail(text):
        raise AssertionError(text)

    return CoreSource(
        core, accept, on_missed=fail, every=lambda: False, report=fail
    ), found


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


def test_a_region_that_cannot_be_read_is_reported_as_unknown(
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


def test_a_binning_that_differs_along_the_sides_has_no_place(
    core: CMMCorePlus, monkeypatch
) -> None:
    monkeypatch.setattr(core, "getProperty", lambda *_: "2x1")
    found = CoreRegion(core).metadata((512, 512))
    assert found["region"] is None and "binning" not in found
    monkeypatch.setattr(core, "getProperty", lambda *_: "2 x 2")
    again = CoreRegion(core).metadata((512, 512))
    assert (again["region"], again["binning"]) == ((0, 0, 1024, 1024), 2)


def test_another_objective_in_live_mode_is_noticed(core: CMMCorePlus) -> None:
    now = [0.0]
    region = CoreRegion(core, lambda: now[0])

    def size_nm(after: float = 0.5) -> float | None:
        now[0] += after
        return region.metadata((512, 512)).get("pixel_size_nm")

    core.startContinuousSequenceAcquisition()
    labels = core.getStateLabels("Objective")
    assert size_nm() == 1000.0
    core.setStateLabel("Objective", "Nikon 40X Plan Fluor ELWD")
    # Twice a second, not for every frame.
    assert size_nm(0.1) == 1000.0
    assert size_nm() == 250.0
    # One without a pixel size in the configuration.
    core.setStateLabel("Objective", labels[-1])
    assert size_nm() == 0.0
    core.setStateLabel("Objective", labels[1])
    assert size_nm() == 1000.0
    core.stopSequenceAcquisition()


def test_a_core_without_pixel_sizes_states_none(core: CMMCorePlus) -> None:
    for name in core.getAvailablePixelSizeConfigs():
        core.deletePixelSizeConfig(name)
    region = CoreRegion(core)
    assert "pixel_size_nm" not in region.metadata((512, 512))
