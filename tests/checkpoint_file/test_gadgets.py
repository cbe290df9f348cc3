"""Crafted checkpoints: nothing that they name is called, and none costs more than its length."""

from __future__ import annotations

import io
import pickle
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recbole.config import Config
from scipy.sparse import csr_matrix

from recbole_margo.compat import load_checkpoint
from recbole_margo.errors import CheckpointError
from recbole_margo.training.checkpoint import read_checkpoint

MIB = 2**20


class Program:
    """Writes the instructions of a pickle by hand."""

    def __init__(self) -> None:
        self.code = bytearray(b"\x80\x04")
        self.places = 1000

    def op(self, code: bytes) -> Program:
        self.code += code
        return self

    def name(self, module: str, name: str) -> Program:
        return self.op(b"c" + module.encode() + b"\n" + name.encode() + b"\n")

    def value(self, value: Any) -> Program:
        return self.op(pickle.dumps(value, 2)[2:-1])

    def put(self) -> int:
        self.places += 1
        self.op(b"r" + struct.pack("<I", self.places))
        return self.places

    def get(self, place: int) -> Program:
        return self.op(b"j" + struct.pack("<I", place))

    def call(self, module: str, name: str, *arguments: Any) -> Program:
        self.name(module, name).op(b"(")
        for argument in arguments:
            self.value(argument)
        return self.op(b"tR")

    def done(self) -> bytes:
        """Return a checkpoint's dict with the value made so far in it."""
        return bytes(self.code) + b"."


def in_dict(make: Callable[[Program], Any], key: str = "other_parameter") -> bytes:
    """Return a pickle of {key: what is made}."""
    program = Program().op(b"}").value(key)
    make(program)
    return program.op(b"s").done()


def archive(
    path: Path, pickled: bytes, storages: dict[str, bytes] | None = None, kind: int = 0
) -> Path:
    with zipfile.ZipFile(path, "w", kind) as target:
        target.writestr("archive/data.pkl", pickled)
        for key, content in (storages or {}).items():
            target.writestr(f"archive/data/{key}", content)
    return path


def called(module: str, name: str, *arguments: Any) -> bytes:
    return in_dict(lambda program: program.call(module, name, *arguments))


def new_of(module: str, name: str, *arguments: Any) -> bytes:
    return in_dict(lambda program: program.name(module, name).op(b"(").value(arguments).op(b"\x81"))


def hex_bomb() -> bytes:
    program = Program().op(b"}").value("x")
    program.op(b"C\x40" + b"A" * 64)
    for _ in range(26):
        place = program.put()
        program.op(b"0").name("_codecs", "encode").get(place).value("hex").op(b"\x86R")
    return program.op(b"s").done()


def hex_bomb_without_pop() -> bytes:
    program = Program().op(b"}").value("x")
    for _ in range(26):
        program.name("_codecs", "encode")
    program.op(b"C\x40" + b"A" * 64)
    for _ in range(26):
        program.value("hex").op(b"\x86R")
    return program.op(b"s").done()


def laughs(opening: bytes, closing: bytes) -> bytes:
    """Return a value that is written once, and again in each of nine containers ten times."""
    program = Program().op(b"}").value("config").op(b"}")
    program.value(0).value(["lol"] * 10)
    place = program.put()
    program.op(b"s")
    for number in range(1, 10):
        program.value(number).op(opening)
        for _ in range(10):
            program.get(place)
        program.op(closing)
        place = program.put()
        program.op(b"s")
    return program.op(b"s").done()


def nested(depth: int) -> bytes:
    return in_dict(lambda program: program.op(b"]" * depth + b"a" * (depth - 1)))


def nested_in_steps(depth: int) -> bytes:
    """Return lists of which each holds the one before, none of them deep where it stands."""
    program = Program().op(b"}").value("x").op(b"](")
    place = None
    for _ in range(depth):
        program.op(b"]")
        if place is not None:
            program.get(place).op(b"a")
        place = program.put()
    return program.op(b"es").done()


