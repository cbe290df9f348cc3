"""A whole checkpoint, from the archive of `torch.save`: a pickle, and tensors beside it."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from recbole.config import Config
from torch import Tensor

from recbole_margo.checkpoint_file.arrays import Tensors
from recbole_margo.checkpoint_file.refusal import RefusalError, expect
from recbole_margo.checkpoint_file.values import StoredConfig, values_of

LOCAL_HEADER = 30  # bytes before a member's name and content


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
    with _Archive(path) as archive:
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
            if self._content("byteorder", sys.byteorder.encode()).decode() != sys.byteorder:
                raise RefusalError("was written on a machine with another order of bytes")
        except BaseException:
            self._archive.close()
            raise

    def __enter__(self) -> _Archive:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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

    def _content(self, name: str, default: bytes) -> bytes:
        return self._read(self._members[name]) if name in self._members else default

    def _read(self, info: zipfile.ZipInfo) -> bytes:
        try:
            return self._archive.read(info)
        except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
            raise RefusalError(f"is damaged: {error}") from None

    def pickled(self) -> bytes:
        """Return the pickle."""
        return self._read(self._members["data.pkl"])

    def storage(self, key: str) -> Tensor:
        """Return the bytes of a tensor's storage [bytes], uint8.

        Raises:
            RefusalError: if there is no such storage, or it is damaged.
        """
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
