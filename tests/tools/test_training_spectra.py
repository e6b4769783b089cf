"""The noise added to training spectra is that of averaged windows."""

import importlib
from pathlib import Path

import torch

from deepblur_live.identification import welch

TOOLS = Path(__file__).parents[2] / "tools"


def test_training_noise_is_what_windows_of_noise_have(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    noisy = importlib.import_module("train_identification").noisy
    generator = torch.Generator().manual_seed(0)
    sigma = 0.1
    # Nothing but noise: 60 averages over the windows of a frame, and 60 drawn.
    frames = sigma * torch.randn(60, 256, 256, generator=generator)
    measured, averages = welch(frames)
    drawn = noisy(
        torch.zeros_like(measured), torch.full((60,), sigma**2), averages, generator
    )
    inner = (slice(None), slice(4, -4), slice(2, -2))
    for spectra in (measured, drawn):
        scatter = spectra[inner] / sigma**2 - 1
        assert abs(float(scatter.mean())) < 0.02
        assert abs(float(scatter.std()) * averages**0.5 - 1) < 0.1
        neighbours = (scatter[:, :, 1:] * scatter[:, :, :-1]).mean() / scatter.var()
        # Power of neighbours under a Hann window: (2/3)².
        assert abs(float(neighbours) - 4 / 9) < 0.06
