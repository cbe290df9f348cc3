"""The changes with which RecBole 1.2.1 runs on today's Python stack.

This is the only file that knows versions of RecBole, torch, NumPy, SciPy and pandas. Its first part
prepares imports and is done when `recbole_margo` is imported, without importing torch or RecBole.
Its second part mends RecBole's modules: those imported already at once, the others as soon as they
are imported.
"""

from __future__ import annotations

import builtins
import math
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from recbole_margo.errors import CheckpointError, MissingRecBoleError
from recbole_margo.recbole_closures import CLOSURES, KD_DAGFM, TRUST_VARIABLE, trusts_pickles
from recbole_margo.recbole_mends import (
    ModuleWith,
    collector_of_plain_values,
    full_sort_scores_of_everyone,
    pandas_that_reads_fast,
    sampler_without_early_refusal,
    save_with_generators_kept,
)
from recbole_margo.recbole_tuning import (
    importable_trial,
    ray_for_quick_start,
    reporting_tune,
    with_old_and_new_draws,
)

QUICK_START = "recbole.quick_start.quick_start"
# Module of RecBole, a name in it that is replaced, and what makes the replacement of the original.
Mend = tuple[str, str, Callable[[Any], Any]]
# Modules of RecBole that read checkpoints: its trainer and the models that start from a stored one.
READERS_OF_CHECKPOINTS = (
    "recbole.trainer.trainer",
    KD_DAGFM,
    "recbole.model.general_recommender.convncf",
    "recbole.model.general_recommender.nais",
    "recbole.model.general_recommender.neumf",
    "recbole.model.general_recommender.ract",
    "recbole.model.sequential_recommender.s3rec",
)


def prepare_imports(mends: Sequence[Mend]) -> None:
    """Make `import recbole` and its submodules work; imports neither torch nor RecBole."""
    global _MENDS
    _MENDS += tuple(mend for mend in mends if mend not in _MENDS)
    _restore_numpy_names()
    _restore_dok_update()
    _silence_recbole()
    patch_recbole()


