"""A whole checkpoint, from the archive of `torch.save`: a pickle, and tensors beside it."""

from __future__ import annotations

import importlib
import re
import sys
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from contextlib import closing
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from recbole.config import Config
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import enum_type
from torch import Tensor

from recbole_margo.checkpoint_file import arrays
from recbole_margo.checkpoint_file.arrays import Tensors
from recbole_margo.checkpoint_file.opcodes import (
    ABSENT,
    Call,
    ForeignNameError,
    Name,
    Pairs,
    RefusalError,
    expect,
    records_of,
)

CONFIG_CLASSES = ("recbole.config.configurator.Config", "recbole_margo.config.Config")
YAML_LOADER = "yaml.loader.FullLoader"
ENUMS = {
    f"{enum_type.__name__}.{name}": value
    for name, value in vars(enum_type).items()
    if isinstance(value, type) and issubclass(value, Enum) and value is not Enum
}
# Modules that are imported if a file names a model in them; others must have been imported.
OF_MODELS = re.compile(r"(recbole|recbole_margo)\.model(\.[a-z0-9_]+)+")
KEYS = (str, int, float, bool, type(None))
LOCAL_HEADER = 30  # bytes before a member's name and content


class StoredConfig:
    """The attributes of a stored `Config`."""

    def __init__(self, attributes: dict[str, Any]) -> None:
        self.attributes = attributes


def values_of(pickled: bytes, tensors: arrays.Tensors, limit: int) -> Any:
    """Return what a checkpoint's pickle holds; nothing that it names is called.

    Returns:
        Plain values, NumPy's and SciPy's, tensors, and `StoredConfig` for RecBole's `Config`.

    Raises:
        RefusalError: if it holds anything else than what RecBole and recbole-margo write.
    """
    try:
        values = _Values(tensors, limit)
        found = values.of(records_of(pickled))
        own = found.get("config") if isinstance(found, dict) else None
        expect(all(config is own for config in values.configs), "a Config in an unusual place")
        return found
    except RefusalError:
        raise
    except Exception as error:  # what torch, NumPy or SciPy say of a value that they do not take
        raise RefusalError(f"cannot be read: {error!r:.200}") from error


