"""Errors in a profile are named, and a written profile can be read back."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import get_args, get_origin

import pytest
from pydantic import ValidationError

from deepblur_live.blur import family_from_profile
from deepblur_live.blur.zernike_field import ZernikeField
from deepblur_live.profile import (
    NOLL_PRESETS,
    Camera,
    Drift,
    Model,
    Optics,
    Profile,
    ProfileError,
    check_profile,
    load_profile,
    write_profile,
)


@pytest.fixture
def rig(tmp_path: Path) -> Path:
    return tmp_path / "rig.toml"


def refusal(rig: Path, text: str) -> str:
    rig.write_text(text, encoding="utf-8")
    with pytest.raises(ProfileError) as caught:
        load_profile(rig)
    return str(caught.value).replace(str(rig), "rig.toml")


def test_an_empty_file_gives_the_defaults(rig: Path) -> None:
    rig.write_text("", encoding="utf-8")
    assert load_profile(rig) == Profile()


def test_defaults_survive_a_round_trip(rig: Path) -> None:
    write_profile(Profile(), rig)
    assert load_profile(rig) == Profile()


def test_every_setting_survives_a_round_trip(rig: Path) -> None:
    profile = Profile(
        name='the "old" rig, 3rd floor \\ µ',
        optics=Optics(
            numerical_aperture=0.75,
            wavelength_nm=605.5,
            refractive_index=1.0,
            pixel_size_nm=162.5,
            noll=(4, 6, 11),
        ),
        camera=Camera(
            offset_adu=100.0,
            gain_e_per_adu=0.46,
            read_noise_e=1.6,
            sensor_rows=2048,
            sensor_columns=2304,
        ),
        model=Model(name="other", blur="field", device="cpu", threads=2, average_s=0.0),
        drift=Drift(warn=0.01, alarm=0.02, baseline_points=50),
    )
    write_profile(profile, rig)
    assert load_profile(rig) == profile


def test_the_written_file_has_units_and_examples(rig: Path) -> None:
    text = Profile().to_toml()
    assert "from 300 to 1200 nm" in text
    assert "# gain_e_per_adu = 0.46" in text
    comments = [line for line in text.splitlines() if line.startswith("# ")]
    assert max(map(len, comments)) <= 88


def test_a_file_of_windows_notepad_is_read(rig: Path) -> None:
    rig.write_bytes(b'\xef\xbb\xbfname = "x"\r\n[optics]\r\nwavelength_nm = 600\r\n')
    assert load_profile(rig).optics.wavelength_nm == 600.0


@pytest.mark.parametrize(("preset", "modes"), NOLL_PRESETS.items())
def test_modes_by_preset_name(rig: Path, preset: str, modes: tuple[int, ...]) -> None:
    rig.write_text(f'[optics]\nnoll = "{preset}"', encoding="utf-8")
    assert load_profile(rig).optics.noll == modes


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[optics]\npixel_size = 65", ["optics.pixel_size", "pixel_size_nm?"]),
        ("[optics]\nna = 1.4", ["optics.na", "numerical_aperture?"]),
        ("[dispaly]\nunits = 'nm'", ["dispaly", "display?"]),
        (
            "refractive_index = 1.33",
            ["refractive_index", "did you mean refractive_index under [optics]?"],
        ),
        ("[drift]\nzzz = 1", ["drift.zzz", "[drift] has warn, alarm"]),
        ("[optics]\nwavelength_nm = 0.54", ["0.54", "300 to 1200 nm", "then 540"]),
        ("[optics]\npixel_size_nm = 6.5e-8", ["metres", "then 65"]),
        ('[optics]\nwavelength_nm = "540"', ["300 to 1200 nm", "without quotes"]),
        ("[optics]\nwavelength_nm = nan", ["optics.wavelength_nm", "300 to 1200 nm"]),
        ("[optics]\nrefractive_index = 1.33", ["1.41", "1.33", "immersion"]),
        ("[optics]\npixel_size_nm = 325", ["325", "too coarse", "below 191"]),
        (
            "[optics]\npixel_size_nm = 20\nnumerical_aperture = 0.05",
            ["20 is much finer", "at least 169"],
        ),
        ("[optics]\nnoll = [2, 4, 5]", ["optics.noll", "tilts", "[4, 5]?"]),
        ("[optics]\nnoll = [5, 4, 4]", ["optics.noll", "[4, 5]?"]),
        ("[optics]\nnoll = []", ["optics.noll", "4 to 37"]),
        ("[optics]\nnoll = [4.0]", ["optics.noll", "list of Noll indices"]),
        ('[optics]\nnoll = "papr"', ["papr", '"paper" or "spherical"']),
        ("[camera]\ngain_e_per_adu = 0", ["camera.gain_e_per_adu", "0 excluded"]),
        ("[camera]\nread_noise_e = 1.6", ["camera:", "gain_e_per_adu"]),
        ("[camera]\nsensor_rows = 2048", ["sensor_rows and sensor_columns", "both"]),
        ('[model]\nblur = "varying"', ["model.blur", '"uniform" or "field"']),
        (
            '[model]\nblur = "field"\nfamily = "a:B"\n[drift]\nwarn = 1\nalarm = 2',
            ['model.blur = "field"', "'a:B'", '"uniform"'],
        ),
        (
            '[model]\nblur = "field"\nbead_diameter_nm = 200',
            ['model.blur = "field"', "bead_diameter_nm", "one of them"],
        ),
        (
            '[optics]\nnoll = [5, 6]\n[model]\nblur = "field"',
            ['model.blur = "field"', "defocus", "optics.noll"],
        ),
        ("[model]\nname = 7", ["model.name = 7", "quotes"]),
        ('[model]\ndevice = "gpu"', ["model.device", '"auto" or "cpu" or "cuda"']),
        ("[model]\nthreads = 1.5", ["model.threads", "whole number from 1 to 64"]),
        ("[drift]\nwarn = 20", ["drift: warn 20", "divide by the wavelength"]),
        (
            "[drift]\nwarn = 20\nalarm = 39",
            ["rig.toml: drift.alarm = 39", "0.5 waves", "divide by the wavelength"],
        ),
        (
            "[drift]\nbatch_s = 100\nfalse_alarm_hours = 0.1",
            ["drift:", "false_alarm_hours 0.1", "80 batches of 100 s: 2.22 hours"],
        ),
        (
            "[drift]\nwarn = 0.1",
            ["drift: warn 0.1 must be below alarm 0.072 (the default: give both)"],
        ),
        ("[display]\nrefresh_hz = true", ["display.refresh_hz = true", "60 Hz"]),
        ("optics = 3", ["optics = 3", "[optics]"]),
        ("name = 3", ["name = 3", "quotes"]),
        ("[optics\n", ["not a TOML file", "line 1"]),
    ],
)
def test_a_mistake_is_named_with_its_remedy(
    rig: Path, text: str, parts: list[str]
) -> None:
    message = refusal(rig, text)
    assert message.startswith("rig.toml: ")
    for part in parts:
        assert part in message


NUMBERS = [
    (section, key)
    for section, part in Profile.model_fields.items()
    for key, field in getattr(part.annotation, "model_fields", {}).items()
    if {int, float} & {field.annotation, *get_args(field.annotation)}
    and get_origin(field.annotation) is not tuple
]


@pytest.mark.parametrize(("section", "key"), NUMBERS)
def test_true_is_not_a_number(rig: Path, section: str, key: str) -> None:
    message = refusal(rig, f"[{section}]\n{key} = true")
    assert message.startswith(f"rig.toml: {section}.{key} = true: must be ")
    assert message.endswith(", and true is not a number")


def test_all_mistakes_of_a_file_are_reported_at_once(rig: Path) -> None:
    message = refusal(rig, "[optics]\nwavelength_nm = 1\n[model]\nthreads = 0\n")
    assert "optics.wavelength_nm" in message
    assert "model.threads" in message
    assert len(message.splitlines()) == 2


def test_a_missing_file_and_a_binary_one_are_named(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"none\.toml: cannot be read: No such"):
        load_profile(tmp_path / "none.toml")
    (tmp_path / "image.toml").write_bytes(b"\x89PNG\xff")
    with pytest.raises(ProfileError, match=r"image\.toml: not a text file"):
        load_profile(tmp_path / "image.toml")


def test_a_profile_is_immutable_and_can_be_pickled() -> None:
    profile = Profile()
    with pytest.raises(ValidationError, match="frozen"):
        profile.optics.wavelength_nm = 600.0  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(profile)) == profile


def test_another_family_needs_limits_in_its_own_unit(rig: Path) -> None:
    said = refusal(rig, '[model]\nfamily = "my_rig:Family"\n[drift]\nwarn = 0.01')
    assert said.startswith("rig.toml: drift: give warn and alarm in the unit of 'my_")
    rig.write_text(
        '[model]\nfamily = "my_rig:Family"\n[drift]\nwarn = 2.5\nalarm = 4\n',
        encoding="utf-8",
    )
    assert load_profile(rig).drift.alarm == 4


def test_a_field_has_the_sensor_of_the_profile() -> None:
    content = {
        "model": {"blur": "field"},
        "camera": {"sensor_rows": 2048, "sensor_columns": 2304},
    }
    profile = check_profile(content, "test")
    field = family_from_profile(profile)
    assert isinstance(field, ZernikeField)
    assert (field.view.rows, field.view.columns) == (2048, 2304)
    assert family_from_profile(profile.uniform) == field.local
    assert profile.uniform.camera == profile.camera


def test_paths_are_relative_to_the_file(rig: Path) -> None:
    rig.write_text('[model]\ncalibration = "a/rig.calib"', encoding="utf-8")
    assert load_profile(rig).model.calibration == str(rig.parent / "a/rig.calib")
    elsewhere = str(rig.parent.parent / "psf.ome.tif")
    write_profile(Profile(model=Model(psf=elsewhere)), rig)
    assert load_profile(rig).model.psf == elsewhere


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('calibration = "a"\npsf = "b"', "calibration and psf both define the blur"),
        (
            'calibration = "a"\nfamily = "m:C"',
            "cannot be combined with the family 'm:C'",
        ),
        ('psf = "b"\nblur = "field"', "is one blur for the whole frame"),
        ('psf = "b"\nbead_diameter_nm = 200.0', "which psf switches off"),
        ('calibration = ""', "is empty"),
        ('\n[drift]\nreference = "calibration"', "give model.calibration"),
    ],
)
def test_a_measured_blur_that_contradicts_is_named(
    rig: Path, text: str, said: str
) -> None:
    assert said in refusal(rig, f"[model]\n{text}")


def test_channels_have_their_wavelengths(rig: Path) -> None:
    text = """
        [channels.DAPI]
        emission_nm = 460
        [channels."Cy5 far red"]
        emission_nm = 670.5
    """
    rig.write_text(text, encoding="utf-8")
    profile = load_profile(rig)
    assert profile.wavelength_of("DAPI") == 460
    assert profile.wavelength_of("Cy5 far red") == 670.5
    assert profile.wavelength_of("another") == 540
    optics = profile.at_wavelength(460).optics
    assert optics == profile.optics.model_copy(update={"wavelength_nm": 460.0})
    assert profile.at_wavelength(540) is profile
    write_profile(profile, rig)
    assert load_profile(rig) == profile
    # An empty table is shown by an example.
    assert "# [channels.NAME]\n" in Profile().to_toml()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[channels.A]\nemision_nm = 460", "channels.A.emision_nm: did you mean emiss"),
        ("[channels.A]\nemission_nm = 0.46", "(given in micrometres? then 460)"),
        ("[channels]\nA = 460", "A = 460: this is a section, write [channels.A]"),
        (
            "[optics]\npixel_size_nm = 150\n[channels.A]\nemission_nm = 400",
            "channels.A: at 400 nm: optics: pixel_size_nm 150 is too coarse",
        ),
        (
            '[model]\npsf = "b"\n[channels.A]\nemission_nm = 460',
            "channels.A: model.psf was measured at one wavelength, 540 nm",
        ),
    ],
)
def test_mistakes_in_a_channel(rig: Path, text: str, said: str) -> None:
    assert said in refusal(rig, text)
