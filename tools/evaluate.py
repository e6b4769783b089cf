"""Measure a model on held-out pictures, beside trivial and classical methods.

python tools/evaluate.py --data FOLDER [--quick] [--write]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from held_out import HeldOutFrame, frames, held_out_pictures
from skimage.restoration import richardson_lucy

from deepblur_live.identification import Identifier
from deepblur_live.optics import (
    Convolution,
    Estimate,
    ZernikeFamily,
    extend,
    psf_snr,
    psnr,
    ssim,
)
from deepblur_live.runtime.executor import TorchExecutor
from deepblur_live.runtime.pack import find_packs, load_pack

SIGMAS = (0.0, 0.01, 0.02, 0.05, 0.1)
QUICK_SIGMAS = (0.0, 0.01, 0.05)
# Each picture is blurred so many times: one blur a picture scatters by a decibel.
BLURS = 3
# Scores leave out the outermost pixels, where every method guesses what lies beyond.
BORDER = 16


@dataclass(frozen=True)
class Task:
    """One picture's share of the work."""

    path: Path
    kind: str
    number: int
    sigmas: tuple[float, ...]
    model: str


def best_match(family: ZernikeFamily, found: np.ndarray, truth: np.ndarray) -> float:
    """Return the rms error of γ in waves, to the nearer of the true twins."""
    return min(
        float(np.sqrt(np.mean((found - twin) ** 2)))
        for twin in family.equivalents(truth)
    )


