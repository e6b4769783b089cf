"""Build a profile's pipeline: load the model, choose the executor, connect both."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from deepblur_live.blur.calibrated import CalibratedZernikeFamily
from deepblur_live.blur.calibrated_field import CalibratedField
from deepblur_live.blur.fixed_field import FixedField
from deepblur_live.blur.fixed_psf import FixedPsf
from deepblur_live.blur.zernike_field import ZernikeField
from deepblur_live.calibration import load_calibration
from deepblur_live.calibration.place import fixed_field, place_family
from deepblur_live.calibration.rig import rig_family
from deepblur_live.drift import Tracker
from deepblur_live.identification import BeadIdentifier
from deepblur_live.identification.field.identifier import LEAST_SIDE, FieldIdentifier
from deepblur_live.runtime.async_estimator import EstimatorThread
from deepblur_live.runtime.best import build_executor
from deepblur_live.runtime.device import choose_device, tune_process
from deepblur_live.runtime.field_pipeline import FieldPipeline
from deepblur_live.runtime.fixed_pipeline import FixedPsfPipeline
from deepblur_live.runtime.pack import PackError, load_pack, preferred_weights
from deepblur_live.runtime.pipeline import DeblurPipeline
from deepblur_live.runtime.place_pipeline import PlacePipeline
from deepblur_live.runtime.series_pipeline import ColourParts, SeriesPipeline

if TYPE_CHECKING:
    from collections.abc import Callable

    from deepblur_live.blur import BlurFamily
    from deepblur_live.identification import Identifier
    from deepblur_live.profile import Profile
    from deepblur_live.runtime.best import BestExecutor
    from deepblur_live.runtime.frame import FramePipeline
    from deepblur_live.runtime.pack import ModelPack
    from deepblur_live.runtime.place_pipeline import Region

__all__ = ["build_field_pipeline", "build_pipeline", "build_series_pipeline"]


def build_pipeline(
    profile: Profile, asynchronous: bool | None = None
) -> DeblurPipeline:
    """Load a profile's model and build its pipeline, in the process that will run it.

    With one PSF for the whole frame, whatever ``model.blur`` says. `asynchronous` is as
    in `DeblurPipeline`.

    Raises
    ------
    PackError
        When the model is missing or altered, or does not support the profile's optics.
    ValueError
        When there is no such family of blurs, or the profile's calibration or PSF
        cannot be used.
    """
    tune_process(profile.model.threads)
    family, pack = rig_family(profile.uniform), _load(profile)
    if isinstance(family, FixedPsf):
        executor = build_executor(pack, family, profile.model.device)
        return FixedPsfPipeline(family, executor, profile)
    return _pipeline(profile, pack, family, asynchronous)


def build_field_pipeline(
    profile: Profile, asynchronous: bool | None = None, least_side: int = LEAST_SIDE
) -> FieldPipeline:
    """Build the pipeline of a profile whose blur varies over the field.

    Parameters and errors as for `build_pipeline`; `least_side` is the least side in
    pixels of a frame that is identified as a field.

    Raises
    ------
    ValueError
        When the profile's blur is uniform, or known from a calibration.
    """
    field = rig_family(profile)
    if not isinstance(field, ZernikeField):
        raise ValueError(
            'the profile identifies no field: give model.blur = "field", and no '
            "calibration"
        )
    tune_process(profile.model.threads)
    pack = _load(profile)
    make = partial(
        _pipeline, profile, pack, asynchronous=asynchronous, least_side=least_side
    )
    return FieldPipeline(field, make, profile.camera.sensor, least_side)


def build_series_pipeline(
    profile: Profile, asynchronous: bool | None = None
) -> SeriesPipeline:
    """Build the pipelines of an acquisition: one for each of its series.

    Uniform or a field, as ``model.blur`` says. Parameter and errors as for
    `build_pipeline`; a `PackError` may also concern the wavelength of a channel.
    """
    tune_process(profile.model.threads)
    pack = _load(profile)
    for name in profile.channels:
        optics = profile.at_wavelength(profile.wavelength_of(name)).optics
        try:
            pack.check(optics)
        except PackError as error:
            raise PackError(f"channels.{name}: {error}") from error
    thread: EstimatorThread | None = None
    executors: list[BestExecutor] = []

    def parts(wavelength_nm: float) -> ColourParts:
        nonlocal thread
        rig = profile.at_wavelength(wavelength_nm)
        family = rig_family(rig)
        covariance = family.prior.covariance
        if isinstance(family, ZernikeField):
            # The executors of a field depend on the view.
            make_view = partial(_pipeline, rig, pack, asynchronous=asynchronous)
            sensor = rig.camera.sensor
            return ColourParts(
                partial(FieldPipeline, family, make_view, sensor), covariance
            )
        executor = build_executor(pack, family, rig.model.device)
        executors.append(executor)
        if thread is None:
            thread = EstimatorThread(executor.device.type == "cuda")
        if isinstance(family, FixedPsf):

            def make_fixed(own: FixedPsf) -> FramePipeline:
                if own == family:
                    return FixedPsfPipeline(own, executor, rig, thread)
                # Closed with its pipeline, when another region is shown.
                used = build_executor(pack, own, rig.model.device)
                return FixedPsfPipeline(own, used, rig)

            fixed: Callable[[], FramePipeline] = partial(make_fixed, family)
            if isinstance(family, FixedField):
                fixed = _by_place(rig, family, make_fixed) or fixed
            return ColourParts(fixed, covariance)
        make: Callable[[], FramePipeline] = partial(
            _pipeline,
            rig,
            pack,
            family,
            asynchronous,
            executor=executor,
            thread=thread,
        )
        if isinstance(family, CalibratedZernikeFamily):
            varies = isinstance(family, CalibratedField)

            def make_at(own: BlurFamily) -> FramePipeline:
                # The operator of one PSF is that of all places: their coefficients are
                # the same.
                shared = own == family or not varies
                return _pipeline(
                    rig,
                    pack,
                    own,
                    asynchronous,
                    executor=executor if shared else None,
                    thread=thread if shared else None,
                )

            make = _by_place(rig, family, make_at) or make
        return ColourParts(make, covariance)

    def close() -> None:
        if thread is not None:
            thread.close()
        for executor in executors:
            executor.close()

    wavelengths = {name: profile.wavelength_of(name) for name in profile.channels}
    return SeriesPipeline(parts, profile.optics.wavelength_nm, wavelengths, close=close)


def _by_place(
    profile: Profile,
    family: CalibratedZernikeFamily | FixedField,
    make: Callable[[Any], FramePipeline],
) -> Callable[[], FramePipeline] | None:
    """Return a factory of pipelines that use the calibration at a frame's place.

    None if the admissible set is a hull, which is that of the whole field, or if the
    states' frames differ in size.

    Parameters
    ----------
    profile, family
        The profile, with a calibration, and the family that `rig_family` returns.
    make
        Builds the pipeline for a family.
    """
    assert profile.model.calibration is not None
    saved = load_calibration(Path(profile.model.calibration), profile.optics)
    shapes = {(state.shape[0], state.shape[1]) for state in saved.manifest.states}
    if len(shapes) > 1:
        return None
    anywhere: BlurFamily
    at: Callable[[Region], BlurFamily]
    if isinstance(family, FixedField):
        anywhere = FixedPsf(family.image, family.optics_cutoff, family.origin)
        at = partial(fixed_field, saved)
    elif family.learned.vertices is not None:
        return None
    else:
        varies = isinstance(family, CalibratedField)
        # At an unknown place the variation over the field counts as uncertainty.
        anywhere = rig_family(profile.uniform) if varies else family
        at = partial(place_family, saved, family, varies=varies)
    return partial(
        PlacePipeline,
        family,
        anywhere,
        at,
        make,
        shapes.pop(),
        profile.camera.sensor,
    )


def _load(profile: Profile) -> ModelPack:
    device = choose_device(profile.model.device).device
    weights = preferred_weights(profile.model.deblurring, device)
    pack = load_pack(profile.model.name, weights)
    pack.check(profile.optics)
    return pack


def _pipeline(
    profile: Profile,
    pack: ModelPack,
    family: BlurFamily,
    asynchronous: bool | None,
    least_side: int = LEAST_SIDE,
    executor: BestExecutor | None = None,
    thread: EstimatorThread | None = None,
) -> DeblurPipeline:
    errors = pack.manifest.error_model
    if executor is None:
        executor = build_executor(pack, family, profile.model.device)
    return DeblurPipeline(
        family,
        _identifier(profile, pack, family, executor, least_side),
        Tracker(family, errors, averaging_s=profile.model.average_s),
        executor,
        profile.camera,
        profile.model.identify_every_s,
        asynchronous,
        profile.model.average_frames,
        thread,
    )


def _identifier(
    profile: Profile,
    pack: ModelPack,
    family: BlurFamily,
    executor: BestExecutor,
    least_side: int,
) -> Identifier:
    errors, average_s = pack.manifest.error_model, profile.model.average_s
    diameter = profile.model.bead_diameter_nm
    # The fit of the spectrum works for any family, and for any specimen whose own
    # spectrum is known; the network only for the family that it was trained on, and not
    # for beads. Its prior is that of the optics, so it is not used with a calibration.
    local = family.local if isinstance(family, ZernikeField) else family
    same = (
        pack.manifest.family == profile.model.family
        and profile.model.calibration is None
    )
    trained = same and pack.family.names == local.names and diameter is None
    network = executor.identify if trained else None
    if isinstance(family, ZernikeField):
        field = FieldIdentifier(
            family,
            errors,
            network,
            average_s,
            pack.specimen,
            least_side=least_side,
        )
        # It has the methods of an `Identifier`, with another type of problem.
        return cast("Identifier", field)
    return BeadIdentifier(
        family,
        errors,
        None if diameter is None else diameter / profile.optics.pixel_size_nm,
        network,
        average_s,
        pack.specimen,
        None if diameter is None else profile.optics.pixel_size_nm,
    )
