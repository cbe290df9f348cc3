"""The exceptions of recbole-margo: what was expected, what was found, what mends it."""

from __future__ import annotations

import importlib
from typing import Any


class DataError(ValueError):
    """Input data is not what was expected; the message names the file, the field and the remedy."""


class RecBoleMargoError(Exception):
    """Base of all errors that recbole-margo raises on purpose."""


class MissingRecBoleError(RecBoleMargoError, ModuleNotFoundError):
    """RecBole itself is not installed."""


class ConfigError(RecBoleMargoError):
    """A configuration key or value is not valid."""


class UnknownModelError(ConfigError, ValueError):
    """RecBole was asked for a model that it does not know."""


class FeatureError(RecBoleMargoError, DataError):
    """A modality's feature files do not fit the dataset or the manifest."""


class DatasetNotFoundError(RecBoleMargoError, DataError):
    """The files of a dataset are not where they were looked for."""


class DatasetError(RecBoleMargoError, DataError):
    """The interactions of a dataset cannot be read, or not be split as the config says."""


class CheckpointError(RecBoleMargoError):
    """A checkpoint cannot be read, or does not fit the model it is loaded into."""


class TrainingError(RecBoleMargoError):
    """Training cannot go on, for example because the loss is not a number."""


class LostProcessError(TrainingError):
    """Another process of the group ended or did not answer in time; the cause is with that one."""


class BundleError(RecBoleMargoError):
    """A bundle of a trained model cannot be written, read or used."""


class UnknownIdError(ConfigError):
    """A user or an item that a trained model does not know.

    Attributes:
        kind: `user` or `item`.
        unknown: the first id that is not known.
    """

    def __init__(self, message: str, kind: str = "", unknown: str = "") -> None:
        super().__init__(message, kind, unknown)
        self.kind, self.unknown = kind, unknown

    def __str__(self) -> str:
        """Return the message."""
        return str(self.args[0])


def import_optional(module: str, package: str, purpose: str, extra: str | None = None) -> Any:
    """Import a module that need not be installed.

    Args:
        purpose: what it is needed for, for the message.
        extra: the extra of this package that brings it, if there is one.

    Raises:
        DataError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        wanted = f"'recbole-margo[{extra}]'" if extra else package
        raise DataError(
            f"{purpose} needs the library {package}, found that it is not installed: "
            f"pip install {wanted}"
        ) from error