def endless() -> bytes:
    program = Program().op(b"}").value("x").op(b"]")
    place = program.put()
    return program.get(place).op(b"as").done()


def with_state(module: str, name: str, state: Any, make: bytes = b")\x81") -> bytes:
    return in_dict(lambda program: program.name(module, name).op(make).value(state).op(b"b"))


def dtype(code: str, flags: int = 0) -> Callable[[Program], Any]:
    return lambda program: (
        program.call("numpy", "dtype", code, False, True)
        .value((3, "<", None, None, None, -1, -1, flags))
        .op(b"b")
    )


def array(
    shape: Any, content: bytes, make_dtype: Callable[[Program], Any], kind: str = "ndarray"
) -> bytes:
    def make(program: Program) -> None:
        program.name("numpy._core.multiarray", "_reconstruct").op(b"(").name("numpy", kind)
        program.value((0,)).op(b"C\x01btR(").value(1).value(shape)
        make_dtype(program)
        program.op(b"\x89B" + struct.pack("<I", len(content)) + content + b"tb")

    return in_dict(make)


def tensor(
    size: Any = (2,),
    stride: Any = (1,),
    offset: Any = 0,
    count: Any = 4,
    kind: tuple[str, str] = ("torch", "FloatStorage"),
    word: Any = "storage",
    key: Any = "0",
    location: Any = "cpu",
) -> bytes:
    def make(program: Program) -> None:
        program.name("torch._utils", "_rebuild_tensor_v2").op(b"((").value(word).name(*kind)
        program.value(key).value(location).value(count).op(b"tQ").value(offset)
        program.value(size).value(stride).op(b"\x89")
        program.name("collections", "OrderedDict").op(b")RtR")

    return in_dict(make)


def compressed(indices: list[int], indptr: list[int], shape: tuple[int, ...]) -> bytes:
    """Return a matrix that SciPy would hold without looking at its indices."""
    found = csr_matrix((len(indptr) - 1, 3), dtype=np.float32)
    found.indices = np.array(indices, dtype=np.int32)
    found.indptr = np.array(indptr, dtype=np.int32)
    found.data = np.ones(len(indices), dtype=np.float32)
    found.__dict__["_shape"] = shape
    return pickle.dumps({"other_parameter": found}, 4)


