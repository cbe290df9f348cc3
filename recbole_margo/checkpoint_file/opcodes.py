"""A pickle read into inert records: no class or function that it names is looked up or called."""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from recbole_margo.errors import CheckpointError

# What a checkpoint may be beside its own length: values nested in each other, and values that
# are written once and referred to often, as when a program walks through all of them.
DEEPEST = 40
REPEATED = 8

CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
VALUES = frozenset(
    {
        *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
        *("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
        *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8"),
    }
)
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class RefusalError(CheckpointError):
    """A file holds what no checkpoint holds; the message completes "it ..."."""


class ForeignNameError(RefusalError):
    """A file names a class or function that RecBole does not write."""

    def __init__(self, name: str) -> None:
        super().__init__(f"names {name:.200}, which RecBole does not write into a checkpoint")


def expect(condition: bool, what: str) -> None:
    """Raise a `RefusalError` with what a file holds if a condition does not hold."""
    if not condition:
        raise RefusalError(f"holds {what}")


def is_count(value: Any, most: int) -> bool:
    """Return whether a value is an integer from 0 to `most`."""
    return type(value) is int and 0 <= value <= most


def checked_shape(value: Any, most: int) -> tuple[int, ...]:
    """Return a shape or strides; refuse what is no tuple of such numbers."""
    sizes = isinstance(value, tuple) and all(is_count(part, most) for part in value)
    expect(sizes and len(value) <= 16, "a shape of impossible sizes")
    return tuple(value)


class _Absent:
    """Stands for a state that an object was not given."""


ABSENT = _Absent()


@dataclass(eq=False)
class Name:
    """The name of a class or function."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Pairs:
    """A dict, as the pairs that it was given."""

    pairs: list[tuple[Any, Any]] = field(default_factory=list)


@dataclass(eq=False)
class Call:
    """An object, as what made it.

    Args:
        new: whether its `__new__` was called rather than itself.
        state: what the object was given afterwards.
        pairs: the items that it was given afterwards, as a dict is.
    """

    target: Name
    arguments: tuple[Any, ...]
    new: bool
    state: Any = ABSENT
    pairs: list[tuple[Any, Any]] = field(default_factory=list)


def is_call(record: Any, *names: str) -> bool:
    """Return whether a record is an object that one of some functions made."""
    return isinstance(record, Call) and str(record.target) in names


@dataclass(eq=False)
class Outside:
    """A storage of a tensor, which lies outside of the pickle."""

    identity: Any


def records_of(pickled: bytes) -> Any:
    """Return what a pickle holds, as plain values and the records of this module.

    What is damaged, or does what no checkpoint does, is refused.
    """
    found = _Machine(pickled).run()
    _require_moderate(found, REPEATED * len(pickled))
    return found


class _Machine:
    """Runs the instructions with which values are written, and no others."""

    def __init__(self, pickled: bytes) -> None:
        self.source = io.BytesIO(pickled)
        self.length = len(pickled)
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.actions: dict[str, Callable[[Any], None]] = {
            "PROTO": self._protocol,
            "FRAME": lambda length: None,
            "MARK": lambda _: self.marks.append(len(self.stack)),
            "EMPTY_LIST": lambda _: self.stack.append([]),
            "EMPTY_DICT": lambda _: self.stack.append(Pairs()),
            "TUPLE": lambda _: self.stack.append(tuple(self._since_mark())),
            "APPEND": lambda _: self._extend(self._pop(1)),
            "APPENDS": lambda _: self._extend(self._since_mark()),
            "SETITEM": lambda _: self._set(self._pop(2)),
            "SETITEMS": lambda _: self._set(self._since_mark()),
            "GLOBAL": lambda names: self._name(*names.partition(" ")[::2]),
            "STACK_GLOBAL": lambda _: self._name(*self._pop(2)),
            "REDUCE": lambda _: self._call(self._pop(2), new=False),
            "NEWOBJ": lambda _: self._call(self._pop(2), new=True),
            "BUILD": lambda _: self._build(*self._pop(1)),
            "BINPERSID": lambda _: self.stack.append(Outside(*self._pop(1))),
            "MEMOIZE": lambda _: self._remember(len(self.memo)),
            "BINPUT": self._remember,
            "LONG_BINPUT": self._remember,
            "BINGET": self._recall,
            "LONG_BINGET": self._recall,
        }

    def run(self) -> Any:
        for name, argument in self._instructions():
            if name in VALUES:
                self.stack.append(_checked(argument))
            elif name in CONSTANTS:
                self.stack.append(CONSTANTS[name])
            elif name in TUPLES:
                self.stack.append(tuple(self._pop(TUPLES[name])))
            elif name == "STOP":
                if len(self.stack) != 1 or self.marks or self.source.tell() != self.length:
                    raise RefusalError("holds a pickle that does not end where it should")
                return self.stack[0]
            else:
                self.actions[name](argument)
        raise RefusalError("holds a pickle that ends early")

    def _instructions(self) -> Iterator[tuple[str, Any]]:
        allowed = {*VALUES, *CONSTANTS, *TUPLES, *self.actions, "STOP"}
        known = pickletools.code2op  # type: ignore[attr-defined]
        while code := self.source.read(1):
            opcode = known.get(code.decode("latin-1"))
            if opcode is None or opcode.name not in allowed:
                what = f"byte {code!r}" if opcode is None else opcode.name
                raise RefusalError(f"holds the pickle instruction {what}, torch.save does not")
            argument = None
            if opcode.arg is not None:
                try:
                    argument = opcode.arg.reader(self.source)
                except (ValueError, OverflowError, MemoryError) as error:
                    raise RefusalError(f"holds a damaged pickle: {error!s:.80}") from None
            yield opcode.name, argument

    def _pop(self, count: int) -> list[Any]:
        if len(self.stack) - count < (self.marks[-1] if self.marks else 0):
            raise RefusalError("holds a damaged pickle: a value is missing")
        found = self.stack[-count:]
        del self.stack[-count:]
        return found

    def _since_mark(self) -> list[Any]:
        if not self.marks:
            raise RefusalError("holds a damaged pickle: a mark is missing")
        return self._pop(count) if (count := len(self.stack) - self.marks.pop()) else []

    def _top(self) -> Any:
        (found,) = self._pop(1)
        self.stack.append(found)
        return found

    def _protocol(self, number: int) -> None:
        if not 2 <= number <= 4:
            raise RefusalError(f"holds a pickle of protocol {number}, expected 2 to 4")

    def _extend(self, values: list[Any]) -> None:
        target = self._top()
        if type(target) is not list:
            raise RefusalError("appends to what is no list")
        target.extend(values)

    def _set(self, values: list[Any]) -> None:
        target = self._top()
        if not isinstance(target, (Pairs, Call)) or len(values) % 2:
            raise RefusalError("sets items of what is no dict")
        target.pairs.extend(zip(values[::2], values[1::2], strict=True))

    def _name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise RefusalError("names a class by what is no text")
        self.stack.append(Name(module, name))

    def _call(self, both: list[Any], new: bool) -> None:
        target, arguments = both
        if not isinstance(target, Name) or not isinstance(arguments, tuple):
            raise RefusalError("calls what is no name")
        self.stack.append(Call(target, arguments, new))

    def _build(self, state: Any) -> None:
        target = self._top()
        if not isinstance(target, Call) or target.state is not ABSENT:
            raise RefusalError("sets the state of what has none")
        target.state = state

    def _remember(self, place: int) -> None:
        self.memo[place] = self._top()

    def _recall(self, place: int) -> None:
        if place not in self.memo:
            raise RefusalError("holds a damaged pickle: a value is missing")
        self.stack.append(self.memo[place])


def _checked(value: Any) -> Any:
    """Return a number or text that RecBole can have written."""
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise RefusalError("holds an integer of more than 64 bits")
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise RefusalError("holds a text with half a character") from None
    return value


def parts_of(record: Any) -> Iterator[Any]:
    """Yield what a value or record consists of."""
    if isinstance(record, (list, tuple)):
        yield from record
    elif isinstance(record, Outside):
        yield record.identity
    elif isinstance(record, (Pairs, Call)):
        for pair in record.pairs:
            yield from pair
        if isinstance(record, Call):
            yield record.arguments
            yield record.state


def _require_moderate(record: Any, most: int) -> None:
    """Refuse what is short in the file and long, deep or endless for who walks through it."""
    known: dict[int, tuple[int, int]] = {}
    open_records: set[int] = set()

    def measure(value: Any, depth: int) -> tuple[int, int]:
        """Return length and height of a value."""
        if isinstance(value, (str, bytes)):
            return 1 + len(value), 0
        if not isinstance(value, (list, tuple, Pairs, Call, Outside)):
            return 1, 0
        place = id(value)
        if place in known:
            return known[place]
        if depth > DEEPEST or place in open_records:
            raise RefusalError(f"holds values nested more than {DEEPEST} deep")
        open_records.add(place)
        length, height = 1, 0
        for part in parts_of(value):
            of_part = measure(part, depth + 1)
            length, height = length + of_part[0], max(height, of_part[1])
        open_records.discard(place)
        if length > most or height >= DEEPEST:
            raise RefusalError(
                f"holds values nested more than {DEEPEST} deep, or refers to the same ones more "
                "often than a checkpoint does"
            )
        known[place] = length, height + 1
        return known[place]

    measure(record, 0)
