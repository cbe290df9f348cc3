"""Lists for many users, block by block, in one process or in a pool."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, overload

from recbole_margo.errors import ConfigError
from recbole_margo.serving.bundle_files import open_bundle
from recbole_margo.serving.recommender import Recommendations, Recommender

# Users whose lists are held at once.
USERS_AT_ONCE = 4096


@dataclass(frozen=True)
class ListRequest:
    """What is asked for each user; arguments as of `Recommender.recommend`."""

    n: int
    exclude_seen: bool
    allow: tuple[str, ...] | None
    deny: tuple[str, ...] | None
    on_unknown: Literal["error", "popular"]

    def lists(self, recommender: Recommender, users: Sequence[str]) -> list[Recommendations]:
        """Return the lists of some users."""
        return recommender.recommend(
            users,
            self.n,
            exclude_seen=self.exclude_seen,
            allow=self.allow,
            deny=self.deny,
            on_unknown=self.on_unknown,
        )


@dataclass(frozen=True)
class UserBlocks(Sequence[list[str]]):
    """Users in blocks of equal size, cut when they are asked for."""

    users: Sequence[str]
    size: int

    def __len__(self) -> int:
        return -(-len(self.users) // self.size)

    @overload
    def __getitem__(self, block: int) -> list[str]: ...
    @overload
    def __getitem__(self, block: slice) -> list[list[str]]: ...
    def __getitem__(self, block: int | slice) -> list[str] | list[list[str]]:
        if isinstance(block, slice):
            return [self[each] for each in range(*block.indices(len(self)))]
        if not 0 <= block < len(self):
            raise IndexError(block)
        return list(self.users[block * self.size : (block + 1) * self.size])


@dataclass(frozen=True)
class _BlockTask:
    """What a process of a pool calls; it opens the bundle once."""

    bundle: Path
    request: ListRequest

    def __call__(self, users: list[str]) -> list[Recommendations]:
        return self.request.lists(_opened(self.bundle), users)


def lists_by_block(
    recommender: Recommender,
    users: Sequence[str],
    request: ListRequest,
    bundle: Path | None = None,
    workers: int | None = None,
    cluster: str | None = None,
) -> Iterator[list[Recommendations]]:
    """Yield the lists of users in their order, block by block.

    Args:
        recommender: answers in this process.
        bundle: the folder that the processes of a pool open.
        workers: processes, as of `Pool`.
        cluster: address of a Ray cluster whose machines have the bundle at the same path.

    Raises:
        ConfigError: there is no bundle for the processes, or their number makes no sense.
        UnknownIdError: a user or an item is not known.
    """
    blocks = UserBlocks(users, USERS_AT_ONCE)
    if cluster is None and workers in (None, 1):
        for block in blocks:
            yield request.lists(recommender, block)
        return
    if bundle is None:
        raise ConfigError(
            "--workers and --cluster: expected --bundle, which every process opens, found --run: "
            "make a bundle first, `recbole-margo bundle --run RUN --output_dir DIR`"
        )
    # Needs torch, which serving does not.
    from recbole_margo.studies.runs.pool import Pool

    # Blocks that were finished before their turn.
    waiting: dict[int, list[Recommendations]] = {}
    turn = 0
    task = _BlockTask(bundle.resolve(), request)
    for index, lists in Pool(workers, cluster).run(task, blocks):
        waiting[index] = lists
        while turn in waiting:
            yield waiting.pop(turn)
            turn += 1


@lru_cache(maxsize=1)
def _opened(bundle: Path) -> Recommender:
    return Recommender(open_bundle(bundle))
