"""Tensors, NumPy's numbers and arrays, and SciPy's matrices, from records."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from recbole_margo.checkpoint_file.opcodes import (
    ABSENT,
    Call,
    Name,
    Outside,
    Pairs,
    checked_shape,
    expect,
    is_call,
    is_count,
)

DENSE = "torch._utils._rebuild_tensor_v2"
PARAMETER = "torch._utils._rebuild_parameter"
SPARSE = "torch._utils._rebuild_sparse_tensor"
LAYOUT = "torch.serialization._get_layout"
STORAGES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
    "torch.ComplexFloatStorage": torch.complex64,
    "torch.ComplexDoubleStorage": torch.complex128,
}
DTYPES = {str(dtype): dtype for dtype in STORAGES.values()}
DEVICES = ("cpu", "cuda", "mps", "xpu")
LOCATION = re.compile(rf"({'|'.join(DEVICES)})(:\d{{1,3}})?")
# NumPy 1 and NumPy 2 keep these in different modules, and each reads files of the other.
SCALAR, RECONSTRUCT = (
    tuple(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core"))
    for name in ("scalar", "_reconstruct")
)
COMPRESSED = {
    f"scipy.sparse.{prefix}{name}.{name}_matrix": kind
    for name, kind in (("csr", sparse.csr_matrix), ("csc", sparse.csc_matrix))
    for prefix in ("", "_")
}
LIL = ("scipy.sparse._lil.lil_matrix", "scipy.sparse.lil.lil_matrix")
ENCODE = "_codecs.encode"
NUMBERS = re.compile(r"b1|[iu][1248]|f[248]|c(8|16)")
OBJECT = "O8"


class Tensors:
    """Makes the tensors of a checkpoint.

    Args:
        storage_bytes: gives the bytes of a storage by its key.
        limit: length of the file, which no size exceeds.
        map_location: where the tensors go, as in `torch.load`.
    """

    def __init__(
        self, storage_bytes: Callable[[str], Tensor], limit: int, map_location: Any = None
    ) -> None:
        self._storage_bytes, self._limit, self._map_location = storage_bytes, limit, map_location
        self._storages: dict[str, tuple[Any, Tensor]] = {}

    def dense(self, record: Call) -> Tensor:
        """Return a tensor that lies within its storage."""
        expect(record.state is ABSENT and not record.pairs, "a tensor with a state")
        arguments = record.arguments
        expect(len(arguments) in (6, 7), "an unusual tensor")
        storage, offset, size, stride, has_gradient, hooks = arguments[:6]
        metadata = arguments[6] if len(arguments) == 7 else None
        expect(metadata is None or isinstance(metadata, Pairs), "an unusual tensor")
        expect(_no_hooks(hooks) and type(has_gradient) is bool, "a tensor with hooks")
        flat = self._storage(storage)
        sizes, strides = checked_shape(size, self._limit), checked_shape(stride, self._limit)
        expect(len(sizes) == len(strides), "a tensor without strides")
        expect(is_count(offset, len(flat)), "a tensor that begins outside of its storage")
        count = math.prod(sizes)
        last = offset + sum((part - 1) * step for part, step in zip(sizes, strides, strict=True))
        inside = count == 0 or (last < len(flat) and count <= len(flat))
        expect(inside, "a tensor that reaches out of its storage")
        found = flat.as_strided(sizes, strides, offset)
        return found.requires_grad_() if has_gradient and found.is_floating_point() else found

    def _storage(self, record: Any) -> Tensor:
        expect(isinstance(record, Outside), "a tensor without a storage")
        identity = record.identity
        expect(isinstance(identity, tuple) and len(identity) == 5, "an unusual storage")
        word, kind, key, location, count = identity
        expect(word == "storage" and isinstance(kind, Name), "an unusual storage")
        expect(str(kind) in STORAGES, f"a storage of the unusual kind {kind}")
        dtype = STORAGES[str(kind)]
        expect(isinstance(key, str) and is_count(count, self._limit), "an unusual storage")
        place = isinstance(location, str) and LOCATION.fullmatch(location) is not None
        expect(place, "a storage of an unusual place")
        if key not in self._storages:
            self._storages[key] = (dtype, self._read(key, location, dtype))
        stored_dtype, flat = self._storages[key]
        expect(stored_dtype == dtype and len(flat) == count, "a storage of another size")
        return flat

    def _read(self, key: str, location: str, dtype: torch.dtype) -> Tensor:
        raw = self._storage_bytes(key)
        expect(len(raw) % dtype.itemsize == 0, "a storage of another size")
        if dtype == torch.bool:
            expect(not bool((raw > 1).any()), "truth values that are neither true nor false")
        flat = raw.view(dtype)
        target = self._map_location
        if callable(target):
            moved = target(flat.untyped_storage(), location)
            if moved is None:
                return flat
            return torch.empty(0, dtype=dtype, device=moved.device).set_(moved)
        if isinstance(target, dict):
            target = target.get(location, location)
        elif target is None:
            kind = location.partition(":")[0]
            target = location if kind == "cuda" and torch.cuda.is_available() else "cpu"
        return flat.to(target)

    def parameter(self, record: Call) -> torch.nn.Parameter:
        """Return a parameter."""
        expect(record.state is ABSENT and len(record.arguments) == 3, "an unusual parameter")
        tensor, has_gradient, hooks = record.arguments
        expect(is_call(tensor, DENSE) and _no_hooks(hooks), "an unusual parameter")
        data = self.dense(tensor).detach()
        gradient = type(has_gradient) is bool and (data.is_floating_point() or not has_gradient)
        expect(gradient, "a parameter that cannot have a gradient")
        return torch.nn.Parameter(data, requires_grad=has_gradient)

    def sparse(self, record: Call) -> Tensor:
        """Return a sparse tensor of coordinates, which are within it."""
        expect(record.state is ABSENT and len(record.arguments) == 2, "an unusual sparse tensor")
        layout, data = record.arguments
        coordinates = is_call(layout, LAYOUT) and layout.arguments == ("torch.sparse_coo",)
        expect(coordinates, "a sparse tensor of an unusual layout")
        expect(isinstance(data, tuple) and len(data) in (3, 4), "an unusual sparse tensor")
        expect(is_call(data[0], DENSE) and is_call(data[1], DENSE), "an unusual sparse tensor")
        indices, values, size = self.dense(data[0]), self.dense(data[1]), self.size(data[2])
        shaped = indices.dim() == 2 and indices.dtype == torch.int64 and values.dim() == 1
        expect(shaped and tuple(indices.shape) == (len(size), len(values)), "half a sparse tensor")
        for row, length in zip(indices, size, strict=True):
            inside = len(row) == 0 or (int(row.min()) >= 0 and int(row.max()) < length)
            expect(inside, "a sparse tensor with an index outside of it")
        found = torch.sparse_coo_tensor(indices, values, size, check_invariants=True)
        return found.coalesce() if len(data) == 4 and data[3] is True else found

    def size(self, record: Any) -> torch.Size:
        """Return a size, which is written as a tuple or as `torch.Size`."""
        if is_call(record, "torch.Size"):
            expect(record.state is ABSENT and len(record.arguments) == 1, "an unusual size")
            record = record.arguments[0]
        return torch.Size(checked_shape(record, self._limit))


def device(record: Call) -> torch.device:
    """Return a device."""
    kind, *index = record.arguments if record.arguments else (None,)
    known = kind in DEVICES if isinstance(kind, str) else False
    expect(known and record.state is ABSENT and len(index) < 2, "an unusual device")
    expect(all(is_count(one, 999) for one in index), "an unusual device")
    return torch.device(":".join(map(str, [kind, *index])))


def _no_hooks(record: Any) -> bool:
    return is_call(record, "collections.OrderedDict") and not (
        record.pairs or record.arguments or record.state is not ABSENT
    )


def raw_bytes(record: Any) -> bytes:
    """Return bytes; protocol 2 writes them as the encoding of a text."""
    if is_call(record, ENCODE):
        expect(record.state is ABSENT and not record.pairs, "bytes with a state")
        expect(len(record.arguments) == 2 and record.arguments[1] == "latin1", "encoded text")
        text = record.arguments[0]
        expect(isinstance(text, str) and max(map(ord, text), default=0) < 256, "encoded text")
        return str(text).encode("latin-1")
    expect(isinstance(record, bytes), "something else where bytes should be")
    return bytes(record)


def dtype_code(record: Any) -> str:
    """Return the code of a NumPy dtype, with its order of bytes."""
    expect(is_call(record, "numpy.dtype") and not record.pairs, "no dtype where one should be")
    arguments, state = record.arguments, record.state
    expect(len(arguments) == 3 and arguments[1:] == (False, True), "an unusual dtype")
    code = arguments[0]
    expect(isinstance(code, str) and len(code) < 4, "an unusual dtype")
    order = "|"
    if state is not ABSENT:
        expect(isinstance(state, tuple) and len(state) == 8, "an unusual dtype")
        order = state[1]
        flags = 63 if code == OBJECT else 0
        expect(state == (3, order, None, None, None, -1, -1, flags), "an unusual dtype")
        expect(order in ("<", ">", "=", "|"), "an unusual dtype")
    expect(code == OBJECT or NUMBERS.fullmatch(code) is not None, f"a dtype {code}")
    return str(order + code)


def number_dtype(record: Any) -> np.dtype[Any]:
    """Return a NumPy dtype of numbers."""
    code = dtype_code(record)
    expect(not code.endswith(OBJECT), "objects where numbers should be")
    return np.dtype(code)


def _numbers(content: bytes, dtype: np.dtype[Any], count: int) -> np.ndarray[Any, np.dtype[Any]]:
    expect(len(content) == count * dtype.itemsize, "an array that is not as long as its shape")
    if dtype.kind == "b":
        expect(not content.strip(b"\0\1"), "truth values that are neither true nor false")
    return np.frombuffer(content, dtype)


def scalar(record: Call) -> Any:
    """Return one of NumPy's numbers."""
    expect(len(record.arguments) == 2 and record.state is ABSENT, "an unusual number")
    dtype = number_dtype(record.arguments[0])
    return _numbers(raw_bytes(record.arguments[1]), dtype, 1)[0]


