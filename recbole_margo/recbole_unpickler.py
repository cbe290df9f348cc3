"""Reads the pickle inside RecBole's checkpoints without running code that a file brings."""

from __future__ import annotations

import importlib
import pickle
import sys
from enum import Enum
from types import ModuleType
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.model.abstract_recommender import AbstractRecommender

CONFIG_CLASSES = frozenset({"recbole.config.configurator.Config", "recbole_margo.config.Config"})
YAML_LOADER = "yaml.loader.FullLoader"
SAFE_GLOBALS = frozenset(
    {
        "_codecs.encode",
        "builtins.list",
        "collections.OrderedDict",
        "collections.defaultdict",
        "numpy.dtype",
        "numpy.matrix",
        "numpy.ndarray",
        "scipy.sparse._csc.csc_matrix",
        "scipy.sparse._csr.csr_matrix",
        "scipy.sparse._lil.lil_matrix",
        "torch.Size",
        "torch.device",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_sparse_tensor",
        "torch._utils._rebuild_tensor_v2",
        "torch.serialization._get_layout",
    }
)
# NumPy 1 and NumPy 2 keep these in different modules, and each reads files of the other.
NUMPY_FUNCTIONS: dict[str, Any] = {
    f"numpy.{core}.multiarray.{name}": value.__reduce__()[0]
    for core in ("core", "_core")
    for name, value in (("scalar", np.float64(0)), ("_reconstruct", np.zeros(0)))
}


class ForeignGlobalError(Exception):
    """A file names a class or function that RecBole does not write; the message is its name."""


class StoredConfig:
    """Receives the attributes of a stored `Config`.

    Not the real class: a crafted file could call that one, and it evaluates text as code.
    """


class StoredClass:
    """Stands for a class that a `Config` refers to, so that a crafted file cannot call it.

    Args:
        target: the class.
    """

    def __init__(self, target: type[Any]) -> None:
        self.target = target


class RecBoleUnpickler(pickle.Unpickler):
    """Unpickles what RecBole writes into checkpoints and nothing else.

    torch's own safe loader cannot be taught this: it reads protocol 2 only, RecBole writes 4.

    Raises:
        ForeignGlobalError: if the file names anything else.
    """

    def find_class(self, module: str, name: str) -> Any:
        """Return the class or function of a name in the file, or what stands for it."""
        full_name = f"{module}.{name}"
        if full_name in SAFE_GLOBALS:
            return super().find_class(module, name)
        if full_name in NUMPY_FUNCTIONS:
            return NUMPY_FUNCTIONS[full_name]
        if full_name in CONFIG_CLASSES:
            return StoredConfig
        if full_name == YAML_LOADER:
            return StoredClass(super().find_class(module, name))
        found = _attribute(module, name)
        if _is_class_of(AbstractRecommender, found):
            return StoredClass(found)
        if module == "torch" and isinstance(found, torch.dtype):
            return found
        if module == "recbole.utils.enum_type" and _is_class_of(Enum, found):
            return found
        raise ForeignGlobalError(full_name)


def pickle_module() -> ModuleType:
    """Return what `torch.load` can take in the place of the module `pickle`."""
    module = ModuleType("recbole_pickle")
    module.Unpickler = RecBoleUnpickler  # type: ignore[attr-defined]
    return module


def restored_config(stored: StoredConfig) -> Any:
    """Build RecBole's `Config` from the attributes that a file holds.

    Args:
        stored: the attributes.

    Returns:
        The config, on the CPU if this machine has no GPU.
    """
    config = Config.__new__(Config)
    for name, value in vars(stored).items():
        config.__dict__[name] = value.target if isinstance(value, StoredClass) else value
    # What the constructor does to NumPy, and RecBole's metrics rely on.
    Config.compatibility_settings(config)
    if not torch.cuda.is_available():
        config["device"] = torch.device("cpu")
    return config


def _attribute(module: str, name: str) -> Any:
    """Return an attribute of a module; only RecBole's own modules are imported for it."""
    if module not in sys.modules and not module.startswith("recbole."):
        return None
    try:
        return getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None


def _is_class_of(base: type[Any], found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, base)
