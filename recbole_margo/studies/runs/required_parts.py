"""What a study needs to be evaluated on is looked for before anything is trained."""

from __future__ import annotations

from recbole_margo.config import Config
from recbole_margo.errors import ConfigError
from recbole_margo.report.evaluated_parts import PART_NAMES
from recbole_margo.run import load_split


def require_part(config: Config, part: str, study: str) -> None:
    """Refuse a study on data whose split leaves a part empty that it cannot do without.

    Args:
        config: the config of one of its runs.
        part: `valid` or `test`.
        study: what it is called, with its article.

    Raises:
        ConfigError: if no interaction falls into the part, or validation is switched off.
    """
    name = PART_NAMES[part]
    if part == "valid" and config["eval_step"] < 1:
        raise ConfigError(
            f"{study} needs validation: `eval_step` must be at least 1, found {config['eval_step']}"
        )
    sizes = dict(zip(("train", *PART_NAMES), map(_size, load_split(config)), strict=True))
    if sizes[part]:
        return
    found = " / ".join(map(str, sizes.values()))
    files = config["benchmark_filename"]
    how = f"the files {', '.join(files)}" if files else f"`eval_args`, {config['eval_args']}"
    raise ConfigError(
        f"{study} needs a {name} part: {how} leave no interaction for it, found {found} (train / "
        "valid / test); choose a split that does"
    )


def _size(loader: object) -> int:
    return len(loader._dataset)  # type: ignore[attr-defined]
