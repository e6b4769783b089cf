"""A file of lines: whole rows, on a disk that fills up, vanishes and comes back."""

from __future__ import annotations

import csv
import errno
import logging

import pytest

from deepblur_live.session.line_file import LineFile, csv_line

COLUMNS = ("time_s", "defocus_waves", "reason")


class Disk:
    """Opens files that fail while `full`, after writing half of the data."""

    def __init__(self) -> None:
        self.full = False
        self.opened = 0

    def __call__(self, path, mode):
        self.opened += 1
        return _File(self, path.open(mode, buffering=0))


class _File:
    def __init__(self, disk, file):
        self._disk, self._file = disk, file

    def write(self, data):
        if self._disk.full:
            self._file.write(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._file.write(data)

    def __getattr__(self, name):
        return getattr(self._file, name)


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


class Log(LineFile):
    """A drift log; its files are opened by a `Disk`."""

    def __init__(self, path, disk, **options) -> None:
        self._disk = disk
        super().__init__(path, csv_line(COLUMNS), **options)

    def _open(self, mode):
        return self._disk(self.path, mode)

    def row(self, *values) -> bool:
        return self.write(csv_line(values))


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def log(tmp_path, clock, disk):
    log = Log(tmp_path / "drift.csv", disk, clock=clock, retry_s=2.0)
    yield log
    log.close()


def test_each_row_is_in_the_file_at_once(log):
    assert read(log.path) == [list(COLUMNS)]
    assert log.row(0.5, 0.0123456789, "")
    assert log.row(1.0, float("nan"), "too dark, too small")
    assert log.row(28800.125, None, 'a "word"')
    assert read(log.path)[1:] == [
        ["0.5", "0.0123456789", ""],
        ["1", "", "too dark, too small"],
        ["28800.125", "", 'a "word"'],
    ]
    assert (log.lines, log.lost, log.error) == (3, 0, "")


def test_nothing_is_overwritten(log):
    with pytest.raises(FileExistsError):
        LineFile(log.path)


def test_full_disk_costs_rows_and_a_log_line_when_it_ends(log, disk, clock, caplog):
    log.row(0.0, 0.1, "")
    disk.full = True
    with caplog.at_level(logging.INFO, "deepblur_live.session"):
        for k in range(50):
            clock.now += 0.5
            assert not log.row(float(k), 0.2, "")
        assert "No space left" in log.error
        assert log.lost == 50
        # It is tried again every two seconds, not at every row.
        assert disk.opened <= 15
        disk.full = False
        clock.now += 2.0
        assert log.row(99.0, 0.3, "")
        assert log.row(100.0, 0.4, "")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "50 rows lost" in caplog.text
    assert str(log.path) in caplog.records[0].message
    assert log.error == ""
    # No half row is left where the disk gave up.
    assert read(log.path)[1:] == [
        ["0", "0.1", ""],
        ["99", "0.3", ""],
        ["100", "0.4", ""],
    ]


def test_short_write_is_a_full_disk(tmp_path, clock):
    short = False

    class Short(_File):
        def write(self, data):
            return self._file.write(data[:3] if short else data)

    def open_file(path, mode):
        return Short(None, path.open(mode, buffering=0))

    log = Log(tmp_path / "drift.csv", open_file, clock=clock)
    short = True
    assert not log.row(1.0, 2.0, "")
    short = False
    clock.now += 10
    assert log.row(3.0, 4.0, "")
    log.close()
    assert read(log.path) == [list(COLUMNS), ["3", "4", ""]]


def test_a_deleted_file_is_started_again_with_its_header(log, disk, clock):
    log.row(0.0, 0.1, "")
    disk.full = True
    log.row(1.0, 0.1, "")
    log.path.unlink()
    disk.full = False
    clock.now += 5
    log.row(2.0, 0.1, "")
    assert read(log.path) == [list(COLUMNS), ["2", "0.1", ""]]


def test_closed_log_writes_no_more(log, clock):
    log.close()
    clock.now += 1e6
    assert not log.row(0.0, 0.1, "")
    assert read(log.path) == [list(COLUMNS)]
