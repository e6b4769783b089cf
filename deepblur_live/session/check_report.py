"""The result of a check of the estimate, as text and as JSON."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from deepblur_live.blur import focus_weights
from deepblur_live.identification import CheckVerdict

if TYPE_CHECKING:
    from deepblur_live.blur import BlurFamily
    from deepblur_live.identification import FocusCheck

__all__ = ["check_json", "check_text"]

_FIRST = {
    CheckVerdict.FOLLOWS: "The estimate follows the stage",
    CheckVerdict.NOT_RELIABLE: (
        "The estimate is not reliable on this specimen, or the profile's optics or the "
        "step are not as stated"
    ),
    CheckVerdict.UNDECIDED: "The check is undecided",
}
_RULE = (
    "An estimate follows if it changes by 0.6 to 1.4 times the stage's move. "
    "Errors that all planes have in common are not detected."
)


def check_text(family: BlurFamily, check: FocusCheck, origin: str) -> list[str]:
    """Return the result as lines: the verdict, then each plane's distance from focus.

    Parameters
    ----------
    family, check
        From `check_frames`.
    origin
        Description of z = 0.
    """
    lines = [
        f"{_FIRST[check.verdict]}: {check.reason}.",
        f"Distance from focus by the estimates, at positions from {origin}:",
    ]
    weights = focus_weights(family)
    for z, estimate in zip(check.z_um, check.estimates, strict=True):
        text = f"no estimate: {estimate.reason}"
        if estimate.trusted:
            # Its sign is ambiguous.
            distance = abs(1000 * float(weights @ estimate.coefficients))
            sigma = 1000 * math.sqrt(float(weights @ estimate.covariance @ weights))
            text = f"{distance:.0f} ± {sigma:.0f} nm"
        lines.append(f"  {1000 * z:+5.0f} nm: {text}")
    lines.append(_RULE)
    return lines


def check_json(family: BlurFamily, check: FocusCheck, origin: str) -> dict[str, Any]:
    """Return the result as JSON values; unknown ones are None."""
    known = not math.isnan(check.slope)
    return {
        "origin": origin,
        "verdict": str(check.verdict),
        "reason": check.reason,
        "slope": check.slope if known else None,
        "slope_sigma": check.slope_sigma if known else None,
        "names": list(family.names),
        "unit": family.unit,
        "planes": [
            {
                "z_nm": round(1000 * float(z), 3),
                "coefficients": e.coefficients.tolist() if e.trusted else None,
                "covariance": e.covariance.tolist() if e.trusted else None,
                "reason": e.reason,
            }
            for z, e in zip(check.z_um, check.estimates, strict=True)
        ],
    }
