"""A calibration's folder with given states, written without a fit."""

import hashlib
import json

import numpy as np
from safetensors.numpy import save
from stack_slides import PROFILE

from deepblur_live.calibration.folder import MANIFEST, TENSORS
from deepblur_live.calibration.manifest import (
    FORMAT,
    OPTICS,
    VERSION,
    CalibratedOptics,
    CalibrationManifest,
    State,
)

__all__ = ["BLUR_NM", "NOLL", "write_calibration"]

NOLL = tuple(range(5, 12))
BLUR_NM = 70.0


# Of beads, in a frame of 170 × 170: as many as make the field linear.
PLACES = np.array([(r, c, 0.0) for r in (15, 60, 110, 155) for c in (15, 60, 110, 155)])


def write_calibration(
    folder, trends, optics=PROFILE.optics, blur_nm=BLUR_NM, bowl=0.0, beads=False
):
    """Write states with these trends (S, 3, P) of Noll 5-11; return the folder.

    `bowl` is added to all modes at the edges of the rows, along a parabola. With
    `beads` there are images: spots that widen from row to row.
    """
    folder.mkdir()
    modes = len(NOLL)
    unit = PLACES[:, :2] / 170 - 0.5
    design = np.column_stack([np.ones(len(unit)), unit])
    curved = bowl * (2 * unit[:, :1]) ** 2
    tensors = {}
    for k, trend in enumerate(trends):
        tensors |= {
            f"{k}.trend": np.asarray(trend, dtype=np.float64),
            f"{k}.covariance": 1e-6 * np.eye(modes),
            f"{k}.scatter": np.full(modes, 1e-3),
            f"{k}.residual": np.zeros((3, 5, 5)),
            f"{k}.coefficients": design @ np.asarray(trend) + curved,
            f"{k}.places": PLACES,
        }
        if beads:
            squared = np.sum(np.square(np.indices((21, 21)) - 10), axis=0)
            width = 2 + 2 * PLACES[:, 0, None, None] / 170
            images = np.exp(-squared / 2 / width**2)[:, None]
            tensors[f"{k}.beads"] = np.repeat(images, 3, axis=1).astype(np.float32)
    content = save(tensors)
    (folder / TENSORS).write_bytes(content)
    state = State(
        file="beads.ome.tif",
        sha256="",
        shape=[170, 170],
        planes=[0, 1, 2],
        z_um=[-0.5, 0.0, 0.5],
        beads={"used": 11},
        blur_nm=blur_nm,
        blur_error_nm=0.2,
        preferred_aperture=None,
        preferred_aperture_error=None,
        scatter_nm=2.0,
        held_out_pupil_db=17.0,
        held_out_db=17.0,
        modes_tried={},
    )
    manifest = CalibrationManifest(
        format=FORMAT,
        version=VERSION,
        name="rig",
        created="2025-01-01T00:00",
        program="test",
        optics=CalibratedOptics(**{key: float(getattr(optics, key)) for key in OPTICS}),
        noll=list(NOLL),
        bead_diameter_nm=100.0,
        states=[state] * len(trends),
        files={TENSORS: hashlib.sha256(content).hexdigest()},
    )
    text = json.dumps(manifest.model_dump())
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    return folder
