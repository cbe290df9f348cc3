from __future__ import annotations

import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from recbole_margo.checkpoint_file.schema import CHECKPOINT_FORMAT, RandomStates
from recbole_margo.config import Config
from recbole_margo.errors import CheckpointError
from recbole_margo.testing import make_config, prepare, random_world
from recbole_margo.training.checkpoint import id_maps, read_checkpoint, write_checkpoint


class Foreign:
    """Leaves a file behind when a pickle of it is loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "deep" / "state.pth"
    state = {"format": CHECKPOINT_FORMAT, "values": (1, 2.5, "x", None, True)}
    write_checkpoint(path, {**state, "tensor": torch.arange(3)})
    found = read_checkpoint(path)
    assert torch.equal(found.pop("tensor"), torch.arange(3))
    assert found == state


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "state.pth"
    write_checkpoint(path, {"format": 1, "epoch": 1})

    def torn(state, file):
        Path(file).write_bytes(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(path, {"format": 1, "epoch": 2})
    monkeypatch.undo()
    assert read_checkpoint(path)["epoch"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["state.pth"]


def test_a_foreign_pickle_is_refused_and_never_run(tmp_path):
    trace = tmp_path / "trace"
    for number, content in enumerate(
        (
            pickle.dumps(Foreign(trace)),
            pickle.dumps({"format": 1, "extra": Foreign(trace)}),
        )
    ):
        path = tmp_path / f"{number}.pth"
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="cannot be loaded safely"):
            read_checkpoint(path)
    torch.save({"format": 1, "extra": Foreign(trace)}, tmp_path / "torch.pth")
    with pytest.raises(CheckpointError, match="cannot be loaded safely"):
        read_checkpoint(tmp_path / "torch.pth")
    assert not trace.exists()


def test_a_missing_a_damaged_and_a_foreign_file_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no checkpoint .*absent\.pth"):
        read_checkpoint(tmp_path / "absent.pth")
    whole = tmp_path / "whole.pth"
    write_checkpoint(whole, {"format": 1, "tensor": torch.zeros(1000)})
    (tmp_path / "damaged.pth").write_bytes(whole.read_bytes()[:500])
    with pytest.raises(CheckpointError, match=r"damaged\.pth cannot be loaded"):
        read_checkpoint(tmp_path / "damaged.pth")
    torch.save({"state_dict": {}}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="names no format"):
        read_checkpoint(tmp_path / "other.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="names no format"):
        read_checkpoint(tmp_path / "list.pth")


def test_a_newer_format_asks_for_an_upgrade(tmp_path):
    write_checkpoint(tmp_path / "new.pth", {"format": CHECKPOINT_FORMAT + 1})
    with pytest.raises(CheckpointError, match="upgrade recbole-margo"):
        read_checkpoint(tmp_path / "new.pth")


def test_a_config_is_rebuilt_from_plain_values(tmp_path):
    root = random_world().write(tmp_path)
    config = make_config(root, "MARGO", alpha=0.25, modalities=["text"], eval_protocol="mmrec")
    values = Config.as_plain(config)
    torch.save(values, tmp_path / "config.pth")
    values = torch.load(tmp_path / "config.pth", weights_only=True)

    rebuilt = Config.from_plain(values)

    assert rebuilt.final_config_dict.keys() == config.final_config_dict.keys()
    for key, value in config.final_config_dict.items():
        assert rebuilt[key] == value, key


def test_values_that_a_model_filled_in_are_stored(tmp_path):
    experiment = prepare(random_world().write(tmp_path), "MARGO")
    values = Config.as_plain(experiment.config)
    assert values["eval_batch_size"] == 1024 * 16
    assert values["interaction_layers"] == 2


def test_id_maps_hold_the_tokens_by_internal_id(tmp_path):
    experiment = prepare(random_world().write(tmp_path), "MARGO")
    maps = id_maps(experiment.dataset)
    assert maps == {"user_tokens": experiment.user_tokens, "item_tokens": experiment.item_tokens}
    assert maps["item_tokens"][0] == "[PAD]"


def draw(loader) -> list[float]:
    return [
        random.random(),  # noqa: S311
        random.gauss(0, 1),
        np.random.random(),
        np.random.normal(),
        torch.rand(1).item(),
        torch.rand(1, generator=loader.generator).item(),
    ]


def test_random_states_come_back(tmp_path):
    loader = prepare(random_world().write(tmp_path), "MARGO").loaders[0]
    draw(loader)  # leaves a second normal number waiting in Python and NumPy
    torch.save(vars(RandomStates.of(loader)), tmp_path / "random.pth")
    expected = draw(loader), draw(loader)
    torch.manual_seed(5), np.random.seed(5), random.seed(5), loader.generator.manual_seed(5)

    RandomStates(**torch.load(tmp_path / "random.pth", weights_only=True)).restore(loader)

    assert (draw(loader), draw(loader)) == expected
