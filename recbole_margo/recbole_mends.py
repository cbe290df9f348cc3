"""Defects of RecBole's own sampler, evaluation and loaders, mended without changing its numbers.

`recbole_margo.compat` puts these in place; each takes what RecBole has and returns what replaces
it. Importing this module imports neither torch nor RecBole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_margo.errors import ConfigError, DataError


class ModuleWith(ModuleType):
    """Stands for a module in one of RecBole's, where some of its names are others."""

    def __init__(self, original: ModuleType, **names: Any) -> None:
        super().__init__(original.__name__)
        vars(self).update(names)
        self._original = original

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


def knows_all(sampler: Any) -> NDArray[np.bool_]:
    """Return which users know every item that a sampler draws from [U]."""
    known = sampler.used_ids
    if sampler.distribution == "popularity":
        drawn = set(sampler.prob)
        unknown = (len(drawn - items) for items in known)
    else:
        unknown = (sampler.item_num - 1 - len(items) for items in known)
    return np.fromiter((count == 0 for count in unknown), np.bool_, len(known))


def refuse_users_who_know_all(sampler: Any, users: Any) -> None:
    """Raise a `DataError` if one of users [*] is to get an item that the user does not know."""
    # Phases are shallow copies of one sampler, each with known items of its own.
    if getattr(sampler, "_full_of", None) is not sampler.used_ids:
        sampler._full_of, sampler._full = sampler.used_ids, knows_all(sampler)
    full = np.unique(np.asarray(users)[sampler._full[np.asarray(users)]])
    if not len(full):
        return
    dataset = sampler.datasets[0]
    # Popularity draws only what somebody has interacted with.
    drawn = len(sampler.prob) if sampler.distribution == "popularity" else sampler.item_num - 1
    tokens = [str(dataset.id2token(dataset.uid_field, user)) for user in full[:3]]
    more = ", ..." if len(full) > 3 else ""
    if dataset.benchmark_filename_list is None:
        remedy = f'set user_inter_num_interval: "[0,{drawn - 1}]", which leaves such users out'
    else:
        remedy = (
            f"take them out of {dataset.dataset_name}.{dataset.benchmark_filename_list[0]}.inter "
            "and the other parts"
        )
    if sampler.phase != "train":
        remedy += ", or rank all items: `mode: full` in `eval_args`"
    raise DataError(
        f"{len(full)} users know all {drawn} items that negatives are drawn from in the phase "
        f"{sampler.phase} ({', '.join(tokens)}{more}), so that no negative can be drawn for them: "
        f"{remedy}"
    )


def sampler_without_early_refusal(sampler: type[Any]) -> type[Any]:
    """Let RecBole's `Sampler` be made in any case, and refuse what it cannot draw.

    RecBole refuses the whole data set where a user knows every item, also for a full ranking and
    for models that draw no negatives; and it never ends where a user knows all that popularity
    draws.
    """
    get_used_ids, sample_by_user_ids = sampler.get_used_ids, sampler.sample_by_user_ids

    def get_used_ids_of_all(self: Any) -> Any:
        # The number of items serves nothing in there but the refusal.
        item_num, self.item_num = self.item_num, None
        try:
            return get_used_ids(self)
        finally:
            self.item_num = item_num

    def sample_or_refuse(self: Any, user_ids: Any, item_ids: Any, num: int) -> Any:
        refuse_users_who_know_all(self, user_ids)
        return sample_by_user_ids(self, user_ids, item_ids, num)

    sampler.get_used_ids = get_used_ids_of_all
    sampler.sample_by_user_ids = sample_or_refuse
    return sampler


READ_BYTES = 1 << 24
# Quotes, other ends of lines, and what one of pandas' parsers reads over.
NOT_PLAIN = (b'"', b"\r", b"\0", b"\xef\xbb\xbf")


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


def pandas_that_reads_fast(pandas: ModuleType) -> ModuleType:
    """Let RecBole read atomic files with pandas' parser in C where it reads the same.

    RecBole asks for the one in Python, which takes some ten times as long. Both read the same from
    a plain table; any other file is left to the one that RecBole asks for.
    """

    def read_csv(path: Any, **options: Any) -> Any:
        plain = {"delimiter", "usecols", "dtype", "encoding", "engine"}
        if (
            set(options) == plain
            and options["engine"] == "python"
            and options["encoding"] in (None, "utf-8")
            and _is_plain_table(path, options["delimiter"])
        ):
            try:
                # Numbers as the parser in Python reads them, to the last digit.
                return pandas.read_csv(
                    path, **{**options, "engine": "c"}, float_precision="high", low_memory=False
                )
            except Exception:  # noqa: S110  the other one says it in the words that RecBole knows
                pass
        return pandas.read_csv(path, **options)

    return ModuleWith(pandas, read_csv=read_csv)


def _is_plain_table(path: Any, separator: str) -> bool:
    """Tell whether all lines of a file have equally many fields, two or more, without quotes."""
    if not isinstance(separator, str) or len(separator) != 1 or not separator.isascii():
        return False
    try:
        with Path(path).open("rb") as file:
            expected = file.readline().count(separator.encode())
            if separator in '"\r\n' or not expected:
                return False
            file.seek(0)
            for lines in iter(lambda: file.readlines(READ_BYTES), []):
                content = b"".join(lines)
                if any(sign in content for sign in NOT_PLAIN):
                    return False
                signs = np.frombuffer(content, dtype=np.uint8)
                ends = np.cumsum(np.fromiter(map(len, lines), np.int64, len(lines)))
                places = np.flatnonzero(signs == ord(separator))
                fields = np.diff(np.searchsorted(places, ends), prepend=0)
                if (fields != expected).any():
                    return False
    except (OSError, TypeError, ValueError):
        return False
    return True


def full_sort_scores_of_everyone(full_sort_scores: Callable[..., Any]) -> Callable[..., Any]:
    """Let `full_sort_scores` answer for users who have no interaction in the test data.

    RecBole takes their history for none and fails, or leaves them out, so that the rows after
    theirs are other users'. Loaders of a sampled evaluation do as well as those of a full one.
    """

    def full_sort_scores_or_error(
        uid_series: Any, model: Any, test_data: Any, device: Any = None
    ) -> Any:
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