def _state_of_array(record: Any, limit: int) -> tuple[tuple[int, ...], Any, bool, Any]:
    """Return shape, dtype, whether columns come first, and content of an array's record."""
    expect(is_call(record, *RECONSTRUCT) and not record.pairs, "no array where one should be")
    expect(len(record.arguments) == 3 and record.arguments[1] == (0,), "an unusual array")
    expect(isinstance(record.state, tuple) and len(record.state) == 5, "an unusual array")
    version, shape, dtype, by_column, content = record.state
    expect(version == 1 and type(by_column) is bool, "an unusual array")
    return checked_shape(shape, limit), dtype, by_column, content


def array(record: Call, limit: int) -> Any:
    """Return an array or a NumPy matrix of numbers."""
    shape, stored_dtype, by_column, content = _state_of_array(record, limit)
    dtype = number_dtype(stored_dtype)
    flat = _numbers(raw_bytes(content), dtype, math.prod(shape))
    found = flat.reshape(shape, order="F" if by_column else "C").copy(order="K")
    kind = record.arguments[0]
    name = str(kind) if isinstance(kind, Name) else ""
    expect(name in ("numpy.ndarray", "numpy.matrix"), "an array of an unusual class")
    if name == "numpy.ndarray":
        return found
    expect(found.ndim == 2, "a matrix that has not two dimensions")
    return found.view(np.matrix)


