"""A model: its manifest and its weights, found, checked and loaded; never a pickle."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load

from deepblur_live.blur import ErrorModel, family_from_manifest
from deepblur_live.deblurring import build_deblurring
from deepblur_live.identification import IdentificationNet, SpecimenSpectrum

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from deepblur_live.blur import BlurFamily
    from deepblur_live.deblurring import UnrolledFista
    from deepblur_live.profile import Optics

__all__ = [
    "Manifest",
    "ModelPack",
    "PackError",
    "find_packs",
    "load_manifest",
    "load_pack",
    "preferred_weights",
]


class PackError(ValueError):
    """A model that cannot be used; the text names the file and the remedy."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Weights(_Part):
    """One network's weights file."""

    file: str
    sha256: str
    architecture: dict[str, int | str] = {}
    training: dict[str, Any] = {}


class Manifest(_Part):
    """The contents of a model's ``manifest.json``; every key is checked.

    Parameters
    ----------
    name, family, noll
        The model's name, the family of blurs it was trained on, as in a profile's
        ``model.family``, and that family's modes.
    sampling_min, sampling_max
        Range of λ/(NA·px) in pixels that the model can be used for.
    trained_sampling, trained_noise
        λ/(NA·px) and range of noise (of frames in [0, 1]) in training.
    identification, deblurring
        The two networks' weights.
    deblurring_live
        A smaller deblurring network that is nearly as good, for live frames on a CPU.
    specimen
        The learned prior of specimens' own spectra.
    error_model
        Sizes and tails of its estimates' errors, see `ErrorModel`.
    accuracy
        As measured by ``tools/evaluate.py``.
    """

    name: str
    family: str
    noll: list[int]
    sampling_min: float
    sampling_max: float
    trained_sampling: float
    trained_noise: list[float]
    identification: Weights
    deblurring: Weights
    deblurring_live: Weights | None = None
    specimen: Weights
    error_model: ErrorModel
    accuracy: dict[str, Any] = {}


@dataclass(frozen=True)
class ModelPack:
    """A model's networks, ready for use on the CPU in float32.

    Parameters
    ----------
    folder
        Folder of the model.
    manifest
        Description of the model.
    family
        The family of blurs it was trained on, with the default optics.
    identification, deblurring
        The networks, in evaluation mode.
    specimen
        Prior of specimens' own spectra.
    weights
        Which deblurring network it is: ``"quality"`` or ``"live"``.
    """

    folder: Path
    manifest: Manifest
    family: BlurFamily
    identification: IdentificationNet
    deblurring: UnrolledFista
    specimen: SpecimenSpectrum
    weights: str = "quality"

    def check(self, optics: Optics) -> None:
        """Check that the optics are within the model's range of sampling.

        Raises
        ------
        PackError
            When λ/(NA·px) is outside the model's range.
        """
        unit = optics.wavelength_nm / optics.numerical_aperture
        # As `ZernikeFamily.cutoff`, so that the limits are the same to the last digit.
        sampling = 1 / (
            optics.numerical_aperture * optics.pixel_size_nm / optics.wavelength_nm
        )
        low, high = self.manifest.sampling_min, self.manifest.sampling_max
        if not low <= sampling <= high:
            raise PackError(
                f"optics.pixel_size_nm {optics.pixel_size_nm:g}: λ/(NA·px) is "
                f"{sampling:.2f} pixels, and the model {self.manifest.name!r} supports "
                f"{low:g} to {high:g}; with this objective and wavelength that is a "
                f"pixel of {unit / high:.0f} to {unit / low:.0f} nm in the specimen"
            )


def find_packs() -> dict[str, Path]:
    """Return the installed models: name → folder.

    They are inside an installed package, and next to the package in a checkout.
    """
    package = Path(__file__).parents[1]
    found: dict[str, Path] = {}
    for engines in (package / "engines", package.parent / "engines"):
        if engines.is_dir():
            for manifest in sorted(engines.glob("*/manifest.json")):
                found.setdefault(manifest.parent.name, manifest.parent)
    return found