def patch_recbole() -> None:
    """Mend RecBole's modules, those not imported yet when they are; may be called repeatedly."""
    if not any(isinstance(finder, _RecBoleFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _RecBoleFinder())
    for name in {module for module, _, _ in _MENDS}:
        if name in sys.modules:
            _mend(sys.modules[name])


def _restore_numpy_names() -> None:
    """Give back the names that RecBole's `Config` reads and NumPy 2 has dropped."""
    import numpy as np

    for name, value in (
        ("float_", np.float64),
        ("complex_", np.complex128),
        ("unicode_", np.str_),
    ):
        if not hasattr(np, name):
            setattr(np, name, value)


def _restore_dok_update() -> None:
    """Give back `dok_matrix._update`, with which RecBole fills matrices and SciPy 1.13 dropped."""
    from scipy.sparse import dok_matrix

    if not hasattr(dok_matrix, "_update"):
        dok_matrix._update = lambda matrix, entries: matrix._dict.update(entries)


def _silence_recbole() -> None:
    """Hide warnings about RecBole's own code, which nobody who uses it can act on."""
    for message, category, module in (
        ("A value is trying to be set on a copy", FutureWarning, r"recbole\.data\.dataset\."),
        (r"`torch\.cuda\.amp\.GradScaler", FutureWarning, r"recbole\.trainer\."),
        (r"The torch\.cuda\.\*DtypeTensor", UserWarning, r"recbole\."),
    ):
        warnings.filterwarnings("ignore", message, category, module)


# --- mending modules ------------------------------------------------------------------------------


class _RecBoleFinder(MetaPathFinder):
    """Lets the modules of RecBole that need mending be loaded by `_MendingLoader`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "recbole" and PathFinder.find_spec(fullname, path, target) is None:
            raise MissingRecBoleError(
                "RecBole is not installed: pip install --no-deps recbole==1.2.1 (all that it needs "
                "here is installed already; on Python >= 3.12 pip cannot do it by itself, because "
                "RecBole asks for a ray that has no release there and that training does not use)"
            )
        if not any(module == fullname for module, _, _ in _MENDS):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _MendingLoader(spec.loader.name, spec.loader.path)
        return spec


class _MendingLoader(SourceFileLoader):
    """Mends a module as soon as it has run, before anyone takes a name out of it."""

    def exec_module(self, module: ModuleType) -> None:
        # A module that is loaded again has taken its own names back.
        vars(module).pop("_mended_by_recbole_margo", None)
        if module.__name__ == QUICK_START:
            with ray_for_quick_start():
                super().exec_module(module)
        else:
            super().exec_module(module)
        _mend(module)


def _mend(module: ModuleType) -> None:
    if hasattr(module, "_mended_by_recbole_margo"):
        return
    for module_name, name, replacement_for in _MENDS:
        if module_name == module.__name__:
            _replace(module, name, replacement_for)
    module._mended_by_recbole_margo = True  # type: ignore[attr-defined]


def _replace(module: ModuleType, name: str, replacement_for: Callable[[Any], Any]) -> None:
    """Replace one name of a module, also where RecBole's other modules have imported it.

    A built-in function is replaced for the module alone.
    """
    own = vars(module)
    original = own[name] if name in own else getattr(builtins, name)
    replacement = replacement_for(original)
    setattr(module, name, replacement)
    if callable(original):
        for other_name, other in list(sys.modules.items()):
            if other_name.startswith("recbole.") and vars(other).get(name) is original:
                setattr(other, name, replacement)


# --- thop, which RecBole needs for counting FLOPs -------------------------------------------------


def _tolerant_flops(get_flops: Callable[..., float]) -> Callable[..., float]:
    """Return a `get_flops` that gives nan where thop is missing or cannot handle the model."""

    def get_flops_or_nan(
        model: Any, dataset: Any, device: Any, logger: Any, transform: Any, verbose: bool = False
    ) -> float:
        try:
            return get_flops(model, dataset, device, logger, transform, verbose)
        except Exception as error:
            logger.info(f"FLOPs are not counted: {error!r}")
            return math.nan

    return get_flops_or_nan


# --- checkpoints ----------------------------------------------------------------------------------


def load_checkpoint(
    path: str | os.PathLike[str], map_location: Any = None, trust: bool | None = None
) -> dict[str, Any]:
    """Load a checkpoint of RecBole or of recbole-margo without running code that it brings.

    RecBole pickles its `Config` into a checkpoint, in a form that torch's own safe loader cannot
    read. Here the pickle is read as data: no class and no function that the file names is called,
    what it names is compared with what RecBole writes, and nothing is larger than the file.

    Args:
        map_location: where the tensors go, as in `torch.load`.
        trust: whether to load any pickle; if not given, whether the environment variable
            `RECBOLE_MARGO_TRUST_CHECKPOINT` is 1.

    Returns:
        The checkpoint; `config` is a RecBole `Config` or, in checkpoints of our trainer, a dict.

    Raises:
        CheckpointError: if the file is missing or damaged, or holds what no checkpoint holds.
    """
    import torch

    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    if trusts_pickles() if trust is None else trust:
        trusted: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=False)
        return trusted
    from recbole_margo.checkpoint_file.opcodes import ForeignNameError, RefusalError
    from recbole_margo.checkpoint_file.reading import checkpoint_in

    try:
        found = checkpoint_in(path, map_location)
    except ForeignNameError as error:
        raise CheckpointError(
            f"{path} {error}: loading it could run code. If it is a model of your own, import its "
            "module first; if you trust the file altogether, pass trust_checkpoint=True or set "
            f"{TRUST_VARIABLE}=1"
        ) from None
    except RefusalError as error:
        raise CheckpointError(f"{path} is damaged or no checkpoint: it {error}") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} is damaged or no checkpoint: it holds no state of a model")
    return found


def _without_layers(recommender: type[Any]) -> type[Any]:
    """Keep layers out of what a checkpoint holds beside the parameters.

    RecBole's models of item features name a layer there, and with it goes the whole data set, which
    only an unsafe loader could read. The parameters of the layer are in the state dict anyway.
    """
    other_parameter = recommender.other_parameter

    def other_parameter_without_layers(self: Any) -> dict[str, Any]:
        from torch.nn import Module

        kept: dict[str, Any] = other_parameter(self)
        return {name: value for name, value in kept.items() if not isinstance(value, Module)}

    recommender.other_parameter = other_parameter_without_layers
    return recommender


def _with_safe_load(torch: ModuleType) -> ModuleType:
    """Return what stands for torch in RecBole's modules that read checkpoints."""
    return ModuleWith(torch, load=load_checkpoint)


# A module may stand here with several names; what comes first is replaced first.
_MENDS: tuple[Mend, ...] = (
    ("recbole.model.abstract_recommender", "AbstractRecommender", _without_layers),
    ("recbole.sampler.sampler", "Sampler", sampler_without_early_refusal),
    ("recbole.data.dataset.dataset", "pd", pandas_that_reads_fast),
    ("recbole.data.utils", "save_split_dataloaders", save_with_generators_kept),
    ("recbole.evaluator.collector", "Collector", collector_of_plain_values),
    ("recbole.utils.case_study", "full_sort_scores", full_sort_scores_of_everyone),
    ("recbole.utils.utils", "get_flops", _tolerant_flops),
    ("recbole.trainer.hyper_tuning", "np", with_old_and_new_draws),
    (QUICK_START, "tune", reporting_tune),
    (QUICK_START, "objective_function", importable_trial),
    *((module, "torch", _with_safe_load) for module in READERS_OF_CHECKPOINTS),
    *CLOSURES,
)
