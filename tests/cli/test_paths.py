"""Folders and files as people name them: with spaces, umlauts and signs."""

from __future__ import annotations

import csv
import shutil

import numpy as np
import tifffile

from deepblur_live.acquisition import open_series
from deepblur_live.profile import Channel, Profile, load_profile, write_profile
from deepblur_live.runtime.pack import find_packs, load_manifest
from deepblur_live.session.record import SessionRecord


def test_spaces_and_umlauts(call, session_of, tmp_path, monkeypatch):
    # Drawing them takes seconds.
    monkeypatch.setattr(SessionRecord, "_pictures", lambda *_: iter(()))
    folder = tmp_path / "Jörgs Daten (α) & Übriges 100 %"
    folder.mkdir()
    profile, recording = folder / "Gerät 3 µm.toml", folder / "Mäuse, Tag 1.ome.tif"
    kept, output = folder / "entschärft 1.ome.zarr", folder / "Sitzungen für später"
    channels = {"Grün": Channel(emission_nm=520.0)}
    write_profile(Profile(name="Gerät 3", channels=channels), profile)
    assert load_profile(profile).name == "Gerät 3"
    frames = np.random.default_rng(0).integers(100, 900, (3, 2, 64, 80), np.uint16)
    names = {"Channel": {"Name": ["Blau", "Grün"]}}
    tifffile.imwrite(recording, frames, metadata={"axes": "TCYX", **names})
    ran = call(
        "replay",
        recording,
        "--profile",
        profile,
        "--channel",
        "Grün",
        "--output",
        output,
        "--save-deblurred",
        kept,
        "--headless",
        "--in-process",
    )
    assert ran.exit_code == 0, ran.output
    session, about = session_of(output)
    assert about["profile"]["name"] == "Gerät 3"
    assert about["profile"]["optics"]["wavelength_nm"] == 520
    assert str(session) in ran.stdout
    with (session / "drift.csv").open(newline="", encoding="utf-8") as file:
        assert len(list(csv.reader(file))) == 4
    with open_series(kept) as series:
        assert len(series) == 3


def test_a_model_in_such_a_folder(tmp_path):
    copy = tmp_path / "Modelle für alle" / "größer als 7"
    shutil.copytree(find_packs()["zernike7"], copy)
    assert load_manifest(str(copy))[1].family == "zernike"
