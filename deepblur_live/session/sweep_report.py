"""The result of a focus sweep, as text (first what to do) and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily
    from deepblur_live.identification import SweepResult

__all__ = ["sweep_json", "sweep_text"]

CONVENTION = (
    "refocusing is a move of the stage, + towards larger positions; a positive defocus "
    "means that the plane lies deeper than the focus (the profile's stage.deeper), and "
    "the signs of the other even modes refer to it"
)


def sweep_text(family: BlurFamily, result: SweepResult, origin: str) -> list[str]:
    """Return the result as lines: what to do first, then the modes.

    Parameters
    ----------
    family, result
        From `sweep_frames`.
    origin
        Description of z = 0.
    """
    refocus, sigma = 1000 * result.refocus_um, 1000 * result.refocus_sigma_um
    if result.thick:
        way = "larger" if refocus > 0 else "smaller"
        return [
            f"Refocus towards {way} positions (from {origin}).",
            f"Thick specimen: only the direction of focus is known, as {result.thick}.",
        ]
    lines = [f"Refocus by {refocus:+.0f} ± {sigma:.0f} nm (from {origin})."]
    metric = family.metric
    width = max(map(len, family.names))
    for name, value, deviation in zip(
        family.names, result.coefficients, result.sigma, strict=True
    ):
        shown = metric.show(float(value), float(deviation))
        lines.append(
            f"  {name:{width}}  {value:+.3f} ± {deviation:.3f} {family.unit}  ({shown})"
        )
    if not result.turn_known:
        lines.append(
            "The orientation is not resolved: the PSF may be rotated by 180°, with all "
            "odd modes of opposite sign."
        )
    lines.append(f"χ² {result.chi2:.1f} per bin; ± is one standard deviation.")
    lines.append(f"{CONVENTION[0].upper()}{CONVENTION[1:]}.")
    return lines


def sweep_json(
    family: BlurFamily,
    result: SweepResult,
    z_um: NDArray[np.float64],
    origin: str,
) -> dict[str, Any]:
    """Return the result as JSON values; a thick specimen has no coefficients (None)."""
    thick = bool(result.thick)
    return {
        "origin": origin,
        "z_nm": [round(1000 * float(z), 3) for z in z_um],
        "refocus_nm": None if thick else 1000 * result.refocus_um,
        "refocus_sigma_nm": None if thick else 1000 * result.refocus_sigma_um,
        "direction": 1 if result.refocus_um > 0 else -1,
        "thick": result.thick,
        "names": list(family.names),
        "unit": family.unit,
        "coefficients": None if thick else result.coefficients.tolist(),
        "covariance": None if thick else result.covariance.tolist(),
        "chi2": result.chi2,
        "orientation_resolved": result.turn_known,
        "shifts_px": result.shifts.tolist(),
        "convention": CONVENTION,
    }
