"""Typed records as plain data, as JSON holds it, and back."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from recbole_margo.errors import DataError

Record = TypeVar("Record")


def as_plain(value: Any) -> Any:
    """Return a record, or what holds records, as mappings, lists and scalars."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = (field.name for field in dataclasses.fields(value))
        return {name: as_plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {key: as_plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(part) for part in value]
    return value


def from_plain(record: type[Record], plain: Any) -> Record:
    """Return the record whose `as_plain` some plain data is; what it does not know is left out.

    Args:
        record: a dataclass of scalars, records, tuples of one type, and mappings from texts.

    Raises:
        DataError: a field without a default is not there, or has another shape.
    """
    found: Record = _read(record, plain, record.__name__)
    return found


def _read(kind: Any, plain: Any, where: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _read_record(kind, _checked(plain, Mapping, where), where)
    if origin in (Union, types.UnionType):
        if plain is None and type(None) in arguments:
            return None
        # Of two types the first that is no None; numbers and texts are taken as they are.
        return _read(arguments[0], plain, where)
    if origin is tuple:
        listed = _checked(plain, list | tuple, where)
        return tuple(_read(arguments[0], part, f"{where}[{at}]") for at, part in enumerate(listed))
    if origin is not None and issubclass(origin, Mapping):
        parts = _checked(plain, Mapping, where)
        return {key: _read(arguments[1], part, f"{where}.{key}") for key, part in parts.items()}
    return plain


def _read_record(kind: type[Any], plain: Mapping[str, Any], where: str) -> Any:
    hints, values = get_type_hints(kind), {}
    for field in dataclasses.fields(kind):
        if field.name in plain:
            hint = hints[field.name]
            values[field.name] = _read(hint, plain[field.name], f"{where}.{field.name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise DataError(
                f"{where}: expected `{field.name}`, found {', '.join(plain) or 'nothing'}"
            )
    return kind(**values)


def _checked(plain: Any, kind: Any, where: str) -> Any:
    if isinstance(plain, kind):
        return plain
    wanted = "a mapping" if kind is Mapping else "a list"
    raise DataError(f"{where}: expected {wanted}, found {plain!r}")
