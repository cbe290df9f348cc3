"""NumPy's numbers and arrays and SciPy's matrices, from records."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import sparse

from recbole_margo.checkpoint_file.checks import cells, checked_shape, expect, is_call
from recbole_margo.checkpoint_file.opcodes import ABSENT, Call, Name, Pairs

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
    """Return an array or a NumPy matrix of numbers.

    Args:
        record: what the file says.
        limit: the most that a dimension can be.
    """
    shape, stored_dtype, by_column, content = _state_of_array(record, limit)
    dtype = number_dtype(stored_dtype)
    flat = _numbers(raw_bytes(content), dtype, cells(shape))
    found = flat.reshape(shape, order="F" if by_column else "C").copy(order="K")
    kind = record.arguments[0]
    name = str(kind) if isinstance(kind, Name) else ""
    expect(name in ("numpy.ndarray", "numpy.matrix"), "an array of an unusual class")
    if name == "numpy.ndarray":
        return found
    expect(found.ndim == 2, "a matrix that has not two dimensions")
    return found.view(np.matrix)


def _attributes(record: Call) -> tuple[dict[Any, Any], Any]:
    """Return the attributes and the shape of a sparse matrix."""
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
    """Return the lists in an array of lists [count]."""
    shape, dtype, _, content = _state_of_array(record, count)
    expect(dtype_code(dtype).endswith(OBJECT) and shape == (count,), "an unusual sparse matrix")
    lists = isinstance(content, list) and all(type(row) is list for row in content)
    expect(lists and len(content) == count, "a sparse matrix of uneven rows")
    return list(content)
