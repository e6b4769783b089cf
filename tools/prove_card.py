"""Find out in a few minutes what a graphics card does with this program.

python tools/prove_card.py --out FOLDER [--minutes 10] [--only STAGE …] [--dry-run]

Stages run in the order of their value, each in a process of its own; after each,
card.json and card.md in the folder are whole. Without a card, --dry-run walks every
stage on the CPU with tiny sizes. It needs no network, and neither the microscope's
packages nor the window's; pytest is used if it is there.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# The package need not be installed.
PATHS = [str(Path(__file__).absolute().parents[n]) for n in (1, 0)]
sys.path[:0] = PATHS

from proving.report import as_markdown, summary  # noqa: E402
from proving.runner import Outcome, run_all, write_json  # noqa: E402
from proving.stage import Context, Stage  # noqa: E402

STAGES = (
    Stage("environment", "proving.machine:environment", 10, 60),
    Stage("frames against float64", "proving.graphs:exactness", 20, 240),
    Stage("frames and kernels", "proving.graphs:profile", 20, 180),
    Stage("pipeline alone", "proving.frames:alone", 20, 120),
    Stage("pipeline with identification", "proving.frames:beside", 20, 120),
    Stage("proximal network", "proving.networks:proximal", 20, 240),
    Stage("synchronisations", "proving.frames:synchronisations", 15, 60),
    Stage("failed capture", "proving.graphs:failed_capture", 15, 60),
    Stage("transforms", "proving.machine:transforms", 10, 60),
    Stage("card tests", "proving.card_tests:card_tests", 30, 240),
    Stage("kernels for other cards", "proving.machine:kernels", 60, 300),
)
SIDES, DRY_SIDES = (2048, 512), (64,)


def options() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [stage.name for stage in STAGES]
    out = os.environ.get("OUT")
    parser.add_argument(
        "--out", type=Path, default=out, required=out is None, help="default: $OUT"
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="for everything")
    parser.add_argument("--model", default="zernike7", help="a name, or a folder")
    parser.add_argument("--only", nargs="+", choices=names, metavar="STAGE")
    parser.add_argument("--sides", type=int, nargs="+", help="of the frames, pixels")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, tiny")
    return parser.parse_args()


def main() -> None:
    """Run the stages, keep what they find, and print what became of them."""
    asked = options()
    if not asked.dry_run and not _has_card():
        raise SystemExit("torch finds no CUDA card: --dry-run walks the stages without")
    asked.out.mkdir(parents=True, exist_ok=True)
    own = os.pathsep.join(filter(None, [*PATHS, os.environ.get("PYTHONPATH")]))
    os.environ["PYTHONPATH"] = own
    dry = asked.dry_run
    context = Context(
        device="cpu" if dry else "cuda",
        model=asked.model,
        sides=tuple(asked.sides or (DRY_SIDES if dry else SIDES)),
        replays=2 if dry else 1000,
        seconds=0.0 if dry else 5.0,
        out=asked.out.absolute(),
    )

    def keep(outcomes: list[Outcome]) -> None:
        write_json(asked.out / "card.json", outcomes)
        (asked.out / "card.md").write_text(as_markdown(outcomes), "utf-8")

    chosen = [s for s in STAGES if not asked.only or s.name in asked.only]
    outcomes = run_all(chosen, context, 60 * asked.minutes, keep)
    print(f"\n{summary(outcomes)}\n\n{asked.out / 'card.md'}")
    raise SystemExit(any(outcome.status == "failed" for outcome in outcomes))


def _has_card() -> bool:
    """Return whether torch finds a card, without touching it in this process."""
    import torch

    # Counting by the driver's own library leaves CUDA as it is for forked processes.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    return torch.cuda.is_available()


if __name__ == "__main__":
    main()
