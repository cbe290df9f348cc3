"""The contract that every multimodal model keeps, and the tiny worlds it is tested on.

A test class derived from `ModelContract` runs the contract on a model of any package. pytest is
imported with `ModelContract` alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from recbole_margo.testing.contract import ModelContract

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


def __getattr__(name: str) -> Any:
    if name != "ModelContract":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import pytest

    # A failure shows the values compared, as in a test file.
    modules = (f"{__name__}.contract", f"{__name__}.interruption")
    pytest.register_assert_rewrite(*modules)
    from recbole_margo.testing.contract import ModelContract

    return ModelContract


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
