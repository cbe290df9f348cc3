"""How every verb of the command line ends: one line for what is wrong, and a status."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn

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
    """Return a parser that prints its texts as they are and takes no abbreviations.

    Args:
        verb: what follows `recbole-margo`.
    """
    return CommandParser(
        f"recbole-margo {verb}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


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
