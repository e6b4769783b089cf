"""Makes importable: slides and states simulated for tests, and the tools' PSF code."""

import sys
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
sys.path += [str(_HERE), str(_HERE.parent / "blur"), str(_HERE.parents[1] / "tools")]


@pytest.fixture(autouse=True, scope="session")
def few_beads_for_the_aperture():
    """The fits with other NAs take half of the time of a small calibration."""
    from deepblur_live.calibration import calibrate

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibrate, "_FOR_APERTURE", 3)
        yield
