"""The libraries that only the search needs."""

from __future__ import annotations

import importlib
from typing import Any

from recbole_margo.errors import ConfigError


def import_optuna() -> Any:
    """Return the module `optuna`, which leaves what became of a trial to be said by us.

    Raises:
        ConfigError: if it is not installed.
    """
    optuna = _import("optuna", "tune")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def import_ray() -> Any:
    """Return the module `ray`.

    Raises:
        ConfigError: if it is not installed.
    """
    return _import("ray", "ray")


def _import(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"`tune` needs {module} for this, and it is not installed ({error}): "
            f"pip install 'recbole-margo[{extra}]'"
        ) from error
