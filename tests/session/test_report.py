"""The report of sessions, however they ended: one page, with all that happened."""

from __future__ import annotations

import csv
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deepblur_live.blur import family_from_profile
from deepblur_live.profile import Drift, Model, Profile
from deepblur_live.session import LiveSession, report
from deepblur_live.session.columns import change_columns, change_limit_columns
from deepblur_live.session.report import ReportError, save_overview, write_report
from deepblur_live.session.report.baselines import baseline_spans
from deepblur_live.session.report.figures import (
    change_figure,
    coefficients_figure,
    quality_figure,
)
from deepblur_live.session.report.page import _frames, verdict
from deepblur_live.session.report.read import read_session

EVENTS = """\
{"event": "sessionStarted", "time_s": 0.0}
{"event": "baselineSet", "time_s": 5.0, "coefficients": [0,0,0,0,0,0,0]}
{"event": "stateChanged", "time_s": 5.0, "state": "ok", "reason": ""}
{"event": "stateChanged", "time_s": 40.0, "state": "alarm", "reason": ""}
{"event": "alertRaised", "time_s": 40.0, "alert": {"time": 40.0, "level": "alarm",
 "change": 0.1, "change_sigma": 0.004, "coefficients": ["vertical coma"],
 "changes": [0.1], "cause": "tilt of the <coverslip>", "remedy": "level it"}}
{"event": "alertAcknowledged", "time_s": 50.0, "alert": {"time": 40.0}}
{"event": "alertCleared", "time_s": 55.0, "alert": {"time": 40.0}}
""".replace("\n ", " ")


@pytest.fixture
def folder(closed_session, tmp_path):
    """A closed session of a minute, and its events."""
    folder = tmp_path / "kept" / closed_session.name
    shutil.copytree(closed_session, folder)
    (folder / "events.jsonl").write_text(EVENTS, "utf-8")
    return folder


@pytest.fixture(scope="module")
def written(closed_session, tmp_path_factory):
    """The report of that session, whole: its page, then its pictures."""
    folder = tmp_path_factory.mktemp("written") / closed_session.name
    shutil.copytree(closed_session, folder)
    (folder / "events.jsonl").write_text(EVENTS, "utf-8")
    return write_report(folder)


class NoPicture:
    """Stands in for the canvas of a PNG."""

    def __init__(self, figure) -> None:
        pass

    def print_png(self, path, **how) -> None:
        path.touch()


@pytest.fixture(autouse=True)
def page_alone(monkeypatch):
    """Draw each figure once, for the page: the PNG takes as long again."""
    monkeypatch.setattr(report, "FigureCanvasAgg", NoPicture)


