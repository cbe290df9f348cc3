"""Settings that change nothing in a run, and that are said rather than refused.

Models of one comparison share their settings, so that what one of them reads may be given to all.
"""

from __future__ import annotations

from typing import Any

from recbole_margo.settings.evaluation import FILES


def without_effect(config: Any) -> list[str]:
    """Return a sentence for each setting that was given and changes nothing.

    Args:
        config: the config of a run.
    """
    given, said = config.external_config_dict, []
    modes = config["eval_args"]["mode"].values()
    if given.get("split_seed") is not None and config[FILES] and set(modes) <= {"full", "labeled"}:
        said.append(
            f"`split_seed` has no effect: files fix the split ({', '.join(config[FILES])}), and no "
            "candidates are drawn."
        )
    negatives = given.get("train_neg_sample_args") or {}
    draws = negatives != "None" and negatives.get("distribution", "uniform") != "none"
    if negatives and draws and not getattr(config.model_class, "uses_negatives", True):
        said.append(
            f"`train_neg_sample_args` has no effect: {config['model']} learns without negatives."
        )
    return said