def work(task: Task) -> list[dict[str, object]]:
    """Return one row of scores for each noise level of a picture."""
    torch.set_num_threads(1)
    family = ZernikeFamily()
    pack = load_pack(task.model)
    executor = TorchExecutor(pack, family, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    mean_psf = family.psf(family.sample(4000, generator)).mean(0)
    rows = []
    for frame in frames(task.path, task.number, family, task.sigmas):
        scores, found = identification_scores(frame, family, executor, mean_psf)
        noise = float(scores.pop("_sigma"))  # type: ignore[arg-type]
        rows.append(
            {"kind": task.kind, "file": task.path.name, "sigma": frame.sigma}
            | scores
            | deblurring_scores(frame, found, noise, family, executor)
        )
    return rows


def identification_scores(
    frame: HeldOutFrame,
    family: ZernikeFamily,
    executor: TorchExecutor,
    mean_psf: torch.Tensor,
) -> tuple[dict[str, object], Estimate]:
    """Return PSF SNRs in dB and coefficient errors of each way, and the shipped one.

    Where the program says that it cannot tell, it claims no PSF, and is scored as the
    constant mean PSF.
    """
    truth = family.psf(frame.coefficients)
    trivial = float(psf_snr(mean_psf, truth))
    gamma = frame.coefficients.double().numpy()
    scores: dict[str, object] = {"trivial": trivial}
    scores["zero_error"] = float(np.sqrt(np.mean(gamma**2)))
    # The network alone: its answer on this frame, turned by the same rule.
    alone = Identifier(family, executor.identify)
    alone.observe(frame.observed, 0.0)
    spectrum = alone.spectrum
    data = alone.refiner.prepare(spectrum.value, spectrum.looks, spectrum.frames)
    answer, deviation = alone.ask_network(data.reliable)
    sigma = float(data.reliable.floor) ** 0.5
    turned = alone.rotation.decide(frame.observed, answer.double().numpy(), sigma)
    covariance = np.diag(deviation.double().numpy() ** 2)
    estimates = {"network": Estimate(turned, covariance, 1.0)}
    for name, network in (("spectrum", None), ("both", executor.identify)):
        identifier = Identifier(family, network)
        identifier.observe(frame.observed, 0.0)
        estimates[name] = identifier.estimate(frame.observed)
    scores["_sigma"] = identifier.noise_sigma
    for name, estimate in estimates.items():
        psf = family.psf(torch.as_tensor(estimate.coefficients).float())
        snr = float(psf_snr(psf, truth)) if estimate.trusted else trivial
        scores[name] = snr
        scores[f"{name}_trusted"] = estimate.trusted
        if estimate.trusted:
            scores[f"{name}_error"] = best_match(family, estimate.coefficients, gamma)
            scores[f"{name}_zero_error"] = scores["zero_error"]
    return scores, estimates["both"]


def deblurring_scores(
    frame: HeldOutFrame,
    found: Estimate,
    noise: float,
    family: ZernikeFamily,
    executor: TorchExecutor,
) -> dict[str, object]:
    """Return PSNR and SSIM of each method; ours shows the raw frame if not trusted."""
    observed, truth = frame.observed, frame.truth.numpy()
    inner = (slice(BORDER, -BORDER), slice(BORDER, -BORDER))
    psf = family.psf(frame.coefficients)
    whole = extend(observed, family.window - 1)
    operator = Convolution(psf, (whole.shape[-2], whole.shape[-1]))
    size = tuple(slice(0, n) for n in observed.shape)
    results: dict[str, np.ndarray] = {"observed": observed.numpy()}
    results["richardson_lucy"] = richardson_lucy(
        whole.clamp(min=0).double().numpy(), psf.double().numpy(), 20, clip=False
    )[size]
    # The Wiener filter has the best balance there is, chosen with the truth in hand.
    wiener = [
        operator.wiener(whole, 10 ** (-exponent / 4)).numpy()[size]
        for exponent in range(2, 33)
    ]
    results["wiener"] = max(wiener, key=lambda x: psnr(x[inner], truth[inner]))
    sigma = max(frame.sigma, 1e-4)
    results["ours_true"] = executor.deblur(observed, frame.coefficients, sigma).numpy()
    results["ours"] = results["observed"]
    if found.trusted:
        gamma = torch.as_tensor(found.coefficients).float()
        # Its own noise estimate too: nothing is given.
        results["ours"] = executor.deblur(observed, gamma, noise).numpy()
    scores: dict[str, object] = {}
    for name, image in results.items():
        scores[f"{name}_psnr"] = psnr(image[inner], truth[inner])
        scores[f"{name}_ssim"] = ssim(image[inner], truth[inner])
    return scores


def tables(rows: list[dict[str, object]]) -> str:
    """Return the Markdown tables of all rows."""

    def mean(chosen: list[dict[str, object]], key: str) -> float:
        values = [float(r[key]) for r in chosen if r.get(key) is not None]  # type: ignore[arg-type]
        return float(np.mean(values)) if values else float("nan")

    lines = [
        "| pictures | σ | constant mean PSF | network alone | spectrum alone | "
        "**as shipped** | coefficient error (zero guess) | answered |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    groups = {(str(r["kind"]), float(r["sigma"])): [] for r in rows}  # type: ignore[arg-type,var-annotated]
    for row in rows:
        groups[str(row["kind"]), float(row["sigma"])].append(row)  # type: ignore[arg-type]
    for (kind, sigma), part in groups.items():
        lines.append(
            f"| {len(part)} {kind} | {sigma:g} | {mean(part, 'trivial'):.1f} | "
            f"{mean(part, 'network'):.1f} | {mean(part, 'spectrum'):.1f} | "
            f"**{mean(part, 'both'):.1f}** | {mean(part, 'both_error'):.3f} "
            f"({mean(part, 'both_zero_error'):.3f}) | "
            f"{mean(part, 'both_trusted'):.0%} |"
        )
    lines += [
        "",
        "| pictures | σ | observed | Richardson–Lucy 20, true PSF | Wiener, true PSF, "
        "best balance | **ours, estimated** | ours, true operator | better than "
        "observed |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (kind, sigma), part in groups.items():
        cells = [
            f"{mean(part, f'{name}_psnr'):.1f} / {mean(part, f'{name}_ssim'):.3f}"
            for name in ("observed", "richardson_lucy", "wiener", "ours", "ours_true")
        ]
        cells[3] = f"**{cells[3]}**"
        better = sum(r["ours_psnr"] > r["observed_psnr"] for r in part)  # type: ignore[operator]
        lines.append(
            f"| {len(part)} {kind} | {sigma:g} | {' | '.join(cells)} | "
            f"{better} of {len(part)} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Evaluate, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="with MANIFEST.csv")
    parser.add_argument("--model", default="zernike7")
    parser.add_argument("--quick", action="store_true", help="a few pictures, one blur")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--write", action="store_true", help="into the manifest and the README"
    )
    options = parser.parse_args()
    if options.write and options.quick:
        parser.error("--write publishes the whole table: leave --quick out")
    began = time.monotonic()
    sigmas = QUICK_SIGMAS if options.quick else SIGMAS
    tasks = []
    for kind, paths in held_out_pictures(options.data).items():
        for number, path in enumerate(paths):
            if options.quick and number % 4 != 1:
                continue
            tasks += [
                Task(path, kind, 100 * blur + number, sigmas, options.model)
                for blur in range(1 if options.quick else BLURS)
            ]
    rows: list[dict[str, object]] = []
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, spawn) as pool:
        for done, part in enumerate(pool.map(work, tasks), 1):
            rows += part
            print(f"\r{done} of {len(tasks)} blurred pictures", end="", flush=True)
    order = {"photographs": 0, "micrographs": 1}
    rows.sort(key=lambda r: (order[str(r["kind"])], r["sigma"]))
    text = tables(rows)
    minutes = (time.monotonic() - began) / 60
    print(f"\n\n{text}\n\n{len(rows)} frames of 512² in {minutes:.1f} minutes")
    if options.write:
        write(options.model, text, rows)


def write(model: str, text: str, rows: list[dict[str, object]]) -> None:
    """Put the scores into the model's manifest and the tables into the README."""
    path = find_packs()[model] / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    manifest["accuracy"] = {
        "frames": [
            {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}
            for row in rows
        ]
    }
    path.write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
    readme = Path("README.md")
    before, rest = readme.read_text("utf-8").split("<!-- accuracy -->", 1)
    after = rest.split("<!-- /accuracy -->", 1)[1]
    readme.write_text(
        f"{before}<!-- accuracy -->\n{text}\n<!-- /accuracy -->{after}", "utf-8"
    )


if __name__ == "__main__":
    main()
