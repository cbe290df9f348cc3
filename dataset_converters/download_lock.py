"""Checksums of downloaded files: `downloads.lock.json`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from recbole_margo.errors import DataError
from recbole_margo.store.feature_files import file_sha256
from recbole_margo.store.file_lock import locked
from recbole_margo.store.reading import read_json
from recbole_margo.store.writing import replacing

SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass
class DownloadLock:
    """What each file was when it was fetched for the first time.

    Attributes:
        path: where the lock lies.
        checksums: `download/file` -> SHA-256.
    """

    path: Path
    checksums: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> DownloadLock:
        """Read a lock; where there is none yet, nothing is pinned.

        Args:
            path: the file.

        Returns:
            The lock.

        Raises:
            DataError: the file is not a lock.
        """
        if not path.exists():
            return cls(path)
        try:
            checksums = read_json(path)
        except (DataError, OSError) as error:
            raise cls._malformed(path, str(error)) from error
        if not isinstance(checksums, dict):
            raise cls._malformed(path, repr(checksums))
        for name, checksum in checksums.items():
            if not isinstance(checksum, str) or not SHA256.fullmatch(checksum):
                raise cls._malformed(path, f"{checksum!r} for {name!r}")
        return cls(path, checksums)

    @staticmethod
    def _malformed(path: Path, found: str) -> DataError:
        return DataError(
            f"{path}: expected a JSON object of file names and SHA-256 checksums, found {found}. "
            "Restore it, or remove it to pin again what is fetched next."
        )

    def check(self, name: str, file: Path, remedy: str) -> None:
        """Hold a file to its pin, or pin it if it has none.

        Args:
            name: its name in the lock.
            file: the file.
            remedy: what the user can do when it is another.

        Raises:
            DataError: it is not the file that was pinned.
        """
        found = file_sha256(file)
        pinned = self.checksums.get(name)
        if pinned == found:
            return
        if pinned:
            raise DataError(
                f"{file}: expected the SHA-256 {pinned} that {self.path} has for {name}, found "
                f"{found}. {remedy}"
            )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.path.parent):
            # What others have pinned since the lock was read stays.
            self.checksums = {name: found, **DownloadLock.read(self.path).checksums}
            with replacing(self.path) as temporary:
                content = json.dumps(self.checksums, indent=2, sort_keys=True) + "\n"
                temporary.write_text(content, encoding="utf-8")
        if self.checksums[name] != found:
            self.check(name, file, remedy)