INTERFACE = {
    "__array_interface__": {
        "data": (0x4141414141414140, False),
        "shape": (8,),
        "typestr": "<i8",
        "version": 3,
    }
}
CSR, CONFIG = ("scipy.sparse._csr", "csr_matrix"), ("recbole_margo.config", "Config")
GADGETS: dict[str, bytes] = {
    # What can be called.
    "os.system": called("os", "system", "echo"),
    "posix.system": called("posix", "system", "echo"),
    "eval": called("builtins", "eval", "1"),
    "exec": called("builtins", "exec", "1"),
    "getattr": called("builtins", "getattr", "a", "upper"),
    "a name with dots": called("recbole.config.configurator", "Config.__init__", 1),
    "importlib": called("importlib", "import_module", "antigravity"),
    "a list": called("builtins", "list", [1]),
    "a config": called(*CONFIG, "BPR", "toy"),
    "a new ndarray": new_of("numpy", "ndarray", (1 << 15, 1 << 15)),
    "a huge ndarray": called("numpy", "ndarray", (1 << 15, 1 << 15), "<f8"),
    "a matrix of text": called("numpy", "matrix", "1 2; 3 4"),
    "a csr of numbers": called(*CSR, (1 << 30, 1 << 30)),
    "a new csr of numbers": new_of(*CSR, (1 << 30, 1 << 30)),
    "a default of calls": in_dict(
        lambda p: p.name("collections", "defaultdict").name("os", "getcwd").op(b"\x85R")
    ),
    "text encoded otherwise": called("_codecs", "encode", "A" * 1000, "unicode_escape"),
    "hex of hex": hex_bomb(),
    "hex of hex in a row": hex_bomb_without_pop(),
    "an enum without a value": called("recbole.utils.enum_type", "ModelType", 99),
    "an enum of two": called("recbole.utils.enum_type", "ModelType", 1, 2),
    "a device of a name": called("torch", "device", "cuda:0\0x"),
    "a model": called("recbole.model.general_recommender.bpr", "BPR"),
    "another module's model": in_dict(lambda p: p.name("antigravity", "BPR")),
    "a loader of YAML": in_dict(lambda p: p.name("yaml.loader", "UnsafeLoader")),
    # What can be set.
    "state on a class": in_dict(
        lambda p: p.name(*CSR).op(b"N").value({"toarray": "poison"}).op(b"\x86b")
    ),
    "defaults of a function": in_dict(
        lambda p: (
            p.name("torch._utils", "_rebuild_tensor_v2")
            .op(b"N")
            .value({"__defaults__": (1, 2)})
            .op(b"\x86b")
        )
    ),
    "items of a class": in_dict(lambda p: p.name(*CONFIG).value("a").value(1).op(b"s")),
    "items of a config": in_dict(
        lambda p: p.name(*CONFIG).op(b")\x81").value("a").value(1).op(b"s")
    ),
    "appended to a call": in_dict(
        lambda p: p.name("collections", "OrderedDict").op(b")R").value(1).op(b"a")
    ),
    "an interface to memory": with_state(*CONFIG, INTERFACE),
    "an interface in a dict": with_state("collections", "OrderedDict", INTERFACE, b")R"),
    "an interface in a csr": with_state(*CSR, INTERFACE),
    "two states": in_dict(lambda p: p.name(*CONFIG).op(b")\x81").op(b"}b}b")),
    "an attribute of Python": with_state(*CONFIG, {"__class__": 1}),
    "a state of a tuple": with_state(*CONFIG, (None, {"model": "BPR"})),
    # Instructions that torch.save does not write.
    "INST": in_dict(lambda p: p.op(b"(ios\ngetcwd\n")),
    "OBJ": in_dict(lambda p: p.op(b"(").name("os", "getcwd").op(b"o")),
    "NEWOBJ_EX": in_dict(lambda p: p.name(*CONFIG).op(b")}\x92")),
    "EXT1": in_dict(lambda p: p.op(b"\x82\x01")),
    "EXT4": in_dict(lambda p: p.op(b"\x84\x01\0\0\0")),
    "PERSID": in_dict(lambda p: p.op(b"Pstorage\n")),
    "DUP": in_dict(lambda p: p.value("a").op(b"20")),
    "a buffer": in_dict(lambda p: p.op(b"\x97")),
    "a bytearray": in_dict(lambda p: p.op(b"\x96" + struct.pack("<Q", 2**62))),
    "text of escapes": in_dict(lambda p: p.op(b"S'\\x41'\n")),
    "a number in digits": in_dict(lambda p: p.op(b"L" + b"9" * 5000 + b"L\n")),
    "a number of 2 kB": in_dict(lambda p: p.value(1 << 16000)),
    "a text longer than the file": in_dict(lambda p: p.op(b"X" + struct.pack("<I", 2**31))),
    "half a character": in_dict(lambda p: p.op(b"X\x03\0\0\0\xed\xa0\xbd")),
    "an unknown instruction": in_dict(lambda p: p.op(b"\xff")),
    "another protocol": b"\x80\x05}.",
    "nothing": b"",
    "no end": b"\x80\x04}",
    "a value too few": b"\x80\x04}s.",
    "a mark too few": b"\x80\x04}u.",
    "a value too many": b"\x80\x04}}.",
    "more behind the end": b"\x80\x04}.}.",
    "a place never filled": b"\x80\x04h\x07.",
    # What is longer than the file.
    "laughs in tuples": laughs(b"(", b"t"),
    "laughs in lists": laughs(b"](", b"e"),
    "nested": nested(100_000),
    "nested in steps": nested_in_steps(20_000),
    "endless": endless(),
    "a dict with a tuple as key": in_dict(lambda p: p.op(b"}").value((1, 2)).value(1).op(b"s")),
    "a dict with a list as key": in_dict(lambda p: p.op(b"}]").value(1).op(b"s")),
    # Arrays.
    "an array of objects": array((1,), b"A" * 8, dtype("O8", 63)),
    "an array of fields": array((1,), b"A" * 8, lambda p: p.call("numpy", "dtype", "V8")),
    "an array of another length": array((1 << 40,), b"A" * 8, dtype("f8")),
    "an array without numbers, wide": array((0, 1 << 40), b"", dtype("f8")),
    "an array of a negative length": array((-1,), b"A" * 8, dtype("f8")),
    "an array of true lengths": array((True,), b"A" * 8, dtype("f8")),
    "an array of strange flags": array((1,), b"A" * 8, dtype("f8", 63)),
    "an array of unusual truth": array((2,), b"\x01\x02", dtype("b1")),
    "an array of another class": array((1,), b"A" * 8, dtype("f8"), "memmap"),
    "a matrix of one dimension": array((1,), b"A" * 8, dtype("f8"), "matrix"),
    "a csr out of its columns": compressed([7], [0, 1], (1, 3)),
    "a csr of negative columns": compressed([-7], [0, 1], (1, 3)),
    "a csr out of its numbers": compressed([1], [0, 9], (1, 3)),
    "a csr of falling rows": compressed([0, 1, 2], [0, 3, 1, 3], (3, 3)),
    "a csr of other rows": compressed([1], [0, 1], (9, 3)),
    "a csr of endless columns": compressed([1], [0, 1], (1, 1 << 50)),
    "a csr of one dimension": compressed([1], [0, 1], (1,)),
    # Tensors, whose storage holds four numbers.
    "a tensor longer than its storage": tensor(size=(5,)),
    "a stride out of the storage": tensor(stride=(4,)),
    "an offset out of the storage": tensor(offset=3),
    "a negative offset": tensor(offset=-1),
    "a negative size": tensor(size=(-2,)),
    "a negative stride": tensor(stride=(-1,)),
    "a stride too few": tensor(size=(2, 2)),
    "a size of text": tensor(size=("2",)),
    "a number spread over memory": tensor(size=(1 << 40,), stride=(0,)),
    "sizes whose product overflows": tensor(size=(1 << 32, 1 << 32), stride=(0, 0)),
    "a tensor without numbers, wide": tensor(size=(0, 1 << 50), stride=(1, 1)),
    "a storage of another length": tensor(count=9),
    "a storage of a negative length": tensor(count=-4),
    "a storage that is not there": tensor(key="7"),
    "a storage elsewhere": tensor(key="../data.pkl"),
    "a storage of no name": tensor(key=0),
    "a storage of another kind": tensor(kind=("torch", "UntypedStorage")),
    "a storage of a function": tensor(kind=("os", "system")),
    "a storage by another word": tensor(word="module"),
    "a storage of an unusual place": tensor(location="meta"),
    "a storage alone": in_dict(
        lambda p: p.op(b"(").value("storage").name("torch", "FloatStorage").op(b"tQ")
    ),
    "a storage of nothing": in_dict(lambda p: p.op(b"NQ")),
    "a tensor with hooks": in_dict(
        lambda p: p.name("torch._utils", "_rebuild_tensor_v2").op(b"(NNNN\x89}t").op(b"R")
    ),
}