class Page(HTMLParser):
    """A page: its text, and what it would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words = ""
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "data", "poster", "srcset"):
                self.fetched.append(value)

    def handle_data(self, data):
        self.words += data + " "


def test_the_page_is_self_contained(written, closed_session):
    page, *pictures = written
    assert page.parts[-2:] == (closed_session.name, "report.html")
    text = page.read_text("utf-8")
    seen = Page(text)
    assert all(place.startswith(("data:", "#")) for place in seen.fetched)
    assert not {"script", "link", "iframe", "object"} & set(seen.tags)
    assert not re.search(r"url\((?!#)|@import", text)
    assert seen.tags.count("svg") == 4
    assert len(pictures) == 4
    for picture in pictures:
        with Image.open(picture) as image:
            assert min(image.size) > 200


def test_it_describes_what_happened(written):
    words = Page(written[0].read_text("utf-8")).words
    assert (
        "The change from the baseline exceeded the alarm limit at 0:00:40: 54 ± 2 nm"
        in words
    )
    assert "tilt of the <coverslip>" in words
    assert "level it" in words
    assert "acknowledged 0:00:50" in words and "recovered 0:00:55" in words
    assert "rig <3> & co" in words
    assert "PSF SNR against the truth" in words
    for name in read_session(written[0].parent).family.names:
        assert name in words
    # The text of figures is text, which can be searched and read aloud.
    assert "change from baseline" in words and "Strehl" in words
    assert "The common sign of all even modes" in words


def test_names_given_by_the_user_are_escaped(written):
    text = written[0].read_text("utf-8")
    assert "<3>" not in text and "<coverslip>" not in text


def test_it_may_go_elsewhere(folder, tmp_path):
    paths = write_report(folder, tmp_path / "reports" / "monday")
    assert all(path.parent == tmp_path / "reports" / "monday" for path in paths)
    assert not (folder / "report.html").exists()


def test_a_session_that_was_cut_off_has_its_report(folder):
    about = json.loads((folder / "session.json").read_text("utf-8"))
    for key in ("summary", "counts", "ended", "pictures"):
        del about[key]
    about["state"] = "running"
    (folder / "session.json").write_text(json.dumps(about), "utf-8")
    log = folder / "drift.csv"
    log.write_bytes(log.read_bytes()[:-60])
    (folder / "events.jsonl").write_text(EVENTS[:-25], "utf-8")
    data = read_session(folder)
    assert len(data.times) == 59
    words = Page(write_report(folder)[0].read_text("utf-8")).words
    assert "The session was cut off" in words
    assert "recovered" not in words


def test_a_session_without_events_or_baseline(folder):
    (folder / "events.jsonl").unlink()
    lines = (folder / "drift.csv").read_text("utf-8").splitlines(keepends=True)
    (folder / "drift.csv").write_text("".join(lines[:3]), "utf-8")
    words = Page(write_report(folder)[0].read_text("utf-8")).words
    assert "before a baseline was measured" in words


def test_a_session_of_one_point(folder):
    lines = (folder / "drift.csv").read_text("utf-8").splitlines(keepends=True)
    (folder / "drift.csv").write_text("".join(lines[:2]), "utf-8")
    page = Page(write_report(folder)[0].read_text("utf-8"))
    words = " ".join(page.words.split())
    assert "points in the drift log 1 " in words
    # It is the start, the worst and the end.
    assert "start worst end end − start defocus +27 ± 1 +27 ± 1 +27 ± 1 0 " in words
    assert page.tags.count("svg") == 4


def test_a_session_that_was_raw_only(family, listener, results, now, tmp_path):
    session = LiveSession(Profile(), family, listener, tmp_path, now=now)
    for _ in range(10):
        listener.emit(results(raw_reason="constant"))
    session.close()
    words = Page(write_report(session.folder)[0].read_text("utf-8")).words
    assert "No blur was identified." in words
    assert "raw-only" in words


def test_gaps_stay_gaps(folder):
    data = read_session(folder)
    lines = (folder / "drift.csv").read_text("utf-8").splitlines(keepends=True)
    (folder / "drift.csv").write_text("".join(lines[:20] + lines[45:]), "utf-8")
    shorter = read_session(folder)
    whole = quality_figure(data).axes[0].lines[0].get_ydata()
    broken = quality_figure(shorter).axes[0].lines[0].get_ydata()
    # One hole at the end of each stretch.
    assert np.isnan(whole).sum() == 1
    assert np.isnan(broken).sum() == 2


@pytest.mark.parametrize("points", [1, 2, 50])
@pytest.mark.parametrize("units", ["nm", "waves"])
def test_the_overview_of_any_length(folder, points, units):
    spoil(
        "session.json",
        lambda b: b.replace(b'"units": "nm"', b'"units": "%s"' % units.encode()),
    )(folder)
    spoil("drift.csv", lambda b: b"".join(b.splitlines(True)[: points + 1]))(folder)
    save_overview(read_session(folder), folder / "drift.png")
    with Image.open(folder / "drift.png") as opened:
        picture = np.asarray(opened.convert("RGB"), float)
    assert picture.shape[0] > 600
    # Something coloured is drawn: curves, limits.
    assert (np.ptp(picture, axis=2) > 60).sum() > 500


def spoil(name, change):
    def damage(folder):
        path = folder / name
        path.write_bytes(change(path.read_bytes()))

    return damage


def logged(**event):
    return spoil("events.jsonl", lambda b: b + json.dumps(event).encode() + b"\n")


@pytest.mark.parametrize(
    "damage",
    [
        # What a power cut may leave.
        spoil("drift.csv", lambda b: b + bytes(200_000)),
        spoil("drift.csv", lambda b: b + b"," * 200 + b"\n"),
        spoil("drift.csv", lambda b: b.replace(b"\n7,", b"\nx,")),
        spoil("events.jsonl", lambda b: b + bytes(5000)),
        logged(event="stateChanged", state="ok"),
        logged(event="stateChanged", state="ok", time_s=None),
        logged(event="alertRaised", time_s=3),
        logged(event="alertRaised", time_s=3, alert={"time": 3, "level": "alarm"}),
    ],
)
def test_what_is_not_whole_is_left_out(folder, damage):
    damage(folder)
    assert write_report(folder)[0].is_file()


def test_an_event_with_a_line_separator_in_its_text(folder):
    text = "one\u2028two"
    event = {"event": "sinkFailed", "time_s": 3.0, "error": text}
    line = json.dumps(event, ensure_ascii=False).encode()
    spoil("events.jsonl", lambda b: b + line + b"\n")(folder)
    assert read_session(folder).events_of("sinkFailed")[0]["error"] == text


def test_limits_and_bands_of_the_modes_are_in_view(folder):
    data = read_session(folder)
    top = coefficients_figure(data).axes[0].get_ylim()[1]
    limit = data.profile.drift.alarm * 540
    baseline = np.max(np.abs(data.events_of("baselineSet")[0]["coefficients"])) * 540
    assert top > baseline + limit


def test_why_there_was_no_baseline_is_stated(folder):
    for name, change in (
        ("events.jsonl", lambda b: b""),
        (
            "drift.csv",
            lambda b: re.sub(rb",(ok|warn|alarm),", b",baselining,", b),
        ),
    ):
        spoil(name, change)(folder)
    logged(event="stateChanged", state="baselining", reason="not armed", time_s=3)(
        folder
    )
    data = read_session(folder)
    data.change[:] = np.nan
    assert "(not armed)" in verdict(data)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (
            lambda f: spoil(
                "session.json",
                lambda b: json.dumps(
                    json.loads(b) | {"coefficients": json.loads(b)["coefficients"][:3]}
                ).encode(),
            )(f),
            "the family of its profile has",
        ),
        (lambda f: (f / "session.json").unlink(), "it has no session.json"),
        (
            lambda f: (f / "session.json").write_text("{"),
            "session.json: cannot be read",
        ),
        (
            lambda f: (f / "session.json").write_text("[]"),
            "was not written by a session",
        ),
        (
            lambda f: (f / "session.json").write_text("{}"),
            "no profile, coefficients or coverage_factor",
        ),
        (
            lambda f: (f / "session.json").write_text('{"profile": {"x": 1}}'),
            "unknown key x",
        ),
        (lambda f: (f / "drift.csv").unlink(), "drift.csv: cannot be read"),
        (lambda f: (f / "drift.csv").write_text(""), "contains no results"),
    ],
)
def test_other_folders_are_refused_by_name(folder, damage, why):
    damage(folder)
    with pytest.raises(ReportError, match=re.escape(why)) as refused:
        write_report(folder)
    assert str(folder) in str(refused.value)


def test_a_family_that_is_not_zernike(listener, results, now, tmp_path, monkeypatch):
    """Its names, units and quality are in the log, the page and the figures."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "blur"))
    profile = Profile(
        model=Model(family="gaussian_family:GaussianFamily"),
        drift=Drift(
            baseline_points=10, warn=0.1, alarm=0.2, batch_s=1, false_alarm_hours=0.2
        ),
    )
    family = family_from_profile(profile)
    session = LiveSession(profile, family, listener, tmp_path, now=now)
    noise = np.random.default_rng(0).normal(0, 0.01, (100, 3))
    for k in range(100):
        wider = np.array([1.5 + max(0, k - 40) / 100, 0.1, 0.0])
        listener.emit(results(wider + noise[k], sigma=0.01))
    summary = session.close()
    assert list(session.background_errors) == []
    assert summary.alerts[-1].unit == "pixels"
    with (session.folder / "drift.csv").open(encoding="utf-8") as file:
        head = file.readline().split(",")
    for column in (
        *("width_pixels", "sigma_elongation_along_x_pixels", "resolution_pixels"),
        *("peak", "change_pixels", "change_sigma_pixels"),
    ):
        assert column in head
    words = Page(write_report(session.folder)[0].read_text("utf-8")).words
    assert "change from baseline" in words
    for text in ("elongation at 45°", "resolution (pixels)", "mean of the prior"):
        assert text in words
    for other in ("waves", "Strehl", "nm rms", "even modes"):
        assert other not in words.partition("Model and versions")[0]