def _attributes(record: Call) -> tuple[dict[Any, Any], Any]:
    made = record.new and record.arguments == () and not record.pairs
    expect(made and isinstance(record.state, Pairs), "an unusual sparse matrix")
    names = [name for name, _ in record.state.pairs]
    plain = all(isinstance(name, str) for name in names)
    expect(plain and len(set(names)) == len(names), "an unusual sparse matrix")
    attributes = dict(record.state.pairs)
    expect("_shape" in attributes, "a sparse matrix without a shape")
    return attributes, attributes["_shape"]


def compressed_matrix(record: Call, limit: int) -> Any:
    """Return a matrix of compressed rows or columns, whose indices are within it."""
    attributes, stored_shape = _attributes(record)
    shape = checked_shape(stored_shape, limit)
    names = ("data", "indices", "indptr")
    expect(all(is_call(attributes.get(name), *RECONSTRUCT) for name in names), "half a matrix")
    data, indices, indptr = (array(attributes[name], limit) for name in names)
    kind = COMPRESSED[str(record.target)]
    expect(len(shape) == 2 and {a.ndim for a in (data, indices, indptr)} == {1}, "half a matrix")
    expect(indices.dtype.kind == indptr.dtype.kind == "i", "a sparse matrix of unusual indices")
    rows, columns = shape if kind is sparse.csr_matrix else shape[::-1]
    expect(len(indptr) == rows + 1 and len(data) == len(indices), "half a sparse matrix")
    expect(int(indptr[0]) == 0 and int(indptr[-1]) == len(indices), "half a sparse matrix")
    expect(bool((indptr[1:] >= indptr[:-1]).all()), "a sparse matrix whose rows overlap")
    inside = len(indices) == 0 or (int(indices.min()) >= 0 and int(indices.max()) < columns)
    expect(inside, "a sparse matrix with an index outside of it")
    return kind((data, indices, indptr), shape=shape)


def lil_matrix(record: Call, limit: int) -> Any:
    """Return a matrix of lists, whose indices are within it and in order."""
    attributes, stored_shape = _attributes(record)
    shape = checked_shape(stored_shape, limit)
    expect(len(shape) == 2, "a sparse matrix that has not two dimensions")
    rows, data = (_lists(attributes.get(name), shape[0]) for name in ("rows", "data"))
    for columns, values in zip(rows, data, strict=True):
        expect(len(columns) == len(values), "a sparse matrix of uneven rows")
        expect(all(type(column) is int for column in columns), "an index that is no integer")
        inside = all(0 <= one < other for one, other in pairwise([*columns, shape[1]]))
        expect(inside, "an index outside of its matrix")
        expect(all(type(value) in (int, float, bool) for value in values), "no number in a matrix")
    found = sparse.lil_matrix(shape, dtype=number_dtype(attributes.get("dtype")))
    for row, (columns, values) in enumerate(zip(rows, data, strict=True)):
        found.rows[row], found.data[row] = list(columns), list(values)
    return found


def _lists(record: Any, count: int) -> list[list[Any]]:
    shape, dtype, _, content = _state_of_array(record, count)
    expect(dtype_code(dtype).endswith(OBJECT) and shape == (count,), "an unusual sparse matrix")
    lists = isinstance(content, list) and all(type(row) is list for row in content)
    expect(lists and len(content) == count, "a sparse matrix of uneven rows")
    return list(content)
