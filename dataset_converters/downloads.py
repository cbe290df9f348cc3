"""Published files: fetched once, resumed when interrupted, pinned by checksum."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recbole_margo.errors import DataError, import_optional
from recbole_margo.store.feature_files import file_sha256
from recbole_margo.store.reading import read_json
from recbole_margo.store.writing import locked, replacing

SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass
class DownloadLock:
    """The checksum of each file when it was fetched for the first time.

    Attributes:
        checksums: `download/file` -> SHA-256.
    """

    path: Path
    checksums: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> DownloadLock:
        """Read a lock; where there is none yet, nothing is pinned."""
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
        """Hold a file to its pin, or pin it if it has none."""
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


GOOGLE_DRIVE = "https://drive.google.com/"
SECONDS_OF_SILENCE = 60
RETRIES = 3
NPY_MAGIC = b"\x93NUMPY"
# What a server shows instead of a file begins so, whatever the file is called.
PAGE_BEGINNINGS = (b"<!doctype", b"<html", b"<?xml")


@dataclass(frozen=True)
class PublicFiles:
    """The files of one data set in a public folder.

    Attributes:
        name: the data set; files that several data sets have are taken from the folder of its name.
        url: a folder of Google Drive, or any address that followed by `/<file>` is the file.
    """

    name: str
    url: str
    files: tuple[str, ...]

    def fetch(self, folder: Path, lock_file: Path) -> None:
        """Put all files into a folder; those that are there already are only checked."""
        folder.mkdir(parents=True, exist_ok=True)
        # Two would write into one unfinished file; the second finds what the first has fetched.
        with locked(folder, seconds=-1):
            lock = DownloadLock.read(lock_file)
            for file in self.files:
                if (folder / file).is_file():
                    remedy = "Delete the file to fetch it again."
                    lock.check(f"{self.name}/{file}", folder / file, remedy)
            absent = [file for file in self.files if not (folder / file).is_file()]
            if absent:
                self._fetch(absent, folder, lock)

    def _fetch(self, files: Sequence[str], folder: Path, lock: DownloadLock) -> None:
        try:
            gdown = import_optional("gdown", "gdown", f"fetching {self.name}")
        except DataError as error:
            raise DataError(f"{error}. {self._by_hand(files, folder)}") from error
        try:
            locations = self._locations(gdown, files)
            for file in files:
                # gdown keeps what it has of an unfinished file beside this name.
                arrived = folder / f"{file}.download"
                gdown.download(
                    **locations[file],
                    output=str(arrived),
                    quiet=not sys.stderr.isatty(),
                    use_cookies=False,
                    resume=True,
                    timeout=SECONDS_OF_SILENCE,
                    retries=RETRIES,
                )
                self._accept(arrived, folder / file, lock)
        # requests' exceptions are OSErrors; gdown's own share this base.
        except (gdown.DownloadError, OSError) as error:
            reason = str(error).partition("\n")[0].rstrip(".")
            raise DataError(
                f"{self.url}: expected to fetch {', '.join(files)}, found: {reason}. What has "
                "arrived is kept: run the same command again to go on (if the server cannot go on, "
                f"delete {folder / '*.part'} first). {self._by_hand(files, folder)}"
            ) from error

    def _locations(self, gdown: Any, files: Sequence[str]) -> dict[str, dict[str, str]]:
        if not self.url.startswith(GOOGLE_DRIVE):
            return {file: {"url": f"{self.url.rstrip('/')}/{file}"} for file in files}
        listing = gdown.download_folder(
            url=self.url,
            skip_download=True,
            quiet=True,
            use_cookies=False,
            timeout=SECONDS_OF_SILENCE,
            retries=RETRIES,
        )
        locations = {}
        for file in files:
            found = [entry for entry in listing if Path(entry.path).name == file]
            if len(found) > 1:
                found = [e for e in found if Path(e.path).parent.name.lower() == self.name]
            if len(found) != 1:
                raise DataError(
                    f"{self.url}: expected one file {file} for {self.name}, found {len(found)} "
                    f"among {', '.join(sorted(entry.path for entry in listing))}."
                )
            locations[file] = {"id": found[0].id}
        return locations

    def _accept(self, arrived: Path, target: Path, lock: DownloadLock) -> None:
        """Give a file its name if it is what it should be; else delete it."""
        try:
            with arrived.open("rb") as file:
                beginning = file.read(64).lstrip().lower()
            is_page = beginning.startswith(PAGE_BEGINNINGS)
            if is_page or (target.suffix == ".npy" and not beginning.startswith(NPY_MAGIC.lower())):
                raise DataError(
                    f"{self.url}: expected the file {target.name}, found "
                    f"{'a web page' if is_page else 'a file of another kind'} in its place. "
                    f"{self._by_hand([target.name], target.parent)}"
                )
            remedy = (
                f"It was not kept. The file at {self.url} is not what it was, or the transfer was "
                f"disturbed: try again, or remove the entry from {lock.path} to accept a new file."
            )
            lock.check(f"{self.name}/{target.name}", arrived, remedy)
            os.replace(arrived, target)
        finally:
            arrived.unlink(missing_ok=True)

    def _by_hand(self, files: Sequence[str], folder: Path) -> str:
        return (
            f"Or fetch {', '.join(files)} of {self.name} from {self.url} with a browser, put them "
            f"into {folder}, and run the same command again."
        )


FEATURES = ("image_feat.npy", "text_feat.npy")
# Named by MMRec's author: https://github.com/enoche/FREEDOM/issues/1
AMAZON = "https://drive.google.com/drive/folders/13cBy1EA_saTUuXxVllKgtfci2A09jyaG"
# Named by the contributor of the data set: https://github.com/enoche/MMRec/issues/29
MICROLENS = "https://drive.google.com/drive/folders/14UyTAh_YyDV8vzXteBJiy9jv8TBDK43w"
URLS = {
    "baby": AMAZON,
    "sports": AMAZON,
    "clothing": AMAZON,
    "elec": AMAZON,
    "microlens": MICROLENS,
}


def mmrec_files(name: str, mirror: str | None = None) -> PublicFiles:
    """Return the files of a published data set."""
    url = f"{mirror.rstrip('/')}/{name}" if mirror else URLS[name]
    return PublicFiles(name, url, (f"{name}.inter", *FEATURES))
