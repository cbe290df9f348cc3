"""What an encoding run did."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

SHOWN = 5


@dataclass(frozen=True)
class EncodingReport:
    """Counts of one run, and which items miss the modality and why.

    Attributes:
        dataset: its name.
        modality: the modality that was written.
        encoder: what encoded it.
        source: where the raw content was found.
        items: items of the dataset.
        encoded: items that were encoded now.
        reused: items whose content was encoded before, in an earlier run or for another item.
        unreadable: item -> why its content could not be used.
        without_source: items of the dataset for which the source has nothing.
        empty_vectors: items whose vector is zero, such as texts that share no word with others.
        unknown: items of the source that the dataset does not have.
        rows: items that have the modality now.
        dimension: columns of the matrix.
        seconds: time that encoding took.
    """

    dataset: str
    modality: str
    encoder: str
    source: str
    items: int
    encoded: int
    reused: int
    unreadable: dict[str, str]
    without_source: int
    empty_vectors: int
    unknown: int
    rows: int
    dimension: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        """Return the report as lines for a terminal."""
        missing = self.items - self.rows
        lines = [
            f"encoder        {self.encoder}",
            f"source         {self.source}",
            f"matrix         {self.rows:,} rows, {self.dimension:,} columns",
            f"items          {self.items:,}: {self.rows:,} have {self.modality}, {missing:,} miss "
            f"it ({self.rows / self.items:.1%} covered)",
            f"encoded now    {self.encoded:,} in {self.seconds:.1f} s; {self.reused:,} had "
            "known content",
        ]
        if self.without_source:
            lines.append(f"missing        {self.without_source:,} items have no source")
        if self.unreadable:
            lines.append(f"missing        {len(self.unreadable):,} items cannot be read:")
            shown = list(self.unreadable.items())[:SHOWN]
            lines += [f"                 {item}: {reason}" for item, reason in shown]
            if len(self.unreadable) > SHOWN:
                lines.append(f"                 ... and {len(self.unreadable) - SHOWN:,} more")
        if self.empty_vectors:
            lines.append(
                f"missing        {self.empty_vectors:,} items have a vector of zeros, such as texts"
                " that share no word with another"
            )
        if self.unknown:
            lines.append(
                f"left out       {self.unknown:,} items of the source are not in the dataset"
            )
        return "\n".join(lines)
