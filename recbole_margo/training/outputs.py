"""Where the log and the TensorBoard events of a run go."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import recbole
import recbole.trainer.trainer
from torch.utils.tensorboard import SummaryWriter

RECBOLE = Path(recbole.__file__).parent
SECONDS_BETWEEN_EPOCHS = 30.0
ANSI_COLORS = re.compile(r"\x1B\[[0-9;]*m")


@contextmanager
def tensorboard_in(folder: Path | None) -> Iterator[None]:
    """Let RecBole's trainers write TensorBoard events there, not into the working folder.

    Args:
        folder: none: no events are written.
    """
    module = recbole.trainer.trainer
    original = module.get_tensorboard
    module.get_tensorboard = lambda _: SummaryWriter(str(folder)) if folder else _NoEvents()
    try:
        yield
    finally:
        module.get_tensorboard = original


@contextmanager
def silent() -> Iterator[None]:
    """Write neither a log nor TensorBoard events: another process does."""
    root = logging.getLogger()
    others = root.handlers[:]
    root.handlers[:] = [logging.NullHandler()]
    try:
        with tensorboard_in(None):
            yield
    finally:
        root.handlers[:] = others


class _NoEvents:
    def __getattr__(self, name: str) -> Any:
        return lambda *values, **named: None


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Log to a file, without colours, and to the terminal what `_Screen` lets pass."""
    root = logging.getLogger()
    screen = logging.StreamHandler(sys.stderr)
    screen_formatter = logging.Formatter if sys.stderr.isatty() else _PlainFormatter
    screen.setFormatter(screen_formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    screen.addFilter(_Screen())
    file = _LogFile(path, encoding="utf-8")
    file.setFormatter(_PlainFormatter("%(asctime)s %(levelname)s %(message)s"))
    level, others = root.level, root.handlers[:]
    root.handlers[:] = [screen, file]
    root.setLevel(logging.INFO)
    try:
        yield
    except Exception:
        root.removeHandler(screen)
        root.exception("The run failed.")
        raise
    finally:
        file.close()
        root.handlers[:] = others
        root.setLevel(level)


class _Screen(logging.Filter):
    """Keeps from the terminal what is told of every epoch, but a validation now and then.

    RecBole's trainers tell four lines an epoch and its loaders their whole settings, all as
    information; ours mark their records by `of_epoch`, which says whether it is a validation.
    """

    def __init__(self) -> None:
        super().__init__()
        self._shown = time.monotonic()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno > logging.INFO:
            return True
        validation = getattr(record, "of_epoch", None)
        if validation is None:
            if not Path(record.pathname).is_relative_to(RECBOLE):
                return True
            validation = "evaluating" in record.getMessage()
        now = time.monotonic()
        if not validation or now - self._shown < SECONDS_BETWEEN_EPOCHS:
            return False
        self._shown = now
        return True


class _LogFile(logging.FileHandler):
    """A log that ends where it cannot be written, as on a full disk; the run goes on."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif self.level <= logging.CRITICAL:
            self.setLevel(logging.CRITICAL + 1)
            reason = error.strerror or error
            sys.stderr.write(f"{self.baseFilename} ends here: it cannot be written ({reason})\n")

    def close(self) -> None:
        with suppress(OSError):  # what is left in its buffer
            super().close()


class _PlainFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return ANSI_COLORS.sub("", super().format(record))
