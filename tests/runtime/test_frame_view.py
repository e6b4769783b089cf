"""Which part of the sensor a frame shows, and why it may not be known."""

import pytest

from deepblur_live.blur.field_basis import FieldView
from deepblur_live.runtime.frame_view import frame_view

WHOLE = {"region": (0, 0, 2048, 2048), "sensor": (2048, 2048), "binning": 1}


@pytest.mark.parametrize(
    ("shape", "metadata", "sensor", "view"),
    [
        ((1024, 1200), {}, None, FieldView(1024, 1200)),
        ((2048, 2048), WHOLE, None, FieldView(2048, 2048)),
        (
            (800, 900),
            WHOLE | {"region": (100, 200, 800, 900)},
            None,
            FieldView(2048, 2048, 100, 200, 800, 900),
        ),
        # Binned: region and sensor are in unbinned pixels.
        ((1024, 1024), WHOLE | {"binning": 2}, None, FieldView(2048, 2048)),
        ((1024, 1280), {"binning": 2}, (2048, 2560), FieldView(2048, 2560)),
        ((1024, 1024), {"binning": 2}, None, FieldView(2048, 2048)),
        ((2048, 2560), {}, (2048, 2560), FieldView(2048, 2560)),
        # The profile's sensor is preferred to the largest region so far.
        (
            (1024, 1024),
            {"region": (0, 0, 1024, 1024), "sensor": (1024, 1024)},
            (2048, 2048),
            FieldView(2048, 2048, 0, 0, 1024, 1024),
        ),
    ],
)
def test_the_part_that_a_frame_shows(shape, metadata, sensor, view):
    assert frame_view(shape, metadata, sensor) == view


@pytest.mark.parametrize(
    ("shape", "metadata", "sensor", "reason"),
    [
        ((512, 900), {}, None, "512 × 900 pixels, but a field needs at least 768"),
        ((1000, 1000), {}, (2048, 2048), "on the sensor of 2048 × 2048 is unknown"),
        # Half as many pixels may be a region or binning.
        ((1024, 1024), {}, (2048, 2048), "on the sensor of 2048 × 2048 is unknown"),
        ((1024, 1024), {"region": None, "binning": 1}, None, "could not be read"),
        (
            (1000, 1000),
            {"region": (8, 8, 1000, 1000), "binning": 1},
            None,
            "give sensor_rows and sensor_columns",
        ),
        (
            (1024, 1024),
            WHOLE | {"binning": 2, "binning_before": 1},
            None,
            "binning has changed from 1 to 2",
        ),
        (
            (1000, 1000),
            WHOLE | {"region": (1500, 0, 1000, 1000)},
            None,
            "reaches beyond the sensor",
        ),
    ],
)
def test_why_one_psf_serves_a_frame(shape, metadata, sensor, reason):
    assert reason in frame_view(shape, metadata, sensor)
