"""The contract that every multimodal model keeps, and the tiny worlds it is tested on.

A test class derived from `ModelContract` runs the contract on a model of any package. The names are
imported when they are first used, and pytest only with `ModelContract`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recbole_margo.testing.contract import ModelContract
    from recbole_margo.testing.experiments import (
        SETTINGS,
        SMALL,
        Experiment,
        make_config,
        prepare,
        small_settings,
    )
    from recbole_margo.testing.worlds import (
        MISSING,
        MODALITY_NAMES,
        NAME,
        SPLITS,
        World,
        block_world,
        random_world,
    )

__all__ = [
    "MISSING",
    "MODALITY_NAMES",
    "NAME",
    "SETTINGS",
    "SMALL",
    "SPLITS",
    "Experiment",
    "ModelContract",
    "World",
    "block_world",
    "make_config",
    "prepare",
    "random_world",
    "small_settings",
]

_CONTRACT = "recbole_margo.testing.contract"
_WORLDS = ("MISSING", "MODALITY_NAMES", "NAME", "SPLITS", "World", "block_world", "random_world")
_MODULES = {
    **dict.fromkeys(__all__, "recbole_margo.testing.experiments"),
    **dict.fromkeys(_WORLDS, "recbole_margo.testing.worlds"),
    "ModelContract": _CONTRACT,
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _MODULES[name] == _CONTRACT:
        import pytest

        # A failure shows the values compared, as in a test file.
        pytest.register_assert_rewrite(_CONTRACT, "recbole_margo.testing.interruption")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