def poisoned() -> dict[str, Any]:
    """Return what a file could change for the rest of the process."""
    classes = (Config, csr_matrix, np.ndarray, np.matrix, torch.Tensor, torch.Size)
    functions = (torch._utils._rebuild_tensor_v2, torch._utils._rebuild_parameter)
    return {
        **{str(one): dict(vars(one)) for one in classes},
        **{str(one): (one.__defaults__, dict(vars(one))) for one in functions},
    }


@pytest.mark.parametrize("read", [load_checkpoint, read_checkpoint])
@pytest.mark.parametrize("name", GADGETS)
def test_a_crafted_file_is_refused(tmp_path: Path, name: str, read: Callable[[Path], Any]) -> None:
    path = archive(tmp_path / "crafted.pth", GADGETS[name], {"0": bytes(16)})
    before = poisoned()
    tracemalloc.start()
    started = time.perf_counter()
    try:
        with pytest.raises(CheckpointError, match=r"crafted\.pth"):
            read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - started < 10
    assert peak < 5 * MIB + 500 * path.stat().st_size
    assert poisoned() == before


def test_the_tensor_that_the_others_are_made_from_is_read(tmp_path: Path) -> None:
    content = np.arange(4, dtype=np.float32).tobytes()
    path = archive(tmp_path / "right.pth", tensor(offset=1, stride=(2,)), {"0": content})
    found = load_checkpoint(path)["other_parameter"]
    assert torch.equal(found, torch.tensor([1.0, 3.0]))
    array_of = array((2,), np.array([1.5, 2.5]).tobytes(), dtype("f8"))
    found = load_checkpoint(archive(tmp_path / "array.pth", array_of))["other_parameter"]
    assert np.array_equal(found, [1.5, 2.5])


