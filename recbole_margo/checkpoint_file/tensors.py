"""Tensors, from records and the storages beside the pickle."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from recbole_margo.checkpoint_file.checks import cells, checked_shape, expect, is_call, is_count
from recbole_margo.checkpoint_file.opcodes import ABSENT, Call, Name, Outside, Pairs

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
        count = cells(sizes)
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
