"""Libraries that only some sources need."""

from __future__ import annotations

import importlib
from typing import Any

from recbole_margo.errors import DataError


def import_optional(module: str, package: str, purpose: str, extra: str | None = None) -> Any:
    """Import a module that need not be installed.

    Args:
        package: the name under which pip knows it.
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