def saved(path: Path) -> Path:
    torch.save({"state_dict": {"weight": torch.zeros(1000)}}, path)
    return path


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as source:
        return {name: source.read(name) for name in source.namelist()}


def rewritten(path: Path, *parts: tuple[str, bytes], kind: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", kind) as target:
        for name, content in parts:
            target.writestr(name, content)
    return path


def compressed_archive(path: Path) -> None:
    rewritten(path, *members(saved(path)).items(), kind=zipfile.ZIP_DEFLATED)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def doubled_member(path: Path) -> None:
    found = list(members(saved(path)).items())
    rewritten(path, *found, found[0])


def two_folders(path: Path) -> None:
    rewritten(path, *members(saved(path)).items(), ("other/data.pkl", b"\x80\x04}."))


def prefixed(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04" + saved(path).read_bytes())


def overlapping(path: Path) -> None:
    """Let the directory say that two members share their bytes."""
    rewritten(path, ("a/data.pkl", b"\x80\x04}."), ("a/data/0", bytes(50)), ("a/data/1", bytes(50)))
    content = bytearray(path.read_bytes())
    first = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 1)
    second = content.index(b"PK\x01\x02", first + 1)
    content[second + 42 : second + 46] = content[first + 42 : first + 46]
    path.write_bytes(content)


def longer_than_the_file(path: Path) -> None:
    rewritten(path, ("a/data.pkl", b"\x80\x04}."))
    content = bytearray(path.read_bytes())
    place = content.index(b"PK\x01\x02")
    content[place + 20 : place + 28] = struct.pack("<II", 2**31, 2**31)
    path.write_bytes(content)


def damaged_storage(path: Path) -> None:
    content = bytearray(saved(path).read_bytes())
    with zipfile.ZipFile(io.BytesIO(content)) as source:
        info = next(one for one in source.infolist() if one.filename.endswith("data/0"))
    content[info.header_offset + 1000] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(saved(path).read_bytes()[:3000])


def without_pickle(path: Path) -> None:
    rewritten(path, ("a/data/0", bytes(50)))


def other_order(path: Path) -> None:
    rewritten(path, ("a/data.pkl", b"\x80\x04}."), ("a/byteorder", b"big"))


@pytest.mark.parametrize(
    "craft",
    [
        compressed_archive,
        doubled_member,
        two_folders,
        prefixed,
        overlapping,
        longer_than_the_file,
        damaged_storage,
        cut,
        without_pickle,
        other_order,
    ],
)
@pytest.mark.parametrize("read", [load_checkpoint, read_checkpoint])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_of_another_kind_is_refused(
    tmp_path: Path, craft: Callable[[Path], None], read: Callable[[Path], Any]
) -> None:
    path = tmp_path / "crafted.pth"
    craft(path)
    with pytest.raises(CheckpointError, match=r"crafted\.pth.* it (is|says|holds|was)"):
        read(path)
