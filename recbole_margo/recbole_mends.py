"""Defects of RecBole's own evaluation and loaders, mended without changing what it computes.

`recbole_margo.compat` puts these in place; each takes what RecBole has and returns what replaces
it. Importing this module imports neither torch nor RecBole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from recbole_margo.errors import ConfigError


def collector_of_plain_values(collector: type[Any]) -> type[Any]:
    """Let RecBole's `Collector` hold numbers and counters beside tensors.

    It moves all that it has collected to the CPU, also what has no device, and so fails for every
    metric that looks at the items of a ranking: ItemCoverage, GiniIndex, AveragePopularity, ...
    """
    get_data_struct = collector.get_data_struct

    def get_data_struct_of_all(self: Any) -> Any:
        held = self.data_struct
        plain = {
            name: value for name, value in held._data_dict.items() if not hasattr(value, "cpu")
        }
        for name in plain:
            del held[name]
        returned = get_data_struct(self)
        for name, value in plain.items():
            held.set(name, value)
            returned.set(name, value)
        return returned

    collector.get_data_struct = get_data_struct_of_all
    return collector


def save_with_generators_kept(save: Callable[..., None]) -> Callable[..., None]:
    """Let `save_split_dataloaders` give the loaders the generators back that it takes from them.

    Without them shuffling is not the one of the seed, and a run cannot be resumed.
    """

    def save_split_dataloaders(config: Any, dataloaders: Sequence[Any]) -> None:
        owners = [owner for loader in dataloaders for owner in (loader, loader.sampler)]
        kept = [(owner, getattr(owner, "generator", None)) for owner in owners]
        try:
            save(config, dataloaders)
        finally:
            for owner, generator in kept:
                owner.generator = generator

    return save_split_dataloaders


def full_sort_scores_of_everyone(full_sort_scores: Callable[..., Any]) -> Callable[..., Any]:
    """Let `full_sort_scores` answer for users who have no interaction in the test data.

    RecBole takes their history for none and fails, or leaves them out, so that the rows after
    theirs are other users'. Loaders of a sampled evaluation do as well as those of a full one.

    Args:
        full_sort_scores: RecBole's function, which `full_sort_topk` calls.
    """

    def full_sort_scores_or_error(
        uid_series: Any, model: Any, test_data: Any, device: Any = None
    ) -> Any:
        import numpy as np

        users = np.asarray(uid_series)
        part = test_data.dataset
        unknown = [user for user in users.tolist() if not 0 < user < part.user_num]
        if unknown:
            raise ConfigError(
                f"expected internal ids of users, 1 to {part.user_num - 1}, found {unknown[:5]}: "
                "`dataset.token2id(dataset.uid_field, tokens)` gives them"
            )
        if test_data.is_sequential:
            _check_one_row_each(users, part)
            return full_sort_scores(users, model, test_data, device)
        everyone = SimpleNamespace(
            dataset=part, is_sequential=False, uid2history_item=_Histories(test_data)
        )
        return full_sort_scores(users, model, everyone, device)

    return full_sort_scores_or_error


def _check_one_row_each(users: Any, part: Any) -> None:
    import numpy as np

    rows = np.bincount(part.inter_feat[part.uid_field].numpy(), minlength=part.user_num)[users]
    if (rows != 1).any():
        tokens = part.id2token(part.uid_field, users[rows != 1][:5])
        raise ConfigError(
            "a sequential model scores what follows a user's sequence in the test data: expected "
            f"one sequence for each user, found none or several for {', '.join(map(str, tokens))}: "
            "leave these users out, or split with `eval_args: {split: {LS: valid_and_test}}`"
        )


class _Histories:
    """The items that are masked for users, those without a test interaction among them."""

    def __init__(self, loader: Any) -> None:
        part = loader.dataset
        self._listed = getattr(loader, "uid2history_item", None)
        self._used: Any = getattr(loader._sampler, "used_ids", None)
        if self._used is None:
            raise ConfigError(
                "the test data know no history, so that nothing can be masked: evaluate with "
                "`eval_args: {mode: full}`"
            )
        self._positives: dict[int, set[int]] = {}
        pairs = (part.inter_feat[field].tolist() for field in (part.uid_field, part.iid_field))
        for user, item in zip(*pairs, strict=True):
            self._positives.setdefault(user, set()).add(item)

    def __getitem__(self, users: Sequence[Any]) -> list[Any]:
        """Return the ids of the masked items of each of some users."""
        return [self._of(int(user)) for user in users]

    def _of(self, user: int) -> Any:
        import torch

        positives = self._positives.get(user, set())
        if self._listed is not None and positives:
            return self._listed[user]
        return torch.tensor(sorted(self._used[user] - positives), dtype=torch.int64)
