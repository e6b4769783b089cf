"""The doctor reports what is missing, whatever is broken."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from rich.console import Console

from deepblur_live.cli import probes, screen
from deepblur_live.cli.doctor import (
    Finding,
    Level,
    can_run,
    examine,
    findings_table,
)
from deepblur_live.profile import Alerts, Model, Optics, Profile
from deepblur_live.runtime.pack import find_packs


def broken_library(profile: Profile) -> Iterator[Finding]:
    yield Finding("first part", "found")
    raise OSError("libsomething.so [v1] does not load")


def test_a_probe_that_breaks_is_a_finding_and_the_others_continue() -> None:
    def sound(profile: Profile) -> Iterator[Finding]:
        yield Finding("sound", profile.name)

    findings = examine(Profile(), [broken_library, sound])
    assert [finding.subject for finding in findings] == [
        "first part",
        "broken library",
        "sound",
    ]
    assert "libsomething.so" in findings[1].text
    assert not can_run(findings)


def test_a_note_does_not_prevent_a_run_and_a_fault_does() -> None:
    assert can_run([Finding("a", "b"), Finding("c", "d", Level.NOTE)])
    assert not can_run([Finding("a", "b"), Finding("c", "d", Level.FAULT)])


def test_the_table_shows_brackets_literally() -> None:
    console = Console(file=io.StringIO(), width=200)
    console.print(
        findings_table([Finding("x", "pip [red] a[pyqt6]", remedy="do [it]")])
    )
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "pip [red] a[pyqt6]" in shown
    assert "do [it]" in shown


def test_this_machine_is_described_and_sound() -> None:
    findings = examine(Profile(), probes.PROBES)
    faults = [finding for finding in findings if finding.level is Level.FAULT]
    assert faults == []
    found = {finding.subject: finding for finding in findings}
    assert "device interface 75" in found["core"].text
    assert "DemoCamera" in found["adapters"].text
    assert "zernike: 8 coefficients in waves rms (defocus" in found["optics"].text
    assert "37 × 37 pixels cuts" in found["PSF"].text
    assert "PyQt6" in found["Qt"].text
    assert "16 MiB" in found["shared memory"].text


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_why_most_executors_are_not_used_is_reported_once() -> None:
    *unused, used = probes.executor(Profile())
    assert len(unused) == 1 and unused[0].level is Level.NOTE
    assert unused[0].text.count("CUDA card") == 1
    assert "tensorrt; tensorrt-rtx; Triton kernels" in unused[0].text
    assert used.text.startswith("torch on the CPU, used")


@pytest.mark.parametrize(
    ("built_with", "remedy"),
    [(None, "https://pytorch.org/get-started"), ("13.0", "nvidia-smi")],
)
def test_no_card_is_a_note_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, built_with: str | None, remedy: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.version, "cuda", built_with)
    finding = list(probes.devices(Profile()))[-1]
    assert finding.subject == "NVIDIA card"
    assert finding.level is Level.NOTE
    assert remedy in finding.remedy


def test_missing_qt_means_headless_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(screen, "BINDINGS", ("NoSuchQt",))
    monkeypatch.setattr(probes, "find_binding", screen.find_binding)
    (finding,) = probes.window(Profile())
    assert finding.level is Level.NOTE
    assert "no Qt binding is installed" in finding.text
    assert "pyqt6" in finding.remedy


def test_the_shipped_model_serves_the_default_rig() -> None:
    (finding,) = probes.models(Profile())
    assert finding.level is Level.OK
    assert "zernike7, unaltered" in finding.text


def test_a_model_that_is_missing_or_altered_is_a_fault_by_name(tmp_path: Path) -> None:
    missing = Profile(model=Model(name="nosuch"))
    faults = [f for f in probes.models(missing) if f.level is Level.FAULT]
    assert len(faults) == 1
    assert "'nosuch'" in faults[0].text

    altered = tmp_path / "altered"
    shutil.copytree(find_packs()["zernike7"], altered)
    weights = altered / "deblurring_live.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    tampered = Profile(model=Model(name=str(altered)))
    faults = [f for f in probes.models(tampered) if f.level is Level.FAULT]
    assert len(faults) == 1
    assert "sha256" in faults[0].text


@pytest.mark.parametrize("pixel_size_nm", [40.0, 180.0])
def test_optics_outside_the_models_range_are_a_fault(pixel_size_nm: float) -> None:
    coarse = Profile(optics=Optics(pixel_size_nm=pixel_size_nm))
    faults = [f for f in probes.models(coarse) if f.level is Level.FAULT]
    assert len(faults) == 1
    assert f"pixel_size_nm {pixel_size_nm:g}" in faults[0].text
    assert faults[0].remedy


def test_no_shared_memory_is_a_fault_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(probes, "SharedMemory", refuse)
    (finding,) = probes.shared_memory(Profile())
    assert finding.level is Level.FAULT
    assert "No space left" in finding.text
    assert "--in-process" in finding.remedy


@pytest.mark.parametrize(
    ("environment", "part"),
    [
        ({"QT_QPA_PLATFORM": "offscreen", "DISPLAY": ":0"}, "offscreen"),
        ({}, "no screen"),
        ({"DISPLAY": ":0"}, ""),
        ({"WAYLAND_DISPLAY": "wayland-0"}, ""),
    ],
)
def test_when_a_window_can_be_opened(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], part: str
) -> None:
    monkeypatch.setattr(screen.sys, "platform", "linux")
    monkeypatch.setattr(screen, "trial", lambda binding: "")
    for key in ("QT_QPA_PLATFORM", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(key, raising=False)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    reason = screen.why_no_window()
    assert part in reason
    assert bool(reason) == bool(part)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have a screen")
def test_a_screen_that_cannot_be_opened_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("QT_QPA_PLATFORM", "xcb")
    monkeypatch.setenv("DISPLAY", ":987")
    reason = screen.why_no_window()
    assert "Qt cannot open the screen: " in reason
    # As Qt says it: the library that is missing, or the screen.
    assert "xcb" in reason or ":987" in reason
    finding = list(probes.window(Profile()))[-1]
    assert finding.level is Level.NOTE
    assert "libxcb-cursor0" in finding.remedy


def test_a_sink_that_cannot_work_is_a_fault() -> None:
    specs = ("log", "logg", "webhook:https://example.org/secret", "mda-pause")
    fault, fine = probes.alarms(Profile(alerts=Alerts(on_alarm=specs)))
    assert fault.level is Level.FAULT
    assert "'logg'" in fault.text
    assert fine.level is Level.OK
    assert "secret" not in fine.text


def test_points_too_short_for_the_average_are_noted() -> None:
    (finding,) = probes.alarms(Profile(model=Model(average_s=10.0)))
    assert finding.level is Level.NOTE
    assert "60 or more" in finding.remedy
    assert list(probes.alarms(Profile())) == []
