"""Downloads from a server on this machine that can break off, refuse ranges and change files."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mmrec_source import ITEM_COUNT, write_source

from dataset_converters import downloads
from dataset_converters.__main__ import main
from dataset_converters.downloads import URLS, mmrec_files
from recbole_margo.errors import DataError

gdown = pytest.importorskip("gdown")
CUT = 1_500_000
FILES = ("baby.inter", "image_feat.npy", "text_feat.npy")


class FileServer(ThreadingHTTPServer):
    """Serves `files` by path; `cut` breaks a transfer off after so many bytes, once."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut: dict[str, int] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.ranges = True
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.requests.append((self.path, wanted))
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = 0
        if wanted and self.server.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : self.server.cut.pop(self.path, len(content))])

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(downloads, "RETRIES", 0)
    source = write_source(tmp_path / "published")
    (source / "toy.inter").rename(source / "baby.inter")
    # Larger than the blocks in which gdown writes.
    np.save(source / "image_feat.npy", np.random.default_rng(0).normal(size=(ITEM_COUNT, 50_000)))
    with FileServer() as server:
        server.files = {f"/baby/{file}": (source / file).read_bytes() for file in FILES}
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return tmp_path / "raw"


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "dataset" / "downloads.lock.json"


def fetched(raw: Path) -> dict[str, bytes]:
    return {
        f"/baby/{path.name}": path.read_bytes() for path in raw.iterdir() if path.name != ".lock"
    }


def test_one_command_fetches_pins_and_converts(
    server: FileServer, raw: Path, lock: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["mmrec", "--download", "baby", "--mirror", server.url, "--name", "baby"]
    arguments += ["--source", str(raw), "--output", str(lock.parent)]
    assert main(arguments) == 0
    assert fetched(raw) == server.files
    assert json.loads(lock.read_text()) == {
        name.removeprefix("/"): hashlib.sha256(content).hexdigest()
        for name, content in server.files.items()
    }
    assert (lock.parent / "baby" / "baby.train.inter").is_file()

    server.requests.clear()
    assert main(arguments) == 0
    assert capsys.readouterr().out.endswith("baby holds this already\n")
    assert not server.requests


def test_an_interrupted_download_goes_on_where_it_was(
    server: FileServer, raw: Path, lock: Path
) -> None:
    files = mmrec_files("baby", server.url)
    server.cut["/baby/image_feat.npy"] = CUT
    with pytest.raises(DataError, match=r"incomplete.*run the same command again.*with a browser"):
        files.fetch(raw, lock)
    assert (raw / "baby.inter").is_file()
    assert not (raw / "image_feat.npy").exists()

    server.requests.clear()
    files.fetch(raw, lock)
    assert fetched(raw) == server.files
    ranges = [wanted for path, wanted in server.requests if path == "/baby/image_feat.npy"]
    assert 500_000 < int(ranges[-1].removeprefix("bytes=").removesuffix("-")) <= CUT
    assert "/baby/baby.inter" not in dict(server.requests)


def test_a_break_is_mended_without_a_second_command(
    server: FileServer, raw: Path, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "RETRIES", 1)
    monkeypatch.setattr("random.uniform", lambda low, high: 0.0)
    server.cut["/baby/image_feat.npy"] = CUT
    mmrec_files("baby", server.url).fetch(raw, lock)
    assert fetched(raw) == server.files


def test_a_server_that_cannot_go_on_is_explained(server: FileServer, raw: Path, lock: Path) -> None:
    files = mmrec_files("baby", server.url)
    server.cut["/baby/image_feat.npy"] = CUT
    with pytest.raises(DataError):
        files.fetch(raw, lock)
    server.ranges = False
    with pytest.raises(DataError, match=r"cannot go on, delete .*\*\.part first"):
        files.fetch(raw, lock)
    for path in raw.glob("*.part"):
        path.unlink()
    files.fetch(raw, lock)
    assert fetched(raw) == server.files


def test_another_content_than_the_pinned_one_is_not_kept(
    server: FileServer, raw: Path, lock: Path
) -> None:
    files = mmrec_files("baby", server.url)
    files.fetch(raw, lock)
    pinned = lock.read_text()
    (raw / "text_feat.npy").unlink()
    server.files["/baby/text_feat.npy"] += b"more"
    with pytest.raises(DataError, match=r"SHA-256 [0-9a-f]{64} that .*lock.*baby/text_feat\.npy, "):
        files.fetch(raw, lock)
    assert sorted(path.name for path in raw.glob("[!.]*")) == ["baby.inter", "image_feat.npy"]
    assert lock.read_text() == pinned


def test_a_file_that_changed_here_is_noticed_and_left(
    server: FileServer, raw: Path, lock: Path
) -> None:
    files = mmrec_files("baby", server.url)
    files.fetch(raw, lock)
    (raw / "baby.inter").write_text("mine")
    with pytest.raises(DataError, match=r"baby\.inter: expected the SHA.*Delete the file to fetch"):
        files.fetch(raw, lock)
    assert (raw / "baby.inter").read_text() == "mine"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("baby.inter", b"\n<!DOCTYPE html><title>Quota exceeded</title>", r"a web page in its pl"),
        ("image_feat.npy", b"PK\x03\x04", r"expected the file image_feat\.npy, found a file of"),
    ],
)
def test_what_is_no_such_file_is_never_pinned(
    server: FileServer, raw: Path, lock: Path, file: str, content: bytes, message: str
) -> None:
    server.files[f"/baby/{file}"] = content
    with pytest.raises(DataError, match=message):
        mmrec_files("baby", server.url).fetch(raw, lock)
    assert not (raw / file).exists()
    assert not lock.exists() or f"baby/{file}" not in lock.read_text()


