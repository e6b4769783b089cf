"""The part of a core's metadata that is kept with a frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deepblur_live.acquisition.truth import TRUTH_KEY, TRUTH_TIME_KEY, read_truth

__all__ = ["live_metadata", "mda_metadata"]


def mda_metadata(event: object, metadata: object) -> dict[str, Any]:
    """Return the metadata to keep of a ``frameReady``.

    Parameters
    ----------
    event
        `useq.MDAEvent`: its index is kept, as ``"index"``, and the names of its
        channel and position, as ``"channel"`` and ``"position"``.
    metadata
        `pymmcore_plus.metadata.FrameMetaV1`: ``"exposure_ms"``, ``"runner_time_ms"``
        and ``"camera"`` are kept, and ``"truth"`` of the camera's own metadata.
    """
    kept: dict[str, Any] = {}
    index = getattr(event, "index", None)
    if isinstance(index, Mapping):
        # Plain text and numbers, so that the worker does not have to import useq.
        kept["index"] = {str(getattr(k, "value", k)): int(v) for k, v in index.items()}
    channel = getattr(getattr(event, "channel", None), "config", None)
    for key, name in (
        ("channel", channel),
        ("position", getattr(event, "pos_name", None)),
    ):
        if name:
            kept[key] = str(name)
    if not isinstance(metadata, Mapping):
        return kept
    for key in ("exposure_ms", "runner_time_ms"):
        if key in metadata:
            kept[key] = float(metadata[key])
    if metadata.get("camera_device"):
        kept["camera"] = str(metadata["camera_device"])
    _keep_truth(kept, metadata)
    return kept


def live_metadata(tags: Mapping[str, Any], exposure_ms: float) -> dict[str, Any]:
    """Return the metadata to keep of the tags of a live frame."""
    kept: dict[str, Any] = {"exposure_ms": exposure_ms}
    for key, tag, kind in (
        ("camera", "Camera", str),
        ("image_number", "ImageNumber", int),
    ):
        if tag in tags:
            kept[key] = kind(tags[tag])
    _keep_truth(kept, tags)
    return kept


def _keep_truth(kept: dict[str, Any], metadata: Mapping[str, Any]) -> None:
    truth = read_truth(metadata)
    if truth is not None:
        kept[TRUTH_KEY] = truth.coefficients
        kept[TRUTH_TIME_KEY] = truth.time
