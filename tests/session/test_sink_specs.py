"""Sinks from their specifications, and what is refused by name."""

from __future__ import annotations

import json
import os
import sys
from types import SimpleNamespace

import pytest
from pymmcore_plus.mda.events import MDASignaler

from deepblur_live.session.sinks import MdaHandles, make_sinks, without_secret


def test_each_kind_is_understood(tmp_path):
    core = SimpleNamespace(mda=SimpleNamespace(events=MDASignaler()))
    mda = MdaHandles(core, put=lambda event: None)
    specs = [
        "log",
        f"jsonl:{tmp_path / 'alarms.jsonl'}",
        "webhook:https://chat.example.org/hooks/1",
        f"command:{sys.executable} -V",
        "python:os.path:basename",
        "mda-pause",
        "mda-recalibrate",
    ]
    sinks = make_sinks(specs, "--on-alarm", mda)
    assert [sink.name.partition(":")[0] for sink in sinks] == [
        *("log", "jsonl", "webhook", "command", "python"),
        *("mda-pause", "mda-recalibrate"),
    ]


@pytest.mark.parametrize(
    ("spec", "kept"),
    [
        (
            "webhook:https://chat.example.org:8443/hooks/1",
            "webhook:chat.example.org:8443",
        ),
        ("webhook:https//secret", "webhook:…"),
        ("command:notify -x", "command:notify -x"),
        ("log", "log"),
    ],
)
def test_a_webhooks_address_is_not_kept(spec, kept):
    assert without_secret(spec) == kept


@pytest.mark.parametrize(
    "written",
    [
        lambda script: f'"{sys.executable}" "{script}" "two words" C:\\temp',
        lambda script: json.dumps([sys.executable, script, "two words", "C:\\temp"]),
    ],
)
def test_a_command_is_a_list_without_a_shell(tmp_path, make_notice, written):
    script, kept = tmp_path / "a script.py", tmp_path / "kept.json"
    script.write_text(
        "import json, pathlib, sys\n"
        f"pathlib.Path({str(kept)!r}).write_text(json.dumps(sys.argv[1:]))\n"
    )
    (sink,) = make_sinks([f"command:{written(str(script))}"], "--on-alarm")
    sink.deliver(make_notice())
    assert json.loads(kept.read_text()) == ["two words", "C:\\temp"]


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("email:me", "must be log, jsonl:PATH"),
        ("", "must be log, jsonl:PATH"),
        ("webhook:", "must be log, jsonl:PATH"),
        ("webhook:ftp://host", "must be http"),
        ("webhook:https://me:secret@host", "must not contain a user name or password"),
        ("jsonl:no-such-folder/alarms.jsonl", "cannot be written: No such file"),
        ("command:no-such-program -x", "no-such-program: no such program"),
        ('command:python "-c', "no closing quotation"),
        ('command:["python", 3]', "a JSON list of strings"),
        ('command:["python"', "not a JSON list"),
        ("python:nowhere_to_be_found:call", "nowhere_to_be_found: cannot be imported"),
        ("python:os", "must be module:function"),
        ("python:os:no_such", "os: has no no_such"),
        ("python:os:sep", "is a str, not a function"),
        ("mda-pause", "there is no MDA here"),
        ("mda-recalibrate", "there is no MDA here"),
        ("mda-pause:now", "mda-pause takes no argument"),
        ("mda-recalibrate:rig:function", "works only with `deepblur-live run --mda`"),
    ],
)
def test_others_are_refused_by_name_and_place(spec, why, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as refused:
        make_sinks(["log", spec], "rig.toml: alerts.on_alarm")
    assert str(refused.value).startswith(f"rig.toml: alerts.on_alarm {spec!r}: ")
    assert why in str(refused.value)


def test_a_pipe_that_nobody_reads_is_refused_at_once(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("has no named pipes")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="is not a file"):
        make_sinks([f"jsonl:{tmp_path / 'pipe'}"], "--on-alarm")
