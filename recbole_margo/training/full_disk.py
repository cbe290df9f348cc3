"""A run whose files find no space on the disk: what is said, and how it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recbole_margo.errors import TrainingError
from recbole_margo.store.writing import FULL

# How torch says that its archive cannot be written; the reason of the system is not in it.
ARCHIVE_WRITER = ("inline_container", "PytorchStreamWriter", "PyTorchFileWriter")


@contextmanager
def saying_that_the_disk_is_full(path: Path, run_folder: Path) -> Iterator[None]:
    """Turn the errors of writing to a full disk into one of ours.

    Args:
        path: the file or folder that is written, for the message.
        run_folder: of the model's run, in the folder of a run or of a seed of a comparison.

    Raises:
        TrainingError: there is no space.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if not is_full(error):
            raise
        above = run_folder.parent
        root = above.parent if above.name.startswith("seed-") else above
        where = getattr(error, "filename", None) or path
        raise TrainingError(
            f"{where} cannot be written: the disk is full, or a limit on files is reached. What "
            f"was saved before is whole: free some space, then continue with --resume={root}"
        ) from error


def is_full(error: BaseException) -> bool:
    """Return whether an error is that of writing to a full disk.

    Args:
        error: of the system, or of torch.
    """
    if isinstance(error, OSError):
        return error.errno in FULL
    return isinstance(error, RuntimeError) and any(name in str(error) for name in ARCHIVE_WRITER)
