from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from recbole.data.dataloader import FullSortEvalDataLoader

from recbole_margo.data.evaluation_lists import ItemsByUser, use_compact_lists
from recbole_margo.data.protocol import load_dataset, prepare_loaders, recbole_loaders
from recbole_margo.testing import make_config, random_world

LISTS = [None, torch.tensor([3, 1]), torch.tensor([], dtype=torch.int64), torch.tensor([2])]


def test_a_user_is_read_like_in_an_array_of_tensors():
    lists = ItemsByUser(LISTS)
    assert len(lists) == 4
    assert lists[1].tolist() == [3, 1] and lists[np.int64(3)].tolist() == [2]
    assert lists[torch.tensor(3)].tolist() == [2]
    assert lists[0].tolist() == lists[2].tolist() == []
    assert lists[0].dtype == torch.int64
    for users in (
        [3, 1],
        (3, 1),
        np.array([3, 1]),
        torch.tensor([3, 1]),
        list(torch.tensor([3, 1])),
    ):
        assert [items.tolist() for items in lists[users]] == [[2], [3, 1]]


def test_a_user_beyond_the_last_is_an_index_error():
    with pytest.raises(IndexError):
        ItemsByUser(LISTS)[4]


def test_items_of_several_users_one_after_the_other():
    items, counts = ItemsByUser(LISTS).concatenated(torch.tensor([3, 2, 1, 3]))
    assert items.tolist() == [2, 3, 1, 2]
    assert counts.tolist() == [1, 0, 2, 1]


def test_nobody_has_an_item():
    for lists in (ItemsByUser([]), ItemsByUser([None, None])):
        items, counts = lists.concatenated(torch.arange(len(lists)))
        assert items.tolist() == [] and counts.tolist() == [0] * len(lists)


@pytest.mark.parametrize("protocol", ["recbole", "mmrec"])
def test_loaders_yield_the_batches_of_recboles_own(tmp_path, protocol):
    random_world().write(tmp_path)
    config = make_config(tmp_path, "MARGO", eval_protocol=protocol, eval_batch_size=60)
    theirs = recbole_loaders(config, load_dataset(config), config.model_class)
    ours = prepare_loaders(config, load_dataset(config), config.model_class)
    assert isinstance(ours[1].uid2positive_item, ItemsByUser)
    assert not isinstance(theirs[1].uid2positive_item, ItemsByUser)
    for mine, other in zip(ours[1:], theirs[1:], strict=True):
        batches = list(zip(mine, other, strict=True))
        assert len(batches) > 1
        for (users, history, *positives), (their_users, their_history, *others) in batches:
            assert torch.equal(users["user_id"], their_users["user_id"])
            for found, expected in zip(
                (*history, *positives), (*their_history, *others), strict=True
            ):
                assert torch.equal(found, expected)


def test_a_loader_can_be_stored_and_made_compact_again(tmp_path):
    random_world().write(tmp_path)
    config = make_config(tmp_path, "MARGO")
    loader = prepare_loaders(config, load_dataset(config), config.model_class)[1]
    lists = pickle.loads(pickle.dumps(loader.uid2history_item))  # noqa: S301 - our own
    use_compact_lists(loader)
    user = loader.uid_list[0].item()
    assert torch.equal(lists[user], loader.uid2history_item[user])


def test_loaders_of_sampled_candidates_stay(tmp_path):
    random_world().write(tmp_path)
    mode = {"valid": "uni3", "test": "uni3"}
    config = make_config(tmp_path, "MARGO", eval_args={"mode": mode})
    for loader in prepare_loaders(config, load_dataset(config), config.model_class)[1:]:
        assert not isinstance(loader, FullSortEvalDataLoader)
        use_compact_lists(loader)


def test_loaders_that_recbole_stores_hold_its_tensors(tmp_path):
    random_world().write(tmp_path)
    config = make_config(
        tmp_path, "MARGO", save_dataloaders=True, checkpoint_dir=str(tmp_path / "stored")
    )
    prepare_loaders(config, load_dataset(config), config.model_class)
    (stored,) = (tmp_path / "stored").glob("*.pth")
    pairs = pickle.loads(stored.read_bytes())  # noqa: S301 - our own
    valid = next(loader for loader, _ in pairs if isinstance(loader, FullSortEvalDataLoader))
    user = int(valid.uid_list[0])
    assert isinstance(valid.uid2positive_item[user], torch.Tensor)
    assert isinstance(valid.uid2history_item[user], torch.Tensor)
