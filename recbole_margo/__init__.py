"""Multimodal recommendation for RecBole.

The public names are imported when they are first used, so that importing the package stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from recbole_margo.compat import prepare_imports
from recbole_margo.recbole_dropin import MENDS

if TYPE_CHECKING:
    from recbole_margo.config import Config
    from recbole_margo.model.base import MultimodalRecommender
    from recbole_margo.recbole_bridge import register
    from recbole_margo.registry import list_models
    from recbole_margo.run import resume_run, run_recbole_margo
    from recbole_margo.serving.recommender import Recommender
    from recbole_margo.studies.comparison.compare import compare

__version__ = "0.2.0"

__all__ = [
    "Config",
    "MultimodalRecommender",
    "Recommender",
    "compare",
    "list_models",
    "register",
    "resume_run",
    "run_recbole_margo",
]

_MODULES = {
    "Config": "recbole_margo.config",
    "MultimodalRecommender": "recbole_margo.model.base",
    "Recommender": "recbole_margo.serving.recommender",
    "compare": "recbole_margo.studies.comparison.compare",
    "list_models": "recbole_margo.registry",
    "register": "recbole_margo.recbole_bridge",
    "resume_run": "recbole_margo.run",
    "run_recbole_margo": "recbole_margo.run",
}

prepare_imports(MENDS)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
