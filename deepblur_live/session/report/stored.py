"""What a session computes at its end for its report, in ``report.npz``.

Computing it needs torch, which a session has loaded anyway; importing it would take
more than half of the time of a report.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deepblur_live.blur.family import Quality
from deepblur_live.session.blur_facts import BlurFacts
from deepblur_live.session.quality import BlurQuality, Grade
from deepblur_live.session.report.moment import Moment, Point

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["FILE", "StoredBlurs", "read_stored", "write_stored"]

FILE = "report.npz"
_FORMAT = 1


@dataclass(frozen=True)
class StoredBlurs:
    """The blurs that a session has stored for its report.

    Parameters
    ----------
    facts
        Facts about the family, by wavelength in nm.
    moments
        Start, worst and end of the series that the report shows, and the reference.
    """

    facts: Mapping[float, BlurFacts]
    moments: Sequence[Moment]


def write_stored(path: Path, profile: Mapping[str, Any], blurs: StoredBlurs) -> None:
    """Write the blurs that the report of a session shows.

    Parameters
    ----------
    profile
        As in ``session.json``.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    shown = blurs.moments
    about = {
        "format": _FORMAT,
        "profile": profile,
        "families": [
            {"wavelength_nm": nm, "facts": asdict(facts)}
            for nm, facts in blurs.facts.items()
        ],
        "moments": [
            {
                "name": moment.point.name,
                "time": moment.point.time,
                "quality": asdict(moment.quality),
                "distance": moment.distance,
            }
            for moment in shown
        ],
    }
    arrays: dict[str, Any] = {
        "coefficients": [moment.point.coefficients for moment in shown],
        "sigma": [moment.point.sigma for moment in shown],
        "psfs": [moment.psfs for moment in shown],
    }
    if shown[0].errors is not None:
        arrays["errors"] = [moment.errors for moment in shown]
    text = json.dumps(about, default=np.ndarray.tolist)
    np.savez_compressed(path, about=text, **arrays)


def read_stored(folder: Path, profile: Mapping[str, Any]) -> StoredBlurs | None:
    """Return the blurs that a session has stored; None if they must be computed.

    That is the case for a session that was cut off, one of an older version, or one
    whose `profile`, as in ``session.json``, was edited since.
    """
    try:
        with (folder / FILE).open("rb") as opened, np.load(opened) as file:
            arrays = dict(file)
        about = json.loads(str(arrays["about"]))
        if about["format"] != _FORMAT or about["profile"] != profile:
            return None
        return StoredBlurs(
            {
                float(one["wavelength_nm"]): BlurFacts.from_json(one["facts"])
                for one in about["families"]
            },
            [_moment(one, k, arrays) for k, one in enumerate(about["moments"])],
        )
    # The content of a file that is cut off or damaged is computed again, too.
    except (OSError, ValueError, TypeError, LookupError, EOFError, zipfile.BadZipFile):
        return None


def _moment(content: Mapping[str, Any], k: int, arrays: Mapping[str, Any]) -> Moment:
    point = Point(
        content["name"],
        content["time"],
        arrays["coefficients"][k],
        arrays["sigma"][k],
    )
    quality, distance = content["quality"], content["distance"]
    return Moment(
        point,
        BlurQuality(
            None if quality["grade"] is None else Grade(quality["grade"]),
            tuple(Quality(**one) for one in quality["measures"]),
            tuple(quality["sigmas"]),
        ),
        arrays["psfs"][k],
        arrays["errors"][k] if "errors" in arrays else None,
        None if distance is None else (distance[0], distance[1]),
    )