class _Values:
    """Turns records into values; a record that is named twice becomes one value."""

    def __init__(self, tensors: arrays.Tensors, limit: int) -> None:
        self.known: dict[int, Any] = {}
        self.configs: list[StoredConfig] = []
        self.makers: dict[str, Callable[[Call], Any]] = {
            **dict.fromkeys(CONFIG_CLASSES, self._config),
            **{name: partial(_enum_value, kind) for name, kind in ENUMS.items()},
            **dict.fromkeys(arrays.SCALAR, arrays.scalar),
            **dict.fromkeys(arrays.RECONSTRUCT, partial(arrays.array, limit=limit)),
            **dict.fromkeys(arrays.COMPRESSED, partial(arrays.compressed_matrix, limit=limit)),
            **dict.fromkeys(arrays.LIL, partial(arrays.lil_matrix, limit=limit)),
            arrays.ENCODE: arrays.raw_bytes,
            arrays.DENSE: tensors.dense,
            arrays.PARAMETER: tensors.parameter,
            arrays.SPARSE: tensors.sparse,
            "torch.Size": tensors.size,
            "torch.device": arrays.device,
            "collections.OrderedDict": self._ordered,
            "collections.defaultdict": self._default,
        }
        self.made_by_new = {*CONFIG_CLASSES, *arrays.COMPRESSED, *arrays.LIL}

    def of(self, record: Any) -> Any:
        """Return the value of a record."""
        if record is None or isinstance(record, (bool, int, float, str, bytes)):
            return record
        if id(record) not in self.known:
            self.known[id(record)] = self._made(record)
        return self.known[id(record)]

    def _made(self, record: Any) -> Any:
        if isinstance(record, (list, tuple)):
            return type(record)(map(self.of, record))
        if isinstance(record, Pairs):
            return self._dict(record.pairs)
        if isinstance(record, Name) and str(record) in arrays.DTYPES:
            return arrays.DTYPES[str(record)]
        if isinstance(record, Call):
            name = str(record.target)
            if name not in self.makers:
                raise ForeignNameError(name)
            expect(record.new == (name in self.made_by_new), f"an unusual {name}")
            return self.makers[name](record)
        if isinstance(record, Name):
            raise ForeignNameError(str(record))
        raise RefusalError("holds a storage without a tensor")

    def _dict(self, pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
        expect(all(type(key) in KEYS for key, _ in pairs), "a dict with unusual keys")
        return {key: self.of(value) for key, value in pairs}

    def _ordered(self, record: Call) -> OrderedDict[Any, Any]:
        expect(record.arguments == (), "an unusual OrderedDict")
        found = OrderedDict(self._dict(record.pairs))
        if record.state is not ABSENT:
            # torch notes the versions of a model's layers beside its parameters.
            expect(isinstance(record.state, Pairs), "an OrderedDict with a state")
            state = self._dict(record.state.pairs)
            expect(set(state) == {"_metadata"}, "an OrderedDict with a state")
            expect(_are_versions(state["_metadata"]), "an OrderedDict with a state")
            found._metadata = state["_metadata"]  # type: ignore[attr-defined]
        return found

    def _default(self, record: Call) -> defaultdict[Any, Any]:
        kind = record.arguments[0] if len(record.arguments) == 1 else None
        name = str(kind) if isinstance(kind, Name) else ""
        if name not in ("builtins.list", "__builtin__.list") or record.state is not ABSENT:
            raise ForeignNameError(f"collections.defaultdict of {name or 'something'}")
        return defaultdict(list, self._dict(record.pairs))

    def _config(self, record: Call) -> StoredConfig:
        made = record.arguments == () and not record.pairs and isinstance(record.state, Pairs)
        expect(made, "a Config that RecBole does not write")
        attributes = {}
        for name, value in record.state.pairs:
            expect(type(name) is str and name[:2] != "__", "a Config of unusual attributes")
            if name == "yaml_loader":
                expect(isinstance(value, Name) and str(value) == YAML_LOADER, "another YAML loader")
                attributes[name] = yaml.FullLoader
            elif isinstance(value, Name) and str(value) not in arrays.DTYPES:
                attributes[name] = _model_class(value)
            else:
                attributes[name] = self.of(value)
        self.configs.append(StoredConfig(attributes))
        return self.configs[-1]


def _enum_value(kind: Any, record: Call) -> Any:
    expect(len(record.arguments) == 1 and record.state is ABSENT, f"an unusual {kind.__name__}")
    for member in kind:
        if type(record.arguments[0]) is type(member.value) and record.arguments[0] == member.value:
            return member
    raise RefusalError(f"holds a {kind.__name__} that there is not")


def _are_versions(metadata: Any) -> bool:
    return isinstance(metadata, OrderedDict) and all(
        type(layer) is str
        and type(versions) is dict
        and set(map(type, versions)) <= {str}
        # No two versions of a layer are written in any other way than as integers.
        and all(type(version) is int for version in versions.values())
        for layer, versions in metadata.items()
    )


def _model_class(record: Name) -> type[Any]:
    """Return a model's class by its name; it is neither called nor asked for anything."""
    module = sys.modules.get(record.module)
    if module is None and OF_MODELS.fullmatch(record.module):
        try:
            module = importlib.import_module(record.module)
        except ImportError:
            module = None
    found = vars(module).get(record.name) if module is not None else None
    if not (isinstance(found, type) and issubclass(found, AbstractRecommender)):
        raise ForeignNameError(str(record))
    return found


def checkpoint_in(path: Path, map_location: Any = None) -> Any:
    """Read a checkpoint of RecBole or of recbole-margo; nothing that it names is called.

    Args:
        map_location: where the tensors go, as in `torch.load`.

    Returns:
        What the file holds, a dict if it is a checkpoint, whose `config` is a RecBole
        `Config` or, in checkpoints of our trainer, a dict.

    Raises:
        RefusalError: if the file holds anything else than such a checkpoint.
    """
    with closing(_Archive(path)) as archive:
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


class _Archive:
    """Gives the members of a checkpoint whose archive is as `torch.save` writes it.

    Nothing in it is compressed and no bytes belong to two members, so that what is read is never
    longer than the file.

    Raises:
        RefusalError: if the archive is of another kind or damaged.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            # Older formats begin otherwise, and so does an archive behind something.
            if file.read(4) != b"PK\x03\x04":
                raise RefusalError("is no archive of torch.save")
        try:
            self._archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError) as error:
            raise RefusalError(f"is no archive of torch.save ({error})") from None
        try:
            self.length = path.stat().st_size
            self._members = self._checked_members()
            order = self._members.get("byteorder")
            if order is not None and self._read(order).decode() != sys.byteorder:
                raise RefusalError("was written on a machine with another order of bytes")
        except BaseException:
            self._archive.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._archive.close()

    def _checked_members(self) -> dict[str, zipfile.ZipInfo]:
        infos = sorted(self._archive.infolist(), key=lambda info: info.header_offset)
        ends = [*(info.header_offset for info in infos[1:]), self._archive.start_dir]
        roots = {info.filename.partition("/")[0] for info in infos}
        names = [info.filename.partition("/")[2] for info in infos]
        if len(roots) != 1 or len(set(names)) != len(names):
            raise RefusalError("is no archive of torch.save: it names a member twice")
        if "data.pkl" not in names or "constants.pkl" in names:  # the latter is TorchScript
            raise RefusalError("is no archive of torch.save: expected one data.pkl and no code")
        if infos[0].header_offset != 0:
            raise RefusalError("is no archive of torch.save: something stands before it")
        for info, end in zip(infos, ends, strict=True):
            stored = info.compress_type == zipfile.ZIP_STORED and info.flag_bits & 1 == 0
            if not stored or info.compress_size != info.file_size:
                raise RefusalError(f"holds a compressed {info.filename}, torch.save does not")
            if info.header_offset + LOCAL_HEADER + len(info.filename) + info.file_size > end:
                raise RefusalError(f"says that {info.filename} is longer than its place in it")
        return dict(zip(names, infos, strict=True))

    def _read(self, info: zipfile.ZipInfo) -> bytes:
        try:
            return self._archive.read(info)
        except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
            raise RefusalError(f"is damaged: {error}") from None

    def pickled(self) -> bytes:
        """Return the pickle."""
        return self._read(self._members["data.pkl"])

    def storage(self, key: str) -> Tensor:
        """Return the bytes of a tensor's storage, uint8; refuse a damaged or missing one."""
        info = self._members.get(f"data/{key}")
        if info is None:
            raise RefusalError(f"names a storage {key!r:.40} that it does not hold")
        found = torch.empty(info.file_size, dtype=torch.uint8)
        rest = found.numpy().data
        try:
            with self._archive.open(info) as member:
                while rest and (count := member.readinto(rest)):  # type: ignore[attr-defined]
                    rest = rest[count:]
                whole = not rest and not member.read(1)  # which also checks the sum
        except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
            raise RefusalError(f"is damaged: {error}") from None
        if not whole:
            raise RefusalError(f"is damaged: {info.filename} ends early")
        return found
