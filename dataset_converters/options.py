"""Options of the command line as fields of dataclasses, and the one builder that reads them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import MISSING, Field, dataclass, field, fields
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from recbole_margo.errors import DataError

T = TypeVar("T")


@dataclass(frozen=True)
class _Option:
    """How a field is given on the command line."""

    meaning: str
    flag: str | None
    metavar: str | None
    choices: Iterable[str] | None
    parse: Callable[[str], Any] | None
    in_group: str | None


@dataclass(frozen=True)
class _Group:
    """A field that is a dataclass, whose fields are options of their own."""

    title: str
    kind: type
    other_flags: dict[str, str]


def option(
    meaning: str,
    default: Any = MISSING,
    *,
    flag: str | None = None,
    metavar: str | None = None,
    choices: Iterable[str] | None = None,
    parse: Callable[[str], Any] | None = None,
    in_group: str | None = None,
) -> Any:
    """Return a field of a dataclass that the command line can give.

    Args:
        meaning: the help; ` (default: ...)` is added for numbers and choices.
        default: of the field; without one the option is required. An empty dict makes an option of
            the form KEY=VALUE, once for each.
        flag: the option; None: `--` and the field's name, or `--no_` before a field that is true.
        parse: makes the value of the text; None: the type of the field does.
        in_group: title of the group of the help in which it stands.
    """
    metadata = {"option": _Option(meaning, flag, metavar, choices, parse, in_group)}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


def group(default: Any, title: str, **other_flags: str) -> Any:
    """Return a field that is a frozen dataclass of options.

    Args:
        default: the object that gives the field's default and those of its options.
        other_flags: field -> another name that its option has here.
    """
    return field(default=default, metadata={"group": _Group(title, type(default), other_flags)})


def add_options(
    parser: argparse.ArgumentParser,
    kind: type,
    defaults: object = None,
    target: Any = None,
    other_flags: dict[str, str] | None = None,
    prefix: str = "",
) -> None:
    """Add an option for every field of a dataclass that has one.

    Args:
        defaults: an object of the class whose values are the defaults; None: the class's own.
        target: a group of the parser; None: the parser itself.
        other_flags: field -> another name of its option.
        prefix: of the names under which the values are kept.
    """
    hints = get_type_hints(kind)
    groups: dict[str, Any] = {}
    for one in fields(kind):
        known, nested = one.metadata.get("option"), one.metadata.get("group")
        if nested is not None:
            inner = parser.add_argument_group(nested.title)
            at = f"{prefix}{one.name}."
            add_options(parser, nested.kind, one.default, inner, nested.other_flags, at)
        elif known is not None:
            place = target or parser
            if known.in_group:
                place = groups.get(known.in_group) or parser.add_argument_group(known.in_group)
                groups[known.in_group] = place
            default = one.default if defaults is None else getattr(defaults, one.name)
            flags = [_flag(one), *filter(None, [(other_flags or {}).get(one.name)])]
            _add(place, flags, f"{prefix}{one.name}", known, hints[one.name], default)


def from_options(kind: type[T], parsed: argparse.Namespace, prefix: str = "") -> T:
    """Return the object that a command line describes, by the options of `add_options`.

    Raises:
        DataError: a KEY=VALUE is none, or the class refuses a value.
    """
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for one in fields(kind):  # type: ignore[arg-type]
        if nested := one.metadata.get("group"):
            values[one.name] = from_options(nested.kind, parsed, f"{prefix}{one.name}.")
        elif "option" in one.metadata:
            value = getattr(parsed, f"{prefix}{one.name}")
            if pair := _key_and_value(hints[one.name]):
                value = _by_key(value, pair[1], _flag(one))
            values[one.name] = value
    return kind(**values)


def _flag(one: Field[Any]) -> str:
    return one.metadata["option"].flag or f"--{'no_' if one.default is True else ''}{one.name}"


def _add(place: Any, flags: list[str], dest: str, known: _Option, hint: Any, default: Any) -> None:
    kind = next((part for part in get_args(hint) if part is not NoneType), hint)
    shown = known.meaning.replace("%", "%%")
    if kind is bool and NoneType in get_args(hint):
        off = f"--no_{flags[0].removeprefix('--')}"
        place.add_argument(*flags, dest=dest, action="store_true", default=None, help=shown)
        place.add_argument(off, dest=dest, action="store_false", default=None, help="or has not")
    elif kind is bool:
        action = "store_false" if default is True else "store_true"
        place.add_argument(*flags, dest=dest, action=action, help=shown)
    elif _key_and_value(hint):
        place.add_argument(*flags, dest=dest, action="append", metavar=known.metavar, help=shown)
    else:
        required = default is MISSING
        if isinstance(default, (int, float)) or (isinstance(default, str) and default.strip()):
            shown += f" (default: {default})"
        place.add_argument(
            *flags,
            dest=dest,
            type=known.parse or kind,
            required=required,
            default=None if required else default,
            metavar=known.metavar,
            choices=known.choices,
            help=shown,
        )


def _key_and_value(hint: Any) -> tuple[Any, Any] | None:
    """Return the types of a dict that a field is, or may be."""
    for part in (hint, *get_args(hint)):
        if get_origin(part) is dict:
            key, value = get_args(part)
            return key, value
    return None


def _by_key(given: list[str] | None, kind: Callable[[str], Any], flag: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for text in given or []:
        key, separator, value = text.partition("=")
        if not (key and separator and value) or key in values:
            raise DataError(
                f"{flag}: expected MODALITY=FILE, each modality once, such as "
                f"text=embeddings.npy; found {text!r}."
            )
        values[key] = kind(value)
    return values
