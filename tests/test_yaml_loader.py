"""YAML from a stranger: refused in no time, or read as plain values."""

from __future__ import annotations

import os
import signal
import time
from itertools import pairwise
from pathlib import Path

import pytest
from recbole.config import Config as RecBoleConfig  # noqa: F401  its loader changes PyYAML's own

from recbole_margo.cli import main
from recbole_margo.config import Config
from recbole_margo.defaults import (
    MAX_CHARACTERS,
    MAX_DEPTH,
    MAX_NODES,
    YamlLoader,
    parse_yaml,
    read_yaml,
)
from recbole_margo.errors import ConfigError

LETTERS = "abcdefghij"


def laughs(nine: str) -> str:
    """Return a few lines in which every one stands for nine of the line before."""
    return "a: &a x\n" + "".join(
        f"{after}: &{after} {nine.replace('*', '*' + before)}\n"
        for before, after in pairwise(LETTERS)
    )


def levels_by_aliases() -> str:
    """Return values that are deep by aliases only."""
    return "a: &a [[[[[[x]]]]]]\n" + "".join(
        f"{after}: &{after} [[[[[[*{before}]]]]]]\n" for before, after in pairwise(LETTERS)
    )


def merges() -> str:
    """Return mappings that take in, twice each, the one before."""
    return "m0: &m0 {x: 1}\n" + "".join(
        f"m{n}: &m{n} {{<<: [*m{n - 1}, *m{n - 1}]}}\n" for n in range(1, 40)
    )


HOSTILE = {
    "billion laughs": (laughs("[*, *, *, *, *, *, *, *, *]"), "aliases written out"),
    "billion laughs in mappings": (laughs("{p: *, q: *, r: *, s: *, t: *}"), "written out"),
    "a long text many times": (f"a: &a {'x' * 500_000}\nb: [{'*a, ' * 9}*a]", "written out"),
    "many values": (f"[{'a,' * (MAX_NODES + 1)}]", "more than"),
    "exponential merges": (merges(), "aliases written out"),
    "an alias in itself": ("&a [*a]", "inside of what it names"),
    "an alias in itself below": ("a: &a {b: [*a]}", "inside of what it names"),
    "deep lists": ("[" * 100_000, "levels of values"),
    "deep mappings": ("{a: " * 5_000, "levels of values"),
    "deep blocks": ("- " * 5_000, "levels of values"),
    "deep keys": ("? " * 5_000, "levels of values"),
    "deep by aliases": (levels_by_aliases(), "levels of values"),
    "a long integer": ("9" * 5_000, "a number of 5000 characters"),
    "a long hexadecimal": ("0x" + "f" * 5_000, "a number of"),
    "a long sexagesimal": ("1" + ":1" * 5_000, "a number of"),
    "a long float": ("1" * 5_000 + ".5", "a number of"),
    "a key twice": ("alpha: 1\nbeta: 2\nalpha: 3", "`alpha` stands twice .* in line 3, column 1"),
    "a key twice below": ("x: {split: 1, split: 2}", "`split` stands twice"),
    "an impossible date": ("2001-13-45", "month must be"),
    "a tag of another kind": ("!!timestamp abc", "not valid YAML"),
    "a number without digits": ("!!int ''", "not valid YAML"),
    "no boolean": ("!!bool maybe", "not valid YAML"),
    "a function": ("!!python/name:os.system", "constructor"),
    "an object": ("!!python/object/apply:os.getcwd []", "constructor"),
    "two documents": ("a: 1\n---\nb: 2", "not valid YAML"),
    "a control character": ("a: \0", "not valid YAML"),
    "a large text": ("x" * (MAX_CHARACTERS + 1), "characters"),
}


@pytest.mark.parametrize(("text", "message"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_refused_in_no_time(text: str, message: str) -> None:
    started = time.monotonic()
    with pytest.raises(ConfigError, match=message) as caught:
        parse_yaml(text, "the test")
    assert time.monotonic() - started < 15
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 300


def test_what_configurations_use_is_read() -> None:
    assert parse_yaml("a: &a [1, 2]\nb: *a\nc: *a") == {"a": [1, 2], "b": [1, 2], "c": [1, 2]}
    merged = parse_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: {<<: *a}")
    assert merged["b"] == {"x": 3, "y": 2}
    assert merged["c"] == {"x": 1, "y": 2}
    assert parse_yaml("[1e-3, 1.5e3, .5, -7, 0x10, .inf]") == [
        0.001,
        1500.0,
        0.5,
        -7,
        16,
        float("inf"),
    ]
    assert len(parse_yaml(f"[{'a, ' * 10_000}]")) == 10_000
    deep: object = parse_yaml("[" * (MAX_DEPTH - 1) + "1" + "]" * (MAX_DEPTH - 1))
    for _ in range(MAX_DEPTH - 1):
        assert isinstance(deep, list)
        (deep,) = deep
    assert deep == 1


def fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def zeros(path: Path) -> Path:
    path.symlink_to("/dev/zero")
    return path


def large(path: Path) -> Path:
    with path.open("wb") as file:
        file.truncate(MAX_CHARACTERS + 1)
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def latin(path: Path) -> Path:
    path.write_bytes(b"a: caf\xe9")
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (fifo, "found a named pipe"),
        (zeros, "found a device"),
        (large, "at most 1,024 KiB"),
        (folder, "found a folder"),
        (latin, "expected UTF-8"),
    ],
)
def test_only_a_small_regular_file_of_text_is_read(
    make: object, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make(tmp_path / "given.yaml")  # type: ignore[operator]
    with pytest.raises(ConfigError, match=message):
        read_yaml(path)
    assert main(["train", f"--config_files={path}"]) == 2
    printed = capsys.readouterr().err.strip()
    assert str(path) in printed
    assert len(printed.splitlines()) == 1


def test_the_yaml_of_a_dataset_is_bounded_too(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    own = tmp_path / "mine" / "mine.yaml"
    own.write_text("load_col: &a [x]\nmodalities: &b [*a, *a]\nload_col: *b", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine\.yaml .*`load_col` stands twice"):
        Config("BPR", "mine", config_dict={"data_path": str(tmp_path)})
    own.unlink()
    os.mkfifo(own)
    with pytest.raises(ConfigError, match=r"mine\.yaml: expected a file, found a named pipe"):
        Config("BPR", "mine", config_dict={"data_path": str(tmp_path)})


def test_a_signal_ends_the_reading_of_a_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "slow.yaml"
    path.write_text(f"alpha: [{'a,' * (MAX_NODES - 10)}]", encoding="utf-8")
    before = signal.getsignal(signal.SIGTERM)
    calls = []

    def compose(self: object, parent: object, index: object) -> object:
        calls.append(index)
        if len(calls) == 100:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, parent, index)

    original = YamlLoader.compose_node
    monkeypatch.setattr("recbole_margo.defaults.YamlLoader.compose_node", compose)
    try:
        assert main(["train", f"--config_files={path}"]) == 130
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "interrupted" in capsys.readouterr().err
    assert len(calls) < 1_000
