"""Ten thousand damaged pickles of real checkpoints: each is read as permitted values or refused."""

from __future__ import annotations

import pickle
import pickletools
import random
import sys
import time
import tracemalloc
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from recbole.config import Config
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.trainer import Trainer
from recbole.utils import get_model
from scipy.sparse import csc_matrix, csr_matrix, lil_matrix

from recbole_margo.checkpoint_file.arrays import Tensors
from recbole_margo.checkpoint_file.opcodes import RefusalError
from recbole_margo.checkpoint_file.reading import StoredConfig, values_of
from recbole_margo.testing import prepare, random_world

CASES, SEED = 10_000, 20_261
STORAGE = 200_000  # bytes that the tensors' storages have at most
PLAIN = (type(None), bool, int, float, str, bytes, torch.Size, torch.device, torch.dtype)
ARRAYS = (np.generic, np.ndarray, csr_matrix, csc_matrix, lil_matrix, torch.Tensor)


def pickle_in(path: Path) -> tuple[bytes, dict[str, bytes]]:
    """Return the pickle and the storages of a checkpoint."""
    with zipfile.ZipFile(path) as source:
        found = {name.partition("/")[2]: source.read(name) for name in source.namelist()}
    storages = {k.removeprefix("data/"): v for k, v in found.items() if k.startswith("data/")}
    return found["data.pkl"], storages


def of_recbole(folder: Path) -> Path:
    """Write a checkpoint with RecBole's trainer, of a model that keeps all kinds of matrices."""
    (folder / "toy").mkdir()
    rows = [f"u{user}\ti{(user * step) % 8}" for user in range(12) for step in (1, 2, 3, 5, 7)]
    text = "\n".join(["user_id:token\titem_id:token", *dict.fromkeys(rows)])
    (folder / "toy/toy.inter").write_text(text + "\n", encoding="utf-8")
    settings = {"data_path": str(folder), "checkpoint_dir": str(folder), "use_gpu": False}
    config = Config(model="BPR", dataset="toy", config_dict={**settings, "embedding_size": 4})
    from recbole.data import create_dataset

    model = get_model("BPR")(config, create_dataset(config))
    dense = np.array([[0.0, 1.5, 0.0], [2.0, 0.0, 0.5]], dtype=np.float32)
    model.kept = {
        "csr": csr_matrix(dense),
        "csc": csc_matrix(dense),
        "lil": lil_matrix(dense),
        "matrix": np.asmatrix(dense),
        "array": dense.T,
        "sparse": torch.tensor(dense).to_sparse(),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "lists": defaultdict(list, {1: [2, 3]}),
        "number": np.float64(0.5),
    }
    model.other_parameter_name = ["kept"]
    trainer = Trainer(config, model)
    loss = model.user_embedding.weight.sum() + model.item_embedding.weight.sum()
    loss.backward()
    trainer.optimizer.step()
    trainer._save_checkpoint(0, verbose=False)
    return Path(trainer.saved_model_file)


def of_ours(folder: Path) -> Path:
    experiment = prepare(
        random_world().write(folder), "MARGO", epochs=1, checkpoint_dir=str(folder / "saved")
    )
    trainer = experiment.trainer()
    trainer.fit(*experiment.loaders[:2], verbose=False)
    return Path(trainer.last_model_file)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[bytes, dict[str, bytes]]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["pytest"])
        patch.chdir(tmp_path_factory.mktemp("work"))
        files = [make(tmp_path_factory.mktemp("world")) for make in (of_recbole, of_ours)]
    # The shapes are in the rest of RecBole's file, which is short without the settings.
    whole = torch.load(files[0], weights_only=False)
    del whole["config"]
    files.append(files[0].with_name("parts.pth"))
    torch.save(whole, files[-1], pickle_protocol=4)
    return [pickle_in(path) for path in files]


FOREIGN = (b"cos\nsystem\n", b"cbuiltins\neval\n", b"cnumpy\nndarray\n", b"ctorch\nSize\n")
INSERTED = (
    *FOREIGN,
    *(b"0", b"1", b"2", b"(", b")", b"R", b"\x81", b"\x92", b"b", b"s", b"u", b"a", b"e", b"t"),
    *(b"N", b"\x88", b"]", b"}", b"\x8f", b"\x91", b"\x85", b"\x86", b"\x87", b"\x93", b"\x94"),
    *(b"Q", b"P0\n", b"\x82\x01", b"o", b"ios\nsystem\n", b"I-1\n", b"K\xff", b"J\xff\xff\xff\xff"),
    *(pickle.dumps(one, 2)[2:-1] for one in (2**62, -(2**62), "shape", b"x" * 9, (1, 2), 1e300)),
)


