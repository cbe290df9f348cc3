"""Names of models and the classes behind them: ours, RecBole's and third parties'."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import operator
import pkgutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from recbole.model.abstract_recommender import AbstractRecommender

from recbole_margo.errors import ConfigError
from recbole_margo.model.base import MultimodalRecommender
from recbole_margo.rules import close_names

ENTRY_POINT_GROUP = "recbole_margo.models"
OURS = "recbole-margo"
ALL = "all"
# RecBole imports the libraries of all its decision trees together.
TREE_LIBRARIES = ("lightgbm", "xgboost")
# RecBole's models without content that every comparison of multimodal models needs.
PLAIN_MODELS = ("BPR", "LightGCN")
RECBOLE_MODEL_PACKAGES = (
    "general_recommender",
    "context_aware_recommender",
    "sequential_recommender",
    "knowledge_aware_recommender",
    "exlib_recommender",
)


@dataclass(frozen=True)
class ModelEntry:
    """A model that can be named on the command line.

    Args:
        name: what `--model` takes.
        source: `recbole-margo`, `RecBole` or the distribution that brought the model.
        module: module that holds the class.
        attribute: where in the module it is; empty: under its name.
    """

    name: str
    source: str
    module: str
    attribute: str = ""

    def load(self) -> type[Any]:
        """Import the class.

        Raises:
            ConfigError: if another distribution's model cannot be imported or is none.
        """
        path = self.attribute or self.name
        try:
            found = operator.attrgetter(path)(importlib.import_module(self.module))
        except (Exception, SystemExit) as error:
            # The code is another distribution's, and it may fail in every way.
            if isinstance(error, ModuleNotFoundError) and self.source == "RecBole":
                raise ConfigError(
                    f"RecBole's model {self.name} needs a library that is not installed: "
                    f"pip install {' '.join(TREE_LIBRARIES)}"
                    if error.name in TREE_LIBRARIES
                    else f"RecBole's model {self.name} needs the package {error.name}: install it"
                ) from error
            raise ConfigError(
                f"the model {self.name} of {self.source} cannot be imported from "
                f"{self.module}:{path} ({type(error).__name__}: {error}): mend or uninstall "
                f"{self.source}"
            ) from error
        if self.source == "RecBole" and isinstance(found, type):
            return found  # its decision trees derive from the classes of their libraries
        if not (isinstance(found, type) and issubclass(found, AbstractRecommender)):
            raise ConfigError(
                f"{self.module}:{path}, which {self.source} announces as the model {self.name}, "
                "must be a class derived from `MultimodalRecommender` or a model class of RecBole, "
                f"found {found!r}"
            )
        loaded: type[Any] = found
        return loaded


@cache
def multimodal_models() -> dict[str, ModelEntry]:
    """Return our models and those that other distributions announce, by name.

    Ours are the `MultimodalRecommender`s found in the files of `recbole_margo.model`; others
    announce theirs under the entry point group `recbole_margo.models`.
    """
    import recbole_margo.model as package

    entries = {}
    for information in pkgutil.iter_modules(package.__path__):
        if information.ispkg:
            continue
        module = importlib.import_module(f"{package.__name__}.{information.name}")
        for name, member in vars(module).items():
            if (
                isinstance(member, type)
                and issubclass(member, MultimodalRecommender)
                and member.__module__ == module.__name__
                and member is not MultimodalRecommender
            ):
                entries[name] = ModelEntry(name, OURS, module.__name__)
    for point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        # Taken apart here: the properties of a point fail if its text is malformed.
        module_name, _, attribute = (part.strip() for part in point.value.partition(":"))
        attribute = attribute.partition("[")[0].strip()
        distribution = point.dist.name if point.dist else module_name
        entries.setdefault(point.name, ModelEntry(point.name, distribution, module_name, attribute))
    return dict(sorted(entries.items()))


@cache
def recbole_models() -> dict[str, ModelEntry]:
    """Return RecBole's own models by name, read from its files without importing them all."""
    import recbole.model

    root = Path(recbole.model.__path__[0])
    entries = {}
    for package in RECBOLE_MODEL_PACKAGES:
        for path in sorted((root / package).glob("[a-z]*.py")):
            for line in path.read_text(encoding="utf-8").splitlines():
                name = line.removeprefix("class ").split("(")[0].strip()
                if line.startswith("class ") and name.lower() == path.stem:
                    module = f"recbole.model.{package}.{path.stem}"
                    entries[name] = ModelEntry(name, "RecBole", module)
    return entries


def list_models() -> list[ModelEntry]:
    """Return every model that can be named, the multimodal ones first."""
    ours = multimodal_models()
    theirs = (entry for name, entry in sorted(recbole_models().items()) if name not in ours)
    return [*ours.values(), *theirs]


def expand_names(names: Sequence[str]) -> list[str]:
    """Return the names with `all` replaced by our models and RecBole's plain ones, each once."""
    ours = [name for name, entry in multimodal_models().items() if entry.source == OURS]
    expanded: list[str] = []
    for name in names:
        expanded += [*ours, *PLAIN_MODELS] if name == ALL else [name]
    return list(dict.fromkeys(expanded))


def find_model(name: str) -> type[Any]:
    """Return the class of a model, a RecBole `AbstractRecommender`.

    Raises:
        ConfigError: if no model has that name; names the nearest.
    """
    known = {entry.name: entry for entry in list_models()}
    if name in known:
        return known[name].load()
    names = close_names(name, known, 0.5)
    hint = f"did you mean {' or '.join(names)}? " if names else ""
    raise ConfigError(f"there is no model {name!r}: {hint}`recbole-margo models` lists them all")


def find_stored_model(name: str, reference: str | None) -> type[Any]:
    """Return the class of the model that a checkpoint or a record names.

    No module is imported because a file names it: only what is imported already, and what installed
    distributions announce.

    Args:
        reference: `module:class`, for a model that is neither ours nor RecBole's.

    Raises:
        ConfigError: if there is no such model, or its module has not been imported.
    """
    if reference is None:
        return find_model(name)
    module, _, path = str(reference).partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        # Not `getattr`, for which a module may import another.
        found = vars(found).get(part) if isinstance(found, (ModuleType, type)) else None
    if isinstance(found, type) and issubclass(found, AbstractRecommender):
        return found
    for entry in multimodal_models().values():
        if entry.source != OURS and name in (entry.name, entry.attribute.rpartition(".")[2]):
            loaded = entry.load()
            if f"{loaded.__module__}:{loaded.__qualname__}" == reference:
                return loaded
    raise ConfigError(
        f"the model {name} is the class {path} of the module {module}, which no installed "
        "distribution announces: import its module first (a file is never the reason to import "
        "one), or announce it under the entry point group "
        f"`{ENTRY_POINT_GROUP}`"
    )
