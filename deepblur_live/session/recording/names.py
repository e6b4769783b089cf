"""Names of the files of a recording, and whether they can be written."""

from __future__ import annotations

from pathlib import Path

from deepblur_live.session.folder import require_folder

__all__ = ["check_recording", "file_of_part", "files_of_part", "is_zarr", "table_of"]

_SUFFIXES = (".ome.zarr", ".ome.tiff", ".ome.tif")


def check_recording(path: Path | str) -> Path:
    """Return the absolute path of a recording, which can be started there.

    Raises
    ------
    ValueError
        The name does not end in ``.ome.zarr``, ``.ome.tiff`` or ``.ome.tif``.
    OSError
        It exists already, or its folder cannot be written; the text names it.
    """
    path = Path(path).absolute()
    _split(path)
    for file in files_of_part(path, 1):
        if file.exists():
            raise FileExistsError(f"{file} exists already: give another name")
    require_folder(path.parent, "the recording")
    return path


def file_of_part(path: Path, part: int, *, raw: bool = False) -> Path:
    """Return the file of a part: NAME, NAME-2 …; NAME_raw, NAME-2_raw … if `raw`."""
    stem, suffix = _split(path)
    number = "" if part == 1 else f"-{part}"
    return path.with_name(f"{stem}{number}{'_raw' if raw else ''}{suffix}")


def files_of_part(path: Path, part: int) -> list[Path]:
    """Return all files that a part may consist of."""
    files = [file_of_part(path, part, raw=raw) for raw in (False, True)]
    return files if is_zarr(path) else [*files, *map(table_of, files)]


def table_of(path: Path) -> Path:
    """Return the path of the CSV table of an OME-TIFF."""
    return path.with_name(f"{_split(path)[0]}.csv")


def is_zarr(path: Path) -> bool:
    """Whether the recording is an OME-Zarr; it is an OME-TIFF otherwise."""
    return _split(path)[1].lower() == ".ome.zarr"


def _split(path: Path) -> tuple[str, str]:
    """Return the name without its ending, and the ending as given."""
    for suffix in _SUFFIXES:
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return path.name[: -len(suffix)], path.name[-len(suffix) :]
    raise ValueError(
        f"{path}: the name of a recording must end in .ome.zarr or .ome.tiff"
    )
