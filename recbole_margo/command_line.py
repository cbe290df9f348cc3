"""The parser of all commands, how a command ends, and options made of dataclass fields."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import MISSING, Field, dataclass, field, fields
from types import NoneType
from typing import Any, NoReturn, TypeVar, get_args, get_origin, get_type_hints

from recbole_margo.errors import ConfigError, DataError, RecBoleMargoError, TrainingError
from recbole_margo.store.writing import FULL

FAILED, BAD_INPUT, DEFECT, INTERRUPTED, CLOSED = 1, 2, 70, 130, 128 + 13
DEBUG_VARIABLE = "RECBOLE_MARGO_DEBUG"
# What a path that was named may cause; other errors of the system, a full disk, are no bad input.
ERRORS_OF_PATHS = (
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)


# Spellings of earlier versions, which the help no longer shows; so is a dash for an underscore.
OTHER_SPELLINGS = {"--output": "--output_dir"}


class CommandParser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line, and knows the spellings of earlier versions."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse words, each option in today's spelling or another one."""
        words = list(sys.argv[1:] if args is None else args)
        end = words.index("--") if "--" in words else len(words)
        words[:end] = map(self._respelled, words[:end])
        parsed: tuple[argparse.Namespace, list[str]] = super().parse_known_args(words, namespace)
        return parsed

    def _respelled(self, word: str) -> str:
        name, equals, value = word.partition("=")
        if not name.startswith("--") or name in self._option_string_actions:
            return word
        plain = f"--{name[2:].replace('-', '_')}"
        plain = OTHER_SPELLINGS.get(plain, plain)
        return f"{plain}{equals}{value}" if plain in self._option_string_actions else word

    def error(self, message: str) -> NoReturn:
        """Raise a `ConfigError` in place of printing the usage and leaving."""
        raise ConfigError(f"{message}; `{self.prog} --help` says what there is")


def command_parser(verb: str, description: str, epilog: str | None = None) -> CommandParser:
    """Return the parser of a verb, which prints its texts as they are; no abbreviations."""
    return CommandParser(
        f"recbole-margo {verb}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def comma_separated(text: str) -> list[str]:
    """Return the parts between commas, without blanks around them; empty ones are left out."""
    return [part.strip() for part in text.split(",") if part.strip()]


def listed_names(text: str) -> list[str]:
    """Return the names of `text,image`, or of `[text, image]` as `train` takes them."""
    return comma_separated(text.strip().strip("[]"))


def run_command(command: Callable[[], int]) -> int:
    """Run a verb and return the exit status of the process.

    An error of ours is one line on stderr. So is an exception that nobody foresaw, which is a
    defect; its traceback goes to a file, or to stderr if `RECBOLE_MARGO_DEBUG` is 1.

    Args:
        command: what the verb does; returns its status.

    Returns:
        The verb's own status; 2 on bad input, 1 if training failed or the machine is at its limits,
        130 when interrupted, 141 if nobody reads the output any more, 70 on a defect.
    """
    try:
        status = command()
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return CLOSED
    except Exception as error:
        message, status = _verdict(error)
        sys.stderr.write(f"error: {message}\n")
        if os.environ.get(DEBUG_VARIABLE) == "1":
            traceback.print_exception(error)
    return status


def _verdict(error: Exception) -> tuple[str, int]:
    """Return what to say of an error, in one line, and the status it ends with."""
    shown = one_line(error)
    if isinstance(error, TrainingError):
        return shown, FAILED
    if isinstance(error, (RecBoleMargoError, DataError)):
        return shown, BAD_INPUT
    if isinstance(error, OSError) and error.errno in FULL:
        where = error.filename or "a file"
        return (
            f"{where} cannot be written: the disk is full ({error.strerror}). Free some space, "
            "then give the command again; runs go on with --resume=",
            FAILED,
        )
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or shown}", (
            BAD_INPUT if isinstance(error, ERRORS_OF_PATHS) else FAILED
        )
    if isinstance(error, MemoryError) or "allocate" in shown:
        return f"the memory is full ({type(error).__name__}: {shown or 'no details'})", FAILED
    return f"unexpected {type(error).__name__}: {shown}; {_report(error)}", DEFECT


def one_line(error: BaseException) -> str:
    """Return the message of an exception without line breaks."""
    return " ".join(str(error).split())


