"""What `run` and `demo` do at an alarm, as the command line specifies it."""

from __future__ import annotations

import json
import sys

import pytest

from deepblur_live.acquisition import open_series
from deepblur_live.acquisition.simulated import SIMULATED_CONFIG

pytestmark = pytest.mark.usefixtures("no_pictures")

RUN = ("run", "--config", SIMULATED_CONFIG, "--headless", "--in-process")


@pytest.fixture
def profile(tmp_path):
    file = tmp_path / "rig.toml"
    file.write_text("[drift]\nbaseline_points = 5\n[model]\nidentify_every_s = 0.0\n")
    return file


@pytest.fixture
def sequence(tmp_path):
    file = tmp_path / "sequence.json"
    file.write_text(json.dumps({"time_plan": {"interval": 0.01, "loops": 60}}))
    return file


def test_the_demo_tries_an_alarm(call, jump, profile, session_of, tmp_path, caplog):
    jump(12)
    alarms, kept = tmp_path / "alarms.jsonl", tmp_path / "kept"
    ran = call(
        *("demo", "--headless", "--seconds", 10, "--in-process", "--output", kept),
        *("--profile", profile, "--on-alarm", f"jsonl:{alarms}", "--on-alarm", "log"),
    )
    assert ran.exit_code == 0, ran.output
    raised = json.loads(alarms.read_text("utf-8").splitlines()[0])
    assert raised["event"] == "alertRaised"
    assert "ALARM" in raised["text"]
    assert f"Sent to  jsonl:{alarms}: 1 delivered" in ran.stdout
    assert any(record.name == "deepblur_live.alerts" for record in caplog.records)
    folder, about = session_of(kept)
    assert raised["session"] == folder.name
    assert about["summary"]["sinks"][0]["delivered"] == 1


def test_an_alarm_pauses_a_sequence(
    call, jump, profile, sequence, session_of, tmp_path
):
    jump(15)
    kept = tmp_path / "kept"
    ran = call(
        *(*RUN, "--profile", profile, "--output", kept, "--seconds", 12),
        *("--mda", sequence, "--on-alarm", "mda-pause"),
    )
    assert ran.exit_code == 0, ran.output
    assert "The MDA is paused." in ran.stdout
    _, about = session_of(kept)
    # Paused until the time was over: the rest was not acquired.
    assert 15 < about["summary"]["captured"] < 60


def test_an_alarm_recalibrates_a_sequence_which_is_saved_whole(
    call, jump, profile, sequence, session_of, tmp_path, monkeypatch
):
    jump(15)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "my_rig.py").write_text(
        "import json, pathlib\n"
        "def recalibrate(core, alert):\n"
        "    camera = core.getCameraDevice()\n"
        "    done = {'camera': camera, 'text': alert['text']}\n"
        "    pathlib.Path('done.json').write_text(json.dumps(done))\n"
    )
    profile.write_text(
        profile.read_text()
        + '[alerts]\non_alarm = ["mda-recalibrate:my_rig:recalibrate"]\n'
    )
    kept, saved = tmp_path / "kept", tmp_path / "raw.ome.zarr"
    ran = call(
        *(*RUN, "--profile", profile, "--output", kept),
        *("--mda", sequence, "--save", saved),
    )
    assert ran.exit_code == 0, ran.output
    done = json.loads((tmp_path / "done.json").read_text())
    assert done["camera"] == "Camera"
    assert "ALARM" in done["text"]
    _, about = session_of(kept)
    assert about["summary"]["captured"] == 60
    with open_series(saved) as source:
        assert len(source) == 60


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--on-alarm", "email:me"], ["--on-alarm 'email:me'", "must be log"]),
        (["--on-alarm", "mda-pause"], ["--on-alarm 'mda-pause'", "give --mda"]),
        (
            ["--mda", "sequence.json", "--on-alarm", "mda-recalibrate"],
            ["mda-recalibrate:module:function"],
        ),
        (
            ["--mda", "sequence.json", "--on-alarm", "mda-recalibrate:os:sep"],
            ["'mda-recalibrate:os:sep'", "not a function"],
        ),
        (
            ["--mda", "sequence.json", *2 * ["--on-alarm", "mda-recalibrate:os:abort"]],
            ["'mda-recalibrate:os:abort'", "given twice"],
        ),
        (["--profile", "bad.toml"], ["bad.toml: alerts.on_alarm 'webhook:x'"]),
        (["--profile", "worse.toml"], ["alerts.on_alarm", "must be a list of strings"]),
        (["--mda", "none.json"], ["none.json", "cannot be read"]),
        (["--mda", "bad.toml"], ["bad.toml", "not a useq sequence"]),
        (["--mda", "broken.json"], ["broken.json", "not a useq sequence"]),
        (["--save", "raw.ome.zarr"], ["--save", "give --mda"]),
        (["--mda", "sequence.json", "--save", "."], [". exists already"]),
    ],
)
def test_what_cannot_be_done_is_refused_before_the_camera_starts(
    call, jump, sequence, tmp_path, monkeypatch, arguments, parts
):
    jump(15)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.toml").write_text('[alerts]\non_alarm = ["webhook:x"]\n')
    (tmp_path / "worse.toml").write_text('[alerts]\non_alarm = "log"\n')
    (tmp_path / "broken.json").write_text('{"time_plan": {"interval": "soon"}}')
    ran = call(*RUN, "--output", tmp_path / "kept", *arguments)
    assert ran.exit_code == 2
    (line,) = ran.stderr.splitlines()
    for part in parts:
        assert part in line
