"""RecBole's sampler where a user knows every item: refused when such a user needs a negative.

RecBole refuses the whole data set when the sampler is made, also for a full ranking and for models
that draw no negatives, and would never end where the items that it draws by popularity are known.
This module imports nothing of RecBole, so that it can be mended while it is imported.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_margo.errors import DataError


def knows_all(sampler: Any) -> NDArray[np.bool_]:
    """Return which users know every item that a sampler draws from [U].

    Args:
        sampler: RecBole's `Sampler` of one phase.
    """
    known = sampler.used_ids
    if sampler.distribution == "popularity":
        drawn = set(sampler.prob)
        unknown = (len(drawn - items) for items in known)
    else:
        unknown = (sampler.item_num - 1 - len(items) for items in known)
    return np.fromiter((count == 0 for count in unknown), np.bool_, len(known))


def refuse_users_who_know_all(sampler: Any, users: Any) -> None:
    """Raise a `DataError` if a user of some is to get an item that the user does not know.

    Args:
        sampler: RecBole's `Sampler` of one phase.
        users: ids of the users [*].
    """
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
    """Let RecBole's `Sampler` be made in any case, and refuse what it cannot draw."""
    get_used_ids, sample_by_user_ids = sampler.get_used_ids, sampler.sample_by_user_ids

    def get_used_ids_of_all(self: Any) -> Any:
        # The number of items serves nothing in there but the refusal.
        item_num, self.item_num = self.item_num, None
        try:
            return get_used_ids(self)
        finally:
            self.item_num = item_num

    def sample_where_there_is_something(self: Any, user_ids: Any, item_ids: Any, num: int) -> Any:
        refuse_users_who_know_all(self, user_ids)
        return sample_by_user_ids(self, user_ids, item_ids, num)

    sampler.get_used_ids = get_used_ids_of_all
    sampler.sample_by_user_ids = sample_where_there_is_something
    return sampler
