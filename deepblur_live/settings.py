"""Strictly validated settings: TOML with explanations, errors with a remedy."""

from __future__ import annotations

import difflib
import json
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

__all__ = ["Section", "as_toml", "explain", "meaning", "setting"]

# Longest line of a comment in TOML.
_COMMENT = 86

# Likely mistakes of unit: factor to the right unit, and name of the wrong one.
_UNIT_MISTAKES: Mapping[str, Mapping[float, str]] = {
    "nm": {1e3: "micrometres", 1e9: "metres", 1e-1: "angstroms"},
    "s": {1e-3: "milliseconds"},
}


class Section(BaseModel):
    """A table of settings: strict types, no unknown keys, immutable."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False
    )


def setting(
    default: Any, meaning: str, *, unit: str = "", example: Any = None, **limits: Any
) -> Any:
    """Return a field with its meaning and unit.

    Parameters
    ----------
    default
        Value when the key is left out.
    meaning
        A short explanation for the user who edits the file.
    unit
        Unit of the value; empty for a pure number or a text.
    example
        Shown if the default is None.
    limits
        ``ge``, ``gt``, ``le``, ``lt``: as `pydantic.Field` takes them.
    """
    extra = {"unit": unit, "example": example}
    return Field(default, description=meaning, json_schema_extra=extra, **limits)


def as_toml(settings: Section, title: str) -> str:
    """Return `settings` as TOML with the meaning, unit and range of each key.

    Plain keys come first, then one table for each section. None, which TOML does not
    have, becomes a comment with an example.
    """
    lines = [f"# {title}"]
    tables: list[str] = []
    for key, field in type(settings).model_fields.items():
        value = getattr(settings, key)
        if isinstance(value, Section):
            tables += _table(key, value)
        elif (kind := _table_type(field)) is not None:
            for name, section in value.items():
                tables += _table(f"{key}.{_toml_key(name)}", section)
            if not value:
                tables += _commented(_table(f"{key}.NAME", kind()))
        else:
            lines += _entry(key, value, field)
    return "\n".join(lines + tables) + "\n"


def meaning(field: FieldInfo) -> str:
    """Return the meaning of a field, and its range and unit."""
    unit, _ = _extra(field)
    parts = [field.description or "", _allowed(field) or unit]
    return "; ".join(part for part in parts if part)


def explain(
    error: ValidationError, model: type[Section], content: Mapping[str, Any]
) -> list[str]:
    """Return one sentence per mistake: the key, what is wrong, what would be right.

    Parameters
    ----------
    error
        Raised by the validation of `content` against `model`.
    model, content
        The settings as they should be, and as they were given.
    """
    return [_sentence(detail, model, content) for detail in error.errors()]


def _table(key: str, section: Section) -> list[str]:
    """Return a section as a table of TOML, with its title."""
    title = (type(section).__doc__ or "").strip().splitlines()[0]
    lines = ["", f"# {title}", f"[{key}]"]
    for inner, field in type(section).model_fields.items():
        lines += _entry(inner, getattr(section, inner), field)
    return lines


def _commented(table: Sequence[str]) -> list[str]:
    """Return a table as a comment."""
    return ["", *(f"# {line.removeprefix('# ')}" for line in table[1:])]


def _toml_key(name: str) -> str:
    """Return a key of TOML, in quotes if necessary."""
    bare = name.isascii() and name.replace("-", "_").isidentifier()
    return name if bare else json.dumps(name, ensure_ascii=False)


def _entry(key: str, value: Any, field: FieldInfo) -> list[str]:
    _, example = _extra(field)
    text = textwrap.wrap(meaning(field), _COMMENT, break_on_hyphens=False)
    lines = [f"# {line}" for line in text]
    # JSON numbers, strings and lists of them are valid TOML.
    if value is None:
        return [*lines, f"# {key} = {json.dumps(example)}"]
    return [*lines, f"{key} = {json.dumps(value, ensure_ascii=False)}"]


def _sentence(
    detail: ErrorDetails, model: type[Section], content: Mapping[str, Any]
) -> str:
    # Only the path to one of our fields: pydantic appends the types within its value.
    place = [str(part) for part in detail["loc"][: _depth(detail["loc"], model)]]
    key = ".".join(place)
    given: Any = content
    for part in place:
        given = given.get(part) if isinstance(given, Mapping) else given
    if detail["type"] == "extra_forbidden":
        return f"unknown key {key}: {_closest(place, model)}"
    field = _field_at(place, model)
    if detail["type"] == "value_error":
        reason = detail["ctx"]["error"]
        if not key:
            return str(reason)
        shown = "" if field is None else f" = {_shown(given)}"
        return f"{key}{shown}: {reason}"
    if field is None:
        return f"{key} = {_shown(given)}: this is a section, write [{key}]"
    right = _allowed(field) or _wanted(detail)
    return f"{key} = {_shown(given)}: must be {right}{_hint(given, field)}"


def _depth(place: Sequence[int | str], model: type[Section]) -> int:
    field = model.model_fields.get(str(place[0])) if place else None
    if _table_type(field) is not None:
        return 3
    return 1 if _section_type(field) is None else 2


def _section_type(field: FieldInfo | None) -> type[Section] | None:
    kind = None if field is None else field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def _table_type(field: FieldInfo | None) -> type[Section] | None:
    """Return the type of the sections of a table of them, each with a name."""
    kinds = () if field is None else get_args(field.annotation)
    kind = kinds[-1] if len(kinds) == 2 else None
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def _field_at(place: Sequence[str], model: type[Section]) -> FieldInfo | None:
    """Return the setting at `place`, or None if that is a whole section."""
    field = model.model_fields.get(place[0]) if place else None
    table = _table_type(field)
    if table is not None:
        return table.model_fields.get(place[2]) if len(place) > 2 else None
    inner = _section_type(field)
    if inner is None:
        return field
    return inner.model_fields.get(place[1]) if len(place) > 1 else None


def _closest(place: Sequence[str], model: type[Section]) -> str:
    """Return the most likely correction of an unknown key."""
    known = {
        key: _section_type(field) or _table_type(field)
        for key, field in model.model_fields.items()
    }
    inside = known.get(place[0]) if len(place) > 1 else model
    here = list((inside or model).model_fields)
    wrong = place[-1].lower()
    # Initials first: "na" is the usual name of the numerical aperture.
    initials = [key for key in here if _initials(key) == wrong]
    if near := initials or difflib.get_close_matches(wrong, here, 1, 0.5):
        return f"did you mean {near[0]}?"
    elsewhere = {
        key: section
        for section, kind in known.items()
        for key in (kind.model_fields if kind else [section])
    }
    if near := difflib.get_close_matches(wrong, list(elsewhere), 1, 0.7):
        section = elsewhere[near[0]]
        where = f"under [{section}]" if section != near[0] else "above the sections"
        return f"did you mean {near[0]} {where}?"
    table = f"[{'.'.join(place[:-1])}]" if len(place) > 1 else "a profile"
    return f"{table} has {', '.join(here)}"


def _initials(key: str) -> str:
    return "".join(word[0] for word in key.split("_"))


def _allowed(field: FieldInfo) -> str:
    """Return the allowed range or choices of a field; empty if there is no limit."""
    choices = (
        get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    )
    if choices:
        return " or ".join(f'"{choice}"' for choice in choices)
    low, high, gt, lt = _limits(field)
    if low is None or high is None:
        return ""
    whole = "a whole number " if _holds(field, int) else ""
    unit, _ = _extra(field)
    edges = [f"{low:g}"] * gt + [f"{high:g}"] * lt
    excluded = f" ({' and '.join(edges)} excluded)" if edges else ""
    return f"{whole}from {low:g} to {high:g}{unit and ' ' + unit}{excluded}"


def _limits(field: FieldInfo) -> tuple[float | None, float | None, bool, bool]:
    """Return the lowest and highest value, and whether each is excluded."""
    found: dict[str, float] = {}
    for item in field.metadata:
        found |= {
            n: getattr(item, n) for n in ("ge", "gt", "le", "lt") if hasattr(item, n)
        }
    low, high = found.get("ge", found.get("gt")), found.get("le", found.get("lt"))
    return low, high, "gt" in found, "lt" in found


def _holds(field: FieldInfo, kind: type) -> bool:
    return field.annotation is kind or kind in get_args(field.annotation)


def _wanted(detail: ErrorDetails) -> str:
    """Return what pydantic expected, for a setting without a range."""
    if detail["type"] == "string_type":
        return 'a text in "quotes"'
    return detail["msg"].removeprefix("Input should be ")


def _hint(given: Any, field: FieldInfo) -> str:
    """Return the likely mistake and its remedy, or nothing."""
    number = _holds(field, float) or _holds(field, int)
    if isinstance(given, str) and number:
        return ", without quotes"
    # Python counts true as 1.
    if isinstance(given, bool) and number:
        return f", and {_shown(given)} is not a number"
    low, high, *_ = _limits(field)
    if not isinstance(given, int | float) or low is None or high is None:
        return ""
    unit, _ = _extra(field)
    for factor, name in _UNIT_MISTAKES.get(unit, {}).items():
        if low <= given * factor <= high:
            return f" (given in {name}? then {given * factor:g})"
    return ""


def _extra(field: FieldInfo) -> tuple[str, Any]:
    extra = field.json_schema_extra
    return (
        (str(extra["unit"]), extra["example"])
        if isinstance(extra, dict)
        else ("", None)
    )


def _shown(value: Any) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)