def test_a_file_that_is_not_there_is_said(server: FileServer, raw: Path, lock: Path) -> None:
    del server.files["/baby/image_feat.npy"]
    with pytest.raises(DataError, match=r"found: 404 .* Or fetch baby\.inter, image"):
        mmrec_files("baby", server.url).fetch(raw, lock)


def test_without_a_network_it_says_what_to_fetch_by_hand(
    server: FileServer, raw: Path, lock: Path, tmp_path: Path
) -> None:
    files = mmrec_files("baby", "http://127.0.0.1:9")
    message = rf"Or fetch baby\.inter, image_feat\.npy, .* from {files.url} .*browser, .*into {raw}"
    with pytest.raises(DataError, match=message):
        files.fetch(raw, lock)
    for path in (tmp_path / "published").iterdir():
        path.rename(raw / path.name)
    files.fetch(raw, lock)  # what was fetched by hand is enough, and is pinned
    assert len(json.loads(lock.read_text())) == len(FILES)


def test_without_the_library_it_says_so_and_what_to_fetch_by_hand(
    raw: Path, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gdown", None)
    with pytest.raises(DataError, match=r"pip install gdown\. Or fetch baby\.inter, .*browser"):
        mmrec_files("baby").fetch(raw, lock)


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}', '{"a": "xyz"}', "[" * 100_000])
def test_a_damaged_lock_is_refused(raw: Path, lock: Path, content: str) -> None:
    lock.parent.mkdir()
    lock.write_text(content)
    with pytest.raises(DataError, match=r"lock\.json: expected a JSON object .* SHA-256"):
        mmrec_files("baby", "http://127.0.0.1:9").fetch(raw, lock)


def test_a_folder_of_google_drive_is_listed_and_the_right_files_are_taken(
    server: FileServer, raw: Path, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = [
        SimpleNamespace(id=f"{folder}/{file}", path=f"{folder}/{file}")
        for folder in ("Baby", "sports")
        for file in (f"{folder.lower()}.inter", "image_feat.npy", "text_feat.npy", "README")
    ]
    asked = []
    download = gdown.download

    def drive(id: str, **options: object) -> object:
        return download(url=f"{server.url}/{id.lower()}", **options)

    def download_folder(url: str, **options: object) -> object:
        asked.append((url, options["skip_download"]))
        return listing

    monkeypatch.setattr(gdown, "download", drive)
    monkeypatch.setattr(gdown, "download_folder", download_folder)
    mmrec_files("baby").fetch(raw, lock)
    assert fetched(raw) == server.files
    assert asked == [(URLS["baby"], True)]

    with pytest.raises(DataError, match=r"expected one file elec\.inter .* found 0 among Baby/REA"):
        mmrec_files("elec").fetch(raw.with_name("elec"), lock)


def test_a_mirror_needs_a_download(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_source(tmp_path / "raw")
    arguments = ["mmrec", "--source", str(source), "--name", "toy", "--mirror", "http://x"]
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 2
    assert "--mirror: expected --download" in capsys.readouterr().err


def test_what_is_fetched_is_bytes_and_nothing_is_executed(
    server: FileServer, raw: Path, lock: Path
) -> None:
    np.save(raw.parent / "objects.npy", np.array([{"a": 1}] * 5), allow_pickle=True)
    server.files["/baby/text_feat.npy"] = (raw.parent / "objects.npy").read_bytes()
    arguments = ["mmrec", "--download", "baby", "--mirror", server.url, "--name", "baby"]
    assert main([*arguments, "--source", str(raw), "--output", str(lock.parent)]) == 2
    assert not (lock.parent / "baby").exists()