def test_a_report_that_is_open_elsewhere_is_named(folder, tmp_path, monkeypatch):
    """Windows does not let it be written."""

    def locked(path, *_, **__):
        raise PermissionError(13, "Access is denied", str(path))

    for name in ("change", "psf", "coefficients", "quality"):
        monkeypatch.setattr(report, f"{name}_figure", lambda *_: None)
    monkeypatch.setattr(report, "svg", lambda *_: "")
    monkeypatch.setattr(Path, "write_text", locked)
    with pytest.raises(
        PermissionError, match=r"report\.html: cannot be written"
    ) as said:
        write_report(folder, tmp_path)
    assert "open in another program" in str(said.value)


REBASELINED = EVENTS.replace(
    '{"event": "alertCleared"',
    '{"event": "rebaselined", "time_s": 54.0}\n{"event": "alertCleared"',
)


def test_a_new_baseline_is_no_recovery(folder):
    (folder / "events.jsonl").write_text(REBASELINED, "utf-8")
    words = Page(write_report(folder)[0].read_text("utf-8")).words
    assert "ended by a new baseline 0:00:54" in words
    assert "recovered 0:" not in words
    assert "whether the optics had recovered is not known" in words
    assert "set by the user" in words


def test_statistics_are_those_of_each_baseline(folder):
    (folder / "events.jsonl").write_text(REBASELINED, "utf-8")
    data = read_session(folder)
    first, second = baseline_spans(data)
    assert (first.begin, first.end, second.begin) == (0.0, 54.0, 54.0)
    assert second.by_user and not first.by_user
    assert len(data.times[first.rows]) == 54 and len(data.times[second.rows]) == 6
    assert not alerts_of(data, second) and len(alerts_of(data, first)) == 1