def load_manifest(name: str) -> tuple[Path, Manifest]:
    """Return the folder and the manifest of a model, by its name or its folder.

    Raises
    ------
    PackError
        When there is no such model, or its manifest is not valid.
    """
    packs = find_packs()
    folder = packs.get(name, Path(name))
    path = folder / "manifest.json"
    if not path.is_file():
        if folder.is_dir():
            raise PackError(f"model {name!r}: the folder has no manifest.json")
        known = ", ".join(sorted(packs)) or "none"
        raise PackError(f"model {name!r}: not found; installed models: {known}")
    try:
        manifest = Manifest.model_validate(json.loads(path.read_text("utf-8")))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise PackError(f"{path}: not a readable JSON file: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise PackError(f"{path}: {key}: {first['msg']}") from error
    return folder, manifest


def preferred_weights(wanted: str, device: torch.device) -> tuple[str, ...]:
    """Return which deblurring weights to use, in order of preference.

    Parameters
    ----------
    wanted
        A profile's ``model.deblurring``.
    device
        The device on which they will run.
    """
    if wanted != "auto":
        return (wanted,)
    return ("live", "quality") if device.type == "cpu" else ("quality",)


def load_pack(name: str, weights: Sequence[str] = ("quality",)) -> ModelPack:
    """Load a model by its name, or from a folder.

    Parameters
    ----------
    name
        An installed model's name, or a folder.
    weights
        Names of deblurring networks, of which the first that the model has is loaded,
        see `preferred_weights`.

    Raises
    ------
    PackError
        When there is no such model, it has none of these weights, or a file of it is
        missing, altered, or not what the manifest says.
    """
    folder, manifest = load_manifest(name)
    path = folder / "manifest.json"
    try:
        family = family_from_manifest(manifest)
        identification = IdentificationNet(family)
    except ValueError as error:
        raise PackError(f"{path}: {error}") from error
    _fill(identification, folder, manifest.identification)
    chosen, key, part = _deblurring_part(manifest, weights)
    try:
        deblurring = build_deblurring(part.architecture)
    except ValueError as error:
        raise PackError(f"{path}: {key}.architecture: {error}") from error
    _fill(deblurring, folder, part)
    try:
        prior = SpecimenSpectrum.from_tensors(_tensors(folder, manifest.specimen))
    except ValueError as error:
        where = folder / manifest.specimen.file
        raise PackError(f"{where}: does not contain this prior: {error}") from error
    return ModelPack(
        folder, manifest, family, identification, deblurring, prior, chosen
    )


def _deblurring_part(
    manifest: Manifest, weights: Sequence[str]
) -> tuple[str, str, Weights]:
    """Return the name, the manifest's key and the description of deblurring weights."""
    parts = {
        "quality": ("deblurring", manifest.deblurring),
        "live": ("deblurring_live", manifest.deblurring_live),
    }
    for name in weights:
        key, part = parts[name]
        if part is not None:
            return name, key, part
    raise PackError(
        f"model {manifest.name!r}: has no {weights[0]} weights; set model.deblurring "
        'to "quality" or "auto"'
    )


def _fill(network: torch.nn.Module, folder: Path, weights: Weights) -> None:
    """Load checked weights into a network and put it into evaluation mode."""
    tensors = _tensors(folder, weights)
    try:
        network.load_state_dict({k: v.float() for k, v in tensors.items()})
    except RuntimeError as error:
        path = folder / weights.file
        raise PackError(f"{path}: does not contain this network: {error}") from error
    network.eval()


def _tensors(folder: Path, weights: Weights) -> dict[str, torch.Tensor]:
    """Return the contents of a weights file, after checking it against the manifest."""
    path = folder / weights.file
    if path.suffix != ".safetensors":
        raise PackError(
            f"{path}: weights must be a safetensors file; no other type is opened"
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PackError(f"{path}: cannot be read: {error.strerror}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != weights.sha256:
        raise PackError(
            f"{path}: sha256 is {digest[:12]}…, the manifest says "
            f"{weights.sha256[:12]}…: the file was altered or "
            "truncated; install it again"
        )
    try:
        return load(content)
    except SafetensorError as error:
        raise PackError(f"{path}: contains no weights: {error}") from error
