"""Closes RecBole's own ways to run code that a text or a file names.

`recbole_margo.compat` puts these in place, each for one name of one of RecBole's modules. What
RecBole's users write goes on working; what only code could say is taken for text or refused.
Importing this module imports neither torch nor RecBole.
"""

from __future__ import annotations

import ast
import hashlib
import operator
import os
import pickle
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from enum import Enum
from logging import getLogger
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import IO, Any

from recbole_margo.defaults import MAX_CHARACTERS, YamlLoader, load_bounded
from recbole_margo.errors import ConfigError, DataError, FeatureError
from recbole_margo.recbole_mends import ModuleWith
from recbole_margo.store.reading import require_regular_file

TRUST_VARIABLE = "RECBOLE_MARGO_TRUST_CHECKPOINT"
STORED_PICKLES = ("dataset_save_path", "dataloaders_save_path")
KD_DAGFM = "recbole.model.context_aware_recommender.kd_dagfm"
ENUMERATIONS = "recbole.utils.enum_type"
OPERATORS: dict[type[Any], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
LARGEST = 1e300


def trusts_pickles() -> bool:
    """Return whether the user has said that pickles that are named may be run."""
    return os.environ.get(TRUST_VARIABLE) == "1"


# --- text that RecBole evaluates ------------------------------------------------------------------


def read_literal(text: str) -> Any:
    """Return the value of a Python literal, of arithmetic on numbers, or of RecBole's enumerations.

    Such texts are `[64, 32]`, `1e-3`, `2**-4` and `InputType.PAIRWISE`; any other is a
    `ValueError`.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"a text of {len(text):,} characters")
    try:
        return _value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ArithmeticError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(f"no value: {text[:80]!r}") from error


def _value(node: ast.expr) -> Any:
    """Return the value of one node of an expression; nothing is looked up or called."""
    if isinstance(node, ast.Constant) and isinstance(
        node.value, (str, int, float, bool, type(None))
    ):
        return node.value
    if isinstance(node, (ast.List, ast.Tuple)):
        values = [_value(element) for element in node.elts]
        return values if isinstance(node, ast.List) else tuple(values)
    if isinstance(node, ast.Dict) and None not in node.keys:
        keys = [_value(key) for key in node.keys if key is not None]
        return dict(zip(keys, map(_value, node.values), strict=True))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        number = _number(node.operand)
        return -number if isinstance(node.op, ast.USub) else number
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        left, right = _number(node.left), _number(node.right)
        if isinstance(node.op, ast.Pow) and not abs(float(left)) ** float(right) < LARGEST:
            raise ValueError("a number without bounds")
        return OPERATORS[type(node.op)](left, right)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        found = getattr(sys.modules.get(ENUMERATIONS), node.value.id, None)
        if isinstance(found, type) and issubclass(found, Enum) and node.attr in found.__members__:
            return found[node.attr]
    raise ValueError(f"no value: {ast.unparse(node)[:80]!r}")


def _number(node: ast.expr) -> Any:
    value = _value(node)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > LARGEST:
        raise ValueError("no number")
    return value


def values_of_text(_eval: Callable[..., Any]) -> Callable[[str], Any]:
    """Return what RecBole's `Config` calls in the place of `eval`."""

    def read_or_keep(text: str) -> Any:
        try:
            return read_literal(text)
        except ValueError as error:
            # What RecBole's Config expects of text that is to stay text.
            raise NameError(str(error)) from error

    return read_or_keep


def choices_of_text(_eval: Callable[..., Any]) -> Callable[[str], Any]:
    """Return what RecBole's reader of a file of search ranges calls in the place of `eval`."""

    def read_choices(text: str) -> Any:
        try:
            choices = read_literal(text)
        except ValueError as error:
            raise ConfigError(
                f"the choices of a hyper-parameter must be a list of values such as [0.01, 0.1] "
                f"or ['BPR', 'CE'], found {text[:80]!r}"
            ) from error
        return choices

    return read_choices


def networks_of_text(_eval: Callable[..., Any]) -> Callable[[str], Any]:
    """Return what RecBole's KD_DAGFM calls to find the class of its teacher by name."""

    def network_named(name: str) -> Any:
        from torch.nn import Module

        networks = {
            key: value
            for key, value in vars(sys.modules[KD_DAGFM]).items()
            # KD_DAGFM itself takes more than a config, and is its own teacher's teacher.
            if isinstance(value, type)
            and issubclass(value, Module)
            and value.__module__ == KD_DAGFM
            and key != "KD_DAGFM"
        }
        if name not in networks:
            raise ConfigError(f"`teacher` must be one of {sorted(networks)}, found {name[:80]!r}")
        return networks[name]

    return network_named


# --- files that RecBole opens ---------------------------------------------------------------------


def bounded_yaml(yaml: ModuleType) -> ModuleType:
    """Return PyYAML whose `load` builds plain values only, and not without bounds."""

    def load(text: str, Loader: type[Any]) -> Any:
        # Numbers are recognised as the given loader does.
        loader = type(
            "RecBoleYamlLoader",
            (YamlLoader,),
            {
                "yaml_implicit_resolvers": Loader.yaml_implicit_resolvers,
                "refuses_duplicates": False,
            },
        )
        try:
            return load_bounded(text, loader)
        except ValueError as error:
            raise ConfigError(f"a config file is not valid YAML: {error}") from error

    return ModuleWith(yaml, load=load)


def opening_of_regular_files(open_: Callable[..., Any]) -> Callable[..., Any]:
    """Return an `open` that does not wait for a pipe that is to be read."""

    def open_regular(file: Any, mode: str = "r", *others: Any, **named: Any) -> Any:
        if "r" in mode:
            try:
                require_regular_file(Path(file))
            except DataError as error:
                raise ConfigError(str(error)) from error
        return open_(file, mode, *others, **named)

    return open_regular


def numpy_without_pickles(numpy: ModuleType) -> ModuleType:
    """Return NumPy whose `load` reads numbers only."""

    def load(path: str, *_: Any, **__: Any) -> Any:
        require_regular_file(Path(path))
        try:
            return numpy.load(path, allow_pickle=False)
        except ValueError as error:
            raise FeatureError(
                f"{path}: expected an array of numbers, found Python objects or no array "
                f"({error}). Save it again with numpy.save, as an array of a number type."
            ) from error

    return ModuleWith(numpy, load=load)


# --- pickles of datasets and loaders --------------------------------------------------------------

# By real path, the content that this process has written there.
_written: dict[str, str] = {}


class _OfOtherSettings:
    """The stand-in for a pickle that is not read: a dataset, and loaders, of other settings.

    It compares the settings with its own and then makes the dataset anew.
    """

    def __init__(self) -> None:
        self.config: dict[str, object] = defaultdict(object)
        self.sampler = SimpleNamespace()

    def __iter__(self) -> Iterator[tuple[_OfOtherSettings, Any]]:
        import torch

        return iter([(self, torch.Generator().get_state())] * 3)


def pickle_of_this_run(_pickle: ModuleType) -> ModuleType:
    """Return a `pickle` that reads only what this process has written, or what the user trusts."""

    def dump(value: Any, file: IO[bytes]) -> None:
        content = pickle.dumps(value)
        file.write(content)
        _written[os.path.realpath(file.name)] = hashlib.sha256(content).hexdigest()

    def load(file: IO[bytes]) -> Any:
        written = _written.get(os.path.realpath(file.name))
        if written is not None or trusts_pickles():
            content = file.read()
            if trusts_pickles() or hashlib.sha256(content).hexdigest() == written:
                return pickle.loads(content)  # noqa: S301  ours, or trusted
        getLogger().warning(
            f"{file.name} is not read, because reading it could run code and this process has not "
            "written it; the dataset is made anew from its atomic files. If you trust the file, "
            f"set {TRUST_VARIABLE}=1"
        )
        return _OfOtherSettings()

    return ModuleWith(pickle, dump=dump, load=load)


def refuse_stored_pickles(settings: Any) -> None:
    """Raise a `ConfigError` if an untrusted pickle is named to be read instead of the dataset."""
    for key in STORED_PICKLES:
        value = settings.get(key)
        if value and not trusts_pickles():
            raise ConfigError(
                f"`{key}` names a pickle, {value}, and reading one can run any code: leave the key "
                "out, and the dataset is read from its atomic files; or, if you made the file "
                f"yourself, set {TRUST_VARIABLE}=1"
            )


# Module of RecBole, a name in it, and what makes the replacement of what it stands for.
CLOSURES: tuple[tuple[str, str, Callable[[Any], Any]], ...] = (
    ("recbole.config.configurator", "eval", values_of_text),
    ("recbole.config.configurator", "yaml", bounded_yaml),
    ("recbole.config.configurator", "open", opening_of_regular_files),
    ("recbole.trainer.hyper_tuning", "eval", choices_of_text),
    (KD_DAGFM, "eval", networks_of_text),
    ("recbole.model.general_recommender.ldiffrec", "np", numpy_without_pickles),
    ("recbole.data.utils", "pickle", pickle_of_this_run),
    ("recbole.data.utils", "open", opening_of_regular_files),
    ("recbole.data.dataset.dataset", "pickle", pickle_of_this_run),
)
