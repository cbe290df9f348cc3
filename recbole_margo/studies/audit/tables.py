"""What MARGO learned and what the audit found, as tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from recbole_margo.report.table import NOTHING, Cell, Table, clean

TITLE_SIGNS = 40


def weights_table(statistics: Sequence[Mapping[str, Any]]) -> Table:
    """Return the weights of each run: mean, dispersion, entropy.

    Args:
        statistics: one entry per label and seed, see docs/audit.md.
    """
    rows = []
    for run in statistics:
        for number, part in enumerate(run["modalities"]):
            first = number == 0
            rows.append(
                _cells(
                    clean(run["label"]),
                    run["seed"],
                    clean(part["modality"]),
                    f"{part['count']:,} {run['rows']}",
                    fixed(part["mean"]),
                    fixed(part["std"]),
                    percent(part["share_decided"]),
                    fixed(run["entropy_bits"]) if first else "",
                    percent(run["relative_entropy"]) if first else "",
                )
            )
    headers = (
        "model",
        "seed",
        "modality",
        "weights of",
        "mean",
        "standard deviation",
        "above 0.9",
        "entropy (bits)",
        "of the largest entropy",
    )
    notes = (
        "Over items (DRAGON: users) with two modalities or more; with one the weight is 1 by "
        "definition. The entropy is a mean over them; the largest is log2 of the number of "
        "modalities that an item has.",
        "DRAGON has no item weights. Its user factors are shown as shares, |W| / sum of |W|, as in "
        "Figure 5 of MARGO's paper.",
    )
    return Table("Learned weights", headers, tuple(rows), notes)


def relations_table(relations: Sequence[Mapping[str, Any]]) -> Table:
    """Return the rank correlations of the weights.

    Args:
        relations: one entry per modality and other value.
    """
    rows = tuple(
        _cells(
            clean(one["modality"]),
            one["with"],
            signed(one["rho"]),
            interval(one["low"], one["high"], signed),
            f"{one['count']:,}",
        )
        for one in relations
    )
    notes = (
        "Spearman's rank correlation of an item's weight and the other value, with the 95 % "
        "interval of the bootstrap over items. With two modalities the rows of one mirror those of "
        f"the other where the value is the same. {NOTHING}: the value is the same for all items.",
    )
    headers = ("weight of", "with", "Spearman's ρ", "95 % interval", "items")
    return Table("What the weights go along with", headers, rows, notes)


def stability_table(stability: Sequence[Mapping[str, Any]]) -> Table:
    """Return how far the seeds agree.

    Args:
        stability: one entry per modality.
    """
    rows = tuple(
        _cells(clean(one["modality"]), one["seeds"], signed(one["mean"]), signed(one["smallest"]))
        for one in stability
    )
    headers = ("weight of", "seeds", "mean ρ", "smallest ρ")
    notes = (
        "Spearman's rank correlation of the items' weights of two seeds, over all pairs of seeds. "
        "Near 0 the seeds do not agree on which items weigh a modality more.",
    )
    return Table("Do the seeds agree?", headers, rows, notes)


def audit_table(audit: Mapping[str, Any]) -> Table:
    """Return how many items of each modality are surely less or more reliable than the average.

    Args:
        audit: the audit's summary, see docs/audit.md.
    """
    rows = tuple(
        _cells(
            clean(part["modality"]),
            f"{part['present']:,}",
            f"{part['ranked']:,}",
            fixed(part["average"]),
            percent(part["contradicted"]),
            signed(part["popularity_correlation"]),
            f"{part['surely_below']:,}",
            f"{part['suspect']:,}",
            f"{part['surely_above']:,}",
            f"{part['trusted']:,}",
        )
        for part in audit["modalities"]
    )
    headers = (
        "modality",
        "items that have it",
        "ranked",
        "average reliability",
        "average contradicted",
        "ρ with popularity",
        "surely below",
        "suspect",
        "surely above",
        "trusted",
    )
    notes = (
        f"Ranked are items with at least {audit['min_pairs']} training pairs"
        + (" and two modalities or more" if audit["ranked_by"] == "evidence" else "")
        + ". Surely below (above): the whole 95 % interval of the reliability is below (above) the "
        "average; of items that are average, 2.5 % each would be by chance. Suspect: surely below, "
        "and surely contradicted more often than the average. Trusted: the opposite.",
        "ρ with popularity: Spearman's rank correlation of an item's reliability and its training "
        "pairs. Far from 0, compare items with others of about as many pairs.",
    )
    return Table("The catalogue", headers, rows, notes)


def least_reliable_table(part: Mapping[str, Any], count: int) -> Table:
    """Return the least reliable items of a modality, for a terminal.

    Args:
        part: a modality of the audit's summary.
        count: items at most.
    """
    titled = any(row["title"] for row in part["least"])
    rows = []
    for row in part["least"][:count]:
        cells = [shorten(row["item"], TITLE_SIGNS)]
        cells += [shorten(row["title"], TITLE_SIGNS)] * titled
        cells += [
            str(row["pairs"]),
            fixed(row["reliability"]),
            interval(row["low"], row["high"], fixed),
            percent(row["contradicted"]),
            fixed(row["weight"]),
            "yes" if row["sure"] else "no",
        ]
        rows.append(_cells(*cells))
    headers = ("item", *(("title",) * titled), "pairs", "reliability", "95 % interval")
    headers += ("contradicted", "weight", "suspect")
    title = f"Least reliable {clean(part['modality'])} (average {fixed(part['average'])})"
    return Table(title, headers, tuple(rows))


def known(value: object) -> bool:
    """Return whether a value is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def fixed(value: Any) -> str:
    """Return a number with three decimals."""
    return f"{value:.3f}" if known(value) else NOTHING


def signed(value: Any) -> str:
    """Return a number with its sign and two decimals."""
    return f"{value:+.2f}" if known(value) else NOTHING


def percent(value: Any) -> str:
    """Return a share in percent."""
    return f"{100 * value:.1f} %" if known(value) else NOTHING


def interval(low: Any, high: Any, shown: Any) -> str:
    """Return an interval in brackets.

    Args:
        low: lower end.
        high: upper end.
        shown: makes a number a text.
    """
    return f"[{shown(low)}, {shown(high)}]" if known(low) and known(high) else NOTHING


def shorten(text: object, signs: int) -> str:
    """Return a text of others on one line, cut with an ellipsis.

    Args:
        text: anything.
        signs: the most it may have.
    """
    line = clean(text)
    return line if len(line) <= signs else f"{line[: signs - 1].rstrip()}…"


def _cells(*texts: object) -> tuple[Cell, ...]:
    return tuple(Cell(str(text)) for text in texts)