def _report(error: Exception) -> str:
    """Write the traceback of a defect into a file and return what to do with it."""
    please = "this is a defect of recbole-margo, please report it"
    if os.environ.get(DEBUG_VARIABLE) == "1":
        return please
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="recbole-margo-error-", suffix=".txt", delete=False, encoding="utf-8"
        ) as file:
            file.write(f"{' '.join(sys.argv)}\n\n")
            traceback.print_exception(error, file=file)
    except OSError:
        return f"{please} with the traceback that {DEBUG_VARIABLE}=1 shows"
    return f"{please} with {file.name}"


def _discard_output() -> None:
    """Let nothing more be written to a standard output that nobody reads."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
    except (OSError, ValueError):  # an output without a descriptor
        sys.stdout = io.StringIO()


def let_sigterm_interrupt() -> None:
    """Let SIGTERM end the process as Ctrl-C does, so that what is open is closed."""
    with suppress(ValueError):  # Only the main thread of a process may say so.
        signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(signal_number: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt


T = TypeVar("T")


@dataclass(frozen=True)
class _Option:
    """How a field is given on the command line.

    Args:
        flag: the option; none: `--` and the field's name, or `--no_` before a field that is true.
        parse: makes the value of the text; none: the type of the field does.
        in_group: title of the group of the help in which it stands.
    """

    meaning: str
    flag: str | None = None
    metavar: str | None = None
    choices: Iterable[str] | None = None
    parse: Callable[[str], Any] | None = None
    in_group: str | None = None


@dataclass(frozen=True)
class _Group:
    title: str
    kind: type
    other_flags: dict[str, str]


def option(meaning: str, default: Any = MISSING, **details: Any) -> Any:
    """Return a field of a dataclass that the command line can give.

    Args:
        meaning: the help; ` (default: ...)` is added for numbers and choices.
        default: of the field; without one the option is required. An empty dict makes an option of
            the form KEY=VALUE, once for each.
        details: see `_Option`.
    """
    metadata = {"option": _Option(meaning, **details)}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


def columns_option(meaning: str, metavar: str = "COLUMN,COLUMN", **details: Any) -> Any:
    """Return a field for names of columns, between commas, each once; blanks belong to them."""

    def parse(text: str) -> list[str]:
        return list(dict.fromkeys(text.split(",")))

    return option(meaning, None, metavar=metavar, parse=parse, **details)


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
            parent = target or parser
            if known.in_group:
                parent = groups.get(known.in_group) or parser.add_argument_group(known.in_group)
                groups[known.in_group] = parent
            default = one.default if defaults is None else getattr(defaults, one.name)
            flags = [_flag(one), *filter(None, [(other_flags or {}).get(one.name)])]
            _add(parent, flags, f"{prefix}{one.name}", known, hints[one.name], default)


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


def words_of(described: Any) -> list[str]:
    """Return the options of an object of `from_options` that are not the defaults."""
    words: list[str] = []
    for one in fields(described):
        value = getattr(described, one.name)
        if "group" in one.metadata:
            words += words_of(value)
        elif "option" not in one.metadata or value in (one.default, None, {}):
            continue
        elif isinstance(value, bool):
            words.append(_flag(one))
        elif isinstance(value, dict):
            words += [word for key, of in value.items() for word in (_flag(one), f"{key}={of}")]
        else:
            is_list = isinstance(value, list | tuple)
            words += [_flag(one), ",".join(map(str, value)) if is_list else str(value)]
    return words


def _flag(one: Field[Any]) -> str:
    return one.metadata["option"].flag or f"--{'no_' if one.default is True else ''}{one.name}"


def _add(parent: Any, flags: list[str], dest: str, known: _Option, hint: Any, default: Any) -> None:
    kind = next((part for part in get_args(hint) if part is not NoneType), hint)
    shown = known.meaning.replace("%", "%%")
    if kind is bool and NoneType in get_args(hint):
        off = f"--no_{flags[0].removeprefix('--')}"
        parent.add_argument(*flags, dest=dest, action="store_true", default=None, help=shown)
        parent.add_argument(off, dest=dest, action="store_false", default=None, help="or has not")
    elif kind is bool:
        action = "store_false" if default is True else "store_true"
        parent.add_argument(*flags, dest=dest, action=action, help=shown)
    elif _key_and_value(hint):
        parent.add_argument(*flags, dest=dest, action="append", metavar=known.metavar, help=shown)
    else:
        required = default is MISSING
        if isinstance(default, (int, float)) or (isinstance(default, str) and default.strip()):
            shown += f" (default: {default})"
        parent.add_argument(
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