def alerts_of(data, span):
    return [
        event
        for event in data.events_of("alertRaised")
        if span.begin <= event["time_s"] < span.end
    ]


def test_no_line_is_drawn_across_a_new_baseline(folder):
    (folder / "events.jsonl").write_text(REBASELINED, "utf-8")
    data = read_session(folder)
    curve = quality_figure(data).axes[0].lines[0]
    times, values = np.asarray(curve.get_xdata()), np.asarray(curve.get_ydata())
    # One hole at the end of each stretch.
    assert times[np.isnan(values)].tolist() == [53.0, 59.0]
    # And the place is marked.
    drawn = [
        line.get_xydata()[:2].tolist() for line in change_figure(data).axes[0].lines
    ]
    assert [[54.0, 0.0], [54.0, 1.0]] in drawn


def test_a_contradicted_pixel_size_is_reported(folder):
    line = (
        '{"event": "opticsContradicted", "time_s": 6.0, "reason": "the microscope '
        'states pixels of 65 nm, the profile 100 nm"}\n'
    )
    wrong = "pixel size is contradicted: the microscope states pixels of 65 nm"
    (folder / "events.jsonl").write_text(EVENTS + line, "utf-8")
    words = Page(write_report(folder)[0].read_text("utf-8")).words
    assert wrong in words and "pixels of 100 nm (contradicted)" in words
    assert re.search(r"\d px wide", words) and "µm wide" not in words
    for end in ("opticsConfirmed", "opticsAgree"):
        after = f'{{"event": "{end}", "time_s": 7.0, "reason": ""}}\n'
        (folder / "events.jsonl").write_text(EVENTS + line + after, "utf-8")
        assert wrong not in verdict(read_session(folder))


def test_limits_are_drawn_where_they_were_in_force(folder):
    data = read_session(folder)
    times = data.times
    columns = {
        "contrast_change_np": times * 0 + 0.06,
        # Provisional for 20 s, then in doubt for 20 s.
        "contrast_warn_np": np.select([times < 20, times < 40], [0.05, np.nan], 0.03),
        "contrast_alarm_np": np.where(times < 40, np.nan, 0.08),
    }
    data = replace(data, numbers={**data.numbers, **columns, **_changes(data)})
    lines = [line.get_xydata() for line in change_figure(data).axes[1].lines]
    warn = next(x for x in lines if len(x) > 9 and x[0, 1] == pytest.approx(5))
    drawn = warn[np.isfinite(warn[:, 1])]
    assert {round(y) for x, y in drawn if x >= 40} == {3}
    assert not [x for x, _ in drawn if 20 <= x < 40]


def _changes(data):
    """The columns of the change, which are converted when they are asked for."""
    names = (*change_columns(data.family), *change_limit_columns(data.family))
    return {name: data.numbers[name] for name in names}


def test_an_alert_of_the_spectra_is_reported_in_their_unit(folder):
    spectral = EVENTS.replace(
        '"change_sigma": 0.004', '"change_sigma": 0.01, "unit": "Np"'
    ).replace('"coefficients": ["vertical coma"],', '"coefficients": [],')
    spectral = spectral.replace('"changes": [0.1]', '"changes": []')
    (folder / "events.jsonl").write_text(spectral, "utf-8")
    words = Page(write_report(folder)[0].read_text("utf-8")).words
    assert "0:00:40: 10 ± 1 % of the contrast of details." in words
    assert "mostly" not in words


def test_the_report_tells_what_was_watched_and_how_good_it_was(written):
    words = Page(written[0].read_text("utf-8")).words
    assert "of the time watched for changes" in words
    assert re.search(r"0\.\d\d ± 0\.\d\d Strehl at the end \((good|fair|poor)\)", words)


@pytest.mark.parametrize("whole", [True, False])
def test_the_report_accounts_for_missed_frames(folder, whole: bool) -> None:
    about = json.loads((folder / "session.json").read_text("utf-8"))
    about.pop("counts", None)
    about["summary"] = {"missed": {"taken": 4, "unread": 2}}
    if not whole:  # cut off: as in the last row
        about.pop("summary")
        lines = (folder / "drift.csv").read_text("utf-8").splitlines()
        rows = list(csv.DictReader(lines))
        rows[-1] |= {"missed_taken": "4", "missed_unread": "2"}
        with (folder / "drift.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    (folder / "session.json").write_text(json.dumps(about), "utf-8")
    text = Page(_frames(read_session(folder))).words
    assert "taken by another reader 4" in text and "not read in time 2" in text
    assert "not sent" not in text
