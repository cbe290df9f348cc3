"""A whole checkpoint, from its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from recbole.config import Config

from recbole_margo.checkpoint_file.archive import CheckpointArchive
from recbole_margo.checkpoint_file.checks import expect
from recbole_margo.checkpoint_file.refusal import RefusalError
from recbole_margo.checkpoint_file.tensors import Tensors
from recbole_margo.checkpoint_file.values import StoredConfig, values_of


def checkpoint_in(path: Path, map_location: Any = None) -> Any:
    """Read a checkpoint of RecBole or of recbole-margo; nothing that it names is called.

    Args:
        path: the file.
        map_location: where the tensors go, as in `torch.load`.

    Returns:
        What the file holds, a dict if it is a checkpoint, whose `config` is a RecBole
        `Config` or, in checkpoints of our trainer, a dict.

    Raises:
        RefusalError: if the file holds anything else than such a checkpoint.
    """
    with CheckpointArchive(path) as archive:
        tensors = Tensors(archive.storage, archive.length, map_location)
        found = values_of(archive.pickled(), tensors, archive.length)
    if isinstance(found, dict) and isinstance(found.get("config"), StoredConfig):
        found["config"] = _restored_config(found["config"])
    return found


def _restored_config(stored: StoredConfig) -> Any:
    """Build RecBole's `Config` from its attributes, on the CPU if this machine has no GPU."""
    attributes = stored.attributes
    for name in ("internal_config_dict", "external_config_dict", "final_config_dict"):
        values = attributes.get(name)
        plain = isinstance(values, dict) and all(type(key) is str for key in values)
        expect(plain, f"a Config without {name}")
    for name, kind in (("model", str), ("dataset", str), ("model_class", type)):
        expect(isinstance(attributes.get(name), kind), f"a Config without {name}")
    if "device" not in attributes["final_config_dict"]:
        raise RefusalError("holds a Config without a device")
    config = Config.__new__(Config)
    vars(config).update(attributes)
    # What the constructor does to NumPy, and RecBole's metrics rely on.
    Config.compatibility_settings(config)
    if not torch.cuda.is_available():
        config["device"] = torch.device("cpu")
    return config
