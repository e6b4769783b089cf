"""The methods that deblurring is judged by, each given the same frame and PSF."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load_file
from training.pictures import DataError

from deepblur_live.blur import expected_kernels
from deepblur_live.deblurring import FoldedFista, build_deblurring
from deepblur_live.optics import extend, frame_part, margin
from deepblur_live.optics.noise_fit import measure_noise
from deepblur_live.runtime.executor import deblur_frame, frame_operator
from deepblur_live.runtime.guard import FrameGuard, untreatable
from deepblur_live.runtime.pack import load_manifest, load_pack
from evaluation.classical import best_wiener, richardson_lucy
from evaluation.richardson_lucy import (
    accelerated_richardson_lucy,
    consensus_richardson_lucy,
    tv_richardson_lucy,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from deepblur_live.blur.zernike import ZernikeFamily
    from deepblur_live.deblurring import UnrolledFista
    from deepblur_live.optics import NoiseModel
    from evaluation.deblurring_frames import Frame

    Pixels = NDArray[np.float64]

__all__ = ["MEASURED", "RAW", "SHOWN", "deblurred", "methods", "networks"]

RAW = "raw"
MEASURED, SHOWN = "{}, noise measured", "{}, shown"
"""Names of a network's images besides that with the known noise."""


@lru_cache(maxsize=2)
def networks(model: Path, weights: tuple[Path, ...]) -> dict[str, UnrolledFista]:
    """Return a model's networks, and those in folders that a training writes.

    Raises
    ------
    DataError
        When a folder lacks a training's files, or they do not fit each other.
    """
    found = {"quality": load_pack(str(model)).deblurring}
    if load_manifest(str(model))[1].deblurring_live is not None:
        found["live"] = load_pack(str(model), ("live",)).deblurring
    for folder in weights:
        try:
            training = json.loads((folder / "training.json").read_text("utf-8"))
            network = build_deblurring(training["architecture"])
            network.load_state_dict(load_file(folder / "weights.safetensors"))
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise DataError(
                f"--weights {folder}: not the folder of a training of "
                f"tools/train_deblurring.py: {error}"
            ) from error
        name = f"{folder.parent.name} {training['progress']['samples']}"
        found[name] = network.eval()
    return found


def _measured(frame: Frame, family: ZernikeFamily) -> NoiseModel | None:
    """Return the noise as measured from the frame, without a camera's calibration."""
    return measure_noise(frame.image, family.cutoff, float(frame.noise.least))


@torch.no_grad()
def deblurred(
    network: UnrolledFista, frame: Frame, family: ZernikeFamily, noise: NoiseModel
) -> torch.Tensor:
    """Return the image (H, W) of a network, used as live, in float32."""
    kernels = expected_kernels(family, frame.gamma, frame.covariance)
    fold = network.proximal.shrink
    shape = (frame.image.shape[0], frame.image.shape[1])
    operator = frame_operator(family, kernels, shape, fold)
    return deblur_frame(
        FoldedFista(network), frame.image, operator, noise, family.window, fold
    )


def _shown(
    frame: Frame, image: torch.Tensor, family: ZernikeFamily, noise: NoiseModel
) -> torch.Tensor:
    """Return what the window shows of a deblurred image (H, W), judged as live."""
    if untreatable(frame.image, noise):
        return frame.image
    verdict = FrameGuard(family).verdict(
        frame.image, image, frame.gamma, frame.covariance, noise
    )
    return frame.image.lerp(image, verdict.strength)


@torch.no_grad()
def _classical(frame: Frame, family: ZernikeFamily) -> dict[str, Pixels]:
    """Return the images (H, W) of light of the classical filters.

    They know the camera's offset, and its gain where they need it.
    """
    psf = family.psf(frame.gamma)
    light = torch.from_numpy(frame.light(frame.image)).float()
    whole = extend(light, margin(family.window))
    rows, columns = light.shape
    part = frame_part((whole.shape[-2], whole.shape[-1]), (rows, columns))
    images = {
        "RL 5": richardson_lucy(whole, psf, 5),
        "RL 20": richardson_lucy(whole, psf, 20),
        "RL 20, TV": tv_richardson_lucy(whole, psf),
        "Biggs–Andrews 7": accelerated_richardson_lucy(whole, psf),
        "RLGC": consensus_richardson_lucy(whole, psf, frame.electrons),
    }
    found = {name: image[part].double().numpy() for name, image in images.items()}
    if frame.truth is not None:
        everywhere = (slice(None), slice(None))
        wiener = best_wiener(whole, psf, frame.truth, everywhere)
        found["oracle Wiener"] = wiener.astype(np.float64)
    return found


def methods(
    frame: Frame, family: ZernikeFamily, networks: dict[str, UnrolledFista]
) -> dict[str, Pixels]:
    """Return each method's image (H, W) of light.

    A network has three: with the noise that a calibrated camera has, with the noise
    measured from the frame, and what is shown of the latter after the live checks. A
    frame whose noise cannot be measured stays raw.
    """
    images = {RAW: frame.light(frame.image)} | _classical(frame, family)
    measured = _measured(frame, family)
    for name, network in networks.items():
        image = shown = frame.image
        if measured is not None:
            image = deblurred(network, frame, family, measured)
            shown = _shown(frame, image, family, measured)
        known = deblurred(network, frame, family, frame.noise)
        images[name] = frame.light(known)
        images[MEASURED.format(name)] = frame.light(image)
        images[SHOWN.format(name)] = frame.light(shown)
    return images