def instructions(pickled: bytes) -> list[bytes]:
    places = [place for _, _, place in pickletools.genops(pickled)] + [len(pickled)]
    return [pickled[start:end] for start, end in pairwise(places)]


def mutated(pickled: bytes, parts: list[bytes], chance: random.Random) -> bytes:
    """Return a pickle with a few bytes or instructions changed."""
    if chance.random() < 0.4:
        changed = bytearray(pickled)
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        return bytes(changed)
    new = list(parts)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        place = chance.randrange(2, len(new) - 1)
        action = chance.randrange(5)
        if action == 0:
            del new[place]
        elif action == 1:
            new.insert(place, chance.choice(INSERTED))
        elif action == 2:
            new[place] = chance.choice(INSERTED)
        elif action == 3:
            other = chance.randrange(2, len(new) - 1)
            new[place], new[other] = new[other], new[place]
        else:
            new.insert(place, new[chance.randrange(2, len(new) - 1)])
    return b"".join(new)


def assert_permitted(value: Any, seen: set[int]) -> None:
    """Raise unless a value consists of what a checkpoint may hold."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if type(value) in PLAIN or isinstance(value, (Enum, torch.device)):
        return
    if isinstance(value, ARRAYS):
        dtype = getattr(value, "dtype", None)
        assert isinstance(dtype, torch.dtype) or dtype.kind in "biufc"
        size = value.untyped_storage().nbytes() if is_dense(value) else 0
        assert size <= STORAGE
        return
    if isinstance(value, StoredConfig):
        value = value.attributes
    if type(value) in (dict, OrderedDict, defaultdict):
        assert type(value) is not defaultdict or value.default_factory is list
        for key, part in value.items():
            assert type(key) in PLAIN
            assert_permitted(part, seen)
        return
    if isinstance(value, type):
        assert value is yaml.FullLoader or issubclass(value, AbstractRecommender)
        return
    assert type(value) in (list, tuple), type(value)
    for part in value:
        assert_permitted(part, seen)


def is_dense(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.layout == torch.strided


def read(pickled: bytes, storages: dict[str, bytes]) -> Any:
    limit = len(pickled) + sum(map(len, storages.values()))

    def storage_bytes(key: str) -> torch.Tensor:
        if key not in storages:
            raise RefusalError("names a storage that it does not hold")
        return torch.frombuffer(bytearray(storages[key]), dtype=torch.uint8)

    return values_of(pickled, Tensors(storage_bytes, limit), limit)


def of_the_process() -> dict[str, Any]:
    """Return what a file could change for the rest of the process."""
    classes = (Config, csr_matrix, lil_matrix, np.ndarray, np.matrix, torch.Tensor, OrderedDict)
    rebuilds: list[Callable[..., Any]] = [
        value for name, value in vars(torch._utils).items() if name.startswith("_rebuild")
    ]
    return {
        "classes": {str(one): dict(vars(one)) for one in classes},
        "functions": {str(one): one.__defaults__ for one in rebuilds},
        "random": (random.getstate(), torch.get_rng_state().sum().item()),
        "modules": {name for name in sys.modules if not name.startswith("recbole.model.")},
    }


def test_damaged_pickles_are_values_or_refusals(
    originals: list[tuple[bytes, dict[str, bytes]]],
) -> None:
    sources = [(pickled, instructions(pickled), storages) for pickled, storages in originals]
    for pickled, _, storages in sources:
        assert_permitted(read(pickled, storages), set())
    chance = random.Random(SEED)  # noqa: S311
    before = of_the_process()
    counts = {"read": 0, "refused": 0}
    slowest = 0.0
    for case in range(CASES):
        # One in ten of each whole file, the others of the parts.
        pickled, parts, storages = sources[min(case % 10, 2)]
        damaged = mutated(pickled, parts, chance)
        started = time.perf_counter()
        try:
            found = read(damaged, storages)
        except RefusalError:
            counts["refused"] += 1
        else:
            assert_permitted(found, set())
            counts["read"] += 1
        slowest = max(slowest, time.perf_counter() - started)
    assert of_the_process() == before
    assert slowest < 5
    # A few hundred are left as they were or changed in a text or number.
    assert counts["read"] > CASES // 50, counts
    assert counts["refused"] > CASES // 4, counts


def test_damaged_pickles_take_little_memory(
    originals: list[tuple[bytes, dict[str, bytes]]],
) -> None:
    chance = random.Random(SEED + 1)  # noqa: S311
    for pickled, storages in originals:
        parts = instructions(pickled)
        for _ in range(150):
            damaged = mutated(pickled, parts, chance)
            tracemalloc.start()
            try:
                read(damaged, storages)
            except RefusalError:
                pass
            finally:
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
            assert peak < 500 * len(damaged)
