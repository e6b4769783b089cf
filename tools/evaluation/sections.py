"""The sections of the evaluation: which frames, which figures, and how they read."""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING

from deepblur_live.blur.zernike import PAPER_MODES
from evaluation import scores
from evaluation.case import Plan, Spec
from evaluation.deblurring_realism import DEBLURRING_REALISM
from evaluation.table import Section
from evaluation.troubles import TROUBLES

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SECTIONS"]

# Noise levels at which the remarks on samplings, modes and borders are measured.
_CLEAR = (0.001, 0.01)
# λ/(NA·px) in pixels → nm; 3.83 is exactly the paper's, whose frames are shared.
_PIXEL_SIZES = {
    2.2: 540 / 1.41 / 2.2,
    3.0: 540 / 1.41 / 3.0,
    3.83: 100.0,
    4.8: 540 / 1.41 / 4.8,
    6.0: 540 / 1.41 / 6.0,
}
_MODES = (
    {"noll": PAPER_MODES},
    {},
    {"noll": tuple(range(4, 16))},
    {"ranges": scores.LONG_DEFOCUS},
)
# True wavefronts, waves rms. The last is where a microscope stops being called good.
_NEAR_ZERO = (0.0, 0.03, 0.07)
# Frames of each kind of trouble, or half as many as there are pictures.
_TROUBLED = 12


def _conditions(conditions: Sequence[dict[str, object]]) -> partial[list[Spec]]:
    """Return frames of every second picture, with one blur, under each condition.

    Pictures differ more than blurs do.
    """
    return partial(Plan.frames, sigmas=_CLEAR, blurs=1, every=2, conditions=conditions)


def _troubled(plan: Plan) -> list[Spec]:
    """Return frames of each kind of trouble, on pictures spread over the list."""
    paths = list(itertools.chain(*plan.pictures.values()))
    count = min(_TROUBLED, (len(paths) + 1) // 2)
    return [
        Spec(paths[len(paths) * number // count], name, number, 0.01)
        for name in TROUBLES
        for number in range(count)
    ]


_PICTURES = {"pictures": "{frames} {kind}", "σ": "{sigma:g}"}


def _closeness(name: str) -> str:
    return f"{{{name}_psnr:.1f}} / {{{name}_ssim:.3f}}"


def _rim(name: str) -> str:
    return f"{{{name}_rim:.1f}} / {{{name}_inner:.1f}}"


_ODD = " × ".join(str(side) for side in scores.CROP)

SECTIONS = {
    "identification": Section(
        Plan.frames,
        scores.identification,
        _PICTURES
        | {
            "constant mean PSF": "{trivial:.1f}",
            "network alone": "{network:.1f}",
            "spectrum alone": "{spectrum:.1f}",
            "**as shipped**": "**{shipped:.1f}**",
            "goal": "{goal:.0f}",
            "Cramér–Rao, spectrum": "{allowed:.1f}",
            "coefficient error (zero guess)": "{error:.3f} ({zero_error:.3f})",
            "orientation right (where the PSF is right)": (
                "{turn:.0%} ({turn_found:.0%})"
            ),
            "answered": "{answered:.0%}",
        },
    ),
    "time": Section(
        partial(Plan.frames, sigmas=(0.01, 0.03, 0.05), blurs=1),
        scores.over_time,
        _PICTURES
        | {
            "1 frame": "{after_1:.1f} ({answered_1:.0%})",
            "10 frames": "{after_10:.1f} ({answered_10:.0%})",
            "**100 frames**": "**{after_100:.1f} ({answered_100:.0%})**",
            "goal": "{goal:.0f}",
            "Cramér–Rao, spectrum": "{allowed:.1f}",
        },
    ),
    "coverage": Section(
        Plan.frames,
        scores.coverage,
        {
            "pictures": "{kind}",
            "σ": "{sigma:g}",
            "coefficients": "{coefficients}",
        }
        | {
            f"inside {share:.0%} (goal {low:.0%} to {high:.0%})": (
                f"{{inside_{100 * share:.0f}:.0%}}"
            )
            for share, (low, high) in scores.BANDS.items()
        },
        totals={"coefficients": sum},
        pooled=True,
    ),
    "refusals": Section(
        _troubled,
        scores.refusal,
        {
            "frames": "{frames} {kind}",
            "refused": "{refused:.0%}",
            "PSF SNR where answered": "{psf:.1f}",
            "misfit where answered": "{misfit:.2f}",
        },
    ),
    "sampling": Section(
        _conditions([{"pixel_size_nm": size} for size in _PIXEL_SIZES.values()]),
        scores.sampling,
        _PICTURES | {"": "{psf:.1f} / {gain:+.1f} ({answered:.0%})"},
        across="sampling",
    ),
    "modes": Section(
        _conditions(_MODES),
        scores.modes,
        _PICTURES | {"": "{error:.3f} / {psf:.1f} ({answered:.0%})"},
        across="condition",
    ),
    "zero": Section(
        _conditions([{"rms": rms} for rms in _NEAR_ZERO]),
        scores.near_zero,
        _PICTURES | {"": "{found:.3f} ({refused:.0%}), {inside:.0%}"},
        across="true",
    ),
    "deblurring": Section(
        Plan.frames,
        scores.deblurring,
        _PICTURES
        | {
            "observed": _closeness("observed"),
            "Richardson–Lucy 20, true PSF": _closeness("lucy"),
            "Wiener, true PSF, best balance": _closeness("wiener"),
            "**ours, estimated**": f"**{_closeness('ours')}**",
            "ours, true operator": _closeness("given"),
            "estimated against true, where answered": (
                "{gap_psnr:+.2f} / {gap_ssim:+.3f}"
            ),
            "the same at the spectrum's Cramér–Rao bound": (
                "{least_psnr:+.2f} / {least_ssim:+.3f}"
            ),
            "better than observed": "{better:.0%}",
            "light changed by at most": "{flux:.1%}",
        },
        totals={"flux": max},
    ),
    "borders": Section(
        partial(Plan.frames, sigmas=_CLEAR, blurs=1),
        scores.borders,
        _PICTURES
        | {
            f"512²: observed, outermost {scores.BORDER} / interior": (
                _rim("whole_observed")
            ),
            "**512²: ours, true operator**": _rim("whole_ours"),
            f"{_ODD}: observed": _rim("crop_observed"),
            f"**{_ODD}: ours, true operator**": _rim("crop_ours"),
        },
    ),
    "baselines": Section(
        partial(Plan.frames, blurs=1),
        scores.baselines,
        _PICTURES
        | {
            "observed": _closeness("observed"),
            "Richardson–Lucy 20, in-focus PSF": _closeness("lucy_focus"),
            "Wiener, in-focus PSF, best balance": _closeness("wiener_focus"),
            "blind Richardson–Lucy": _closeness("blind_lucy"),
            "unsupervised Wiener, true PSF": _closeness("unsupervised"),
            "**ours, estimated**": f"**{_closeness('ours')}**",
            "PSF SNR: in focus, blind": "{focus_psf:.1f}, {blind_psf:.1f}",
        },
    ),
    "deblurring-realism": DEBLURRING_REALISM,
}
