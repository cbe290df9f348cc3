"""The request of an encoding run, which is also its command line, and its report."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recbole_margo.command_line import columns_option, option
from recbole_margo.errors import ConfigError
from recbole_margo.store.feature_files import MODALITY_NAME
from recbole_margo.store.text_space import TFIDF

SHOWN = 5
KINDS = ("text", "image", "audio")
COLOR_TEXTURE = "color-texture"
KIND_OF_ENCODER = {TFIDF: "text", COLOR_TEXTURE: "image"}
DEFAULT_ENCODERS = {"text": TFIDF, "image": COLOR_TEXTURE}


@dataclass(frozen=True)
class ItemColumns:
    """How a table of raw content is read; None: guessed, and UTF-8.

    Attributes:
        contents: columns of text, or the one of file names.
    """

    item_id: str | None = None
    contents: Sequence[str] | None = None
    encoding: str | None = None


@dataclass(frozen=True)
class EncodingRequest:
    """One modality of one dataset, and what it is made of."""

    dataset: str = option("name of the dataset")
    modality: str = option("name of the modality to write, such as image")
    source: Path | None = option(
        "folder or table with the raw content (what the converter left)", None, metavar="PATH"
    )
    encoder: str | None = option(
        "encoder, see below (tfidf or color-texture)", None, metavar="NAME"
    )
    kind: str | None = option(
        "kind of the content (follows from encoder or modality)", None, choices=KINDS
    )
    data_path: Path = option("folder of all datasets (dataset)", Path("dataset"), metavar="DIR")
    item_id: str | None = option("column of item ids in a table (guessed)", None, metavar="COLUMN")
    text_columns: Sequence[str] | None = columns_option(
        "columns of text in a table (guessed)", "A,B"
    )
    path_column: str | None = option(
        "column of file names in a table (guessed)", None, metavar="COLUMN"
    )
    encoding: str | None = option("of a table, such as latin-1 (default: utf-8)", None)
    batch_size: int | None = option("items a batch (the encoder's own)", None, metavar="N")
    device: str | None = option(
        "device of torch, such as cpu or cuda:0 (a GPU where there is one)", None
    )
    dimension: int = option("most columns of tfidf", 128, metavar="D")
    output_dir: Path | None = option(
        "encode new items, those of --source, as those of the dataset were, into this folder for "
        "`add_items`; the dataset stays as it is",
        None,
        metavar="DIR",
    )
    overwrite: bool = option("replace a modality that was not made by this command", False)

    def __post_init__(self) -> None:
        """Raise a `ConfigError` if values are impossible or contradict each other; read nothing."""
        if not MODALITY_NAME.fullmatch(self.modality):
            raise ConfigError(
                "--modality: expected letters, digits, '_' and '-', the first a letter, found "
                f"{self.modality!r}."
            )
        for flag, value in (("--batch_size", self.batch_size), ("--dimension", self.dimension)):
            if value is not None and value < 1:
                raise ConfigError(f"{flag}: expected at least 1, found {value}.")
        wanted = KIND_OF_ENCODER.get(self.encoder or "")
        if wanted and self.kind not in (None, wanted):
            raise ConfigError(
                f"--encoder {self.encoder}: expected --kind {wanted}, found {self.kind}."
            )
        self._check_encoder_name()
        if self.source is not None and not self.source.exists():
            raise ConfigError(
                f"--source: expected a folder or a table, found that {self.source} does not exist."
            )
        if self.encoding is not None and (self.source is None or self.source.is_dir()):
            raise ConfigError(
                f"--encoding: expected a table with --source, found {self.source or 'none'}. "
                "Files of single texts are read as UTF-8."
            )
        if self.output_dir is not None and self.source is None:
            raise ConfigError(
                "--output_dir: expected a folder or a table of new items with --source, found none."
            )

    def _check_encoder_name(self) -> None:
        given = (self.encoder or "").lower().replace("_", "-")
        near = difflib.get_close_matches(given, KIND_OF_ENCODER, 1, 0.8)
        if near and self.encoder != near[0] and not Path(self.encoder or "").is_dir():
            raise ConfigError(
                f"--encoder: expected {', '.join(KIND_OF_ENCODER)} or the name or folder of a "
                f"model, found {self.encoder!r}: did you mean {near[0]}?"
            )

    @property
    def columns_of_items(self) -> ItemColumns:
        """How the table of the source is read."""
        contents = self.text_columns or ([self.path_column] if self.path_column else None)
        return ItemColumns(self.item_id, contents, self.encoding)

    def chosen_kind(self) -> str:
        """Return the kind of the raw content; a `ConfigError` if it follows from nothing."""
        kind = self.kind or KIND_OF_ENCODER.get(self.encoder or "") or self.modality
        if kind not in KINDS:
            raise ConfigError(
                f"--kind: expected one of {', '.join(KINDS)}, which the modality "
                f"{self.modality!r} does not say. Give --kind."
            )
        return kind

    def chosen_encoder(self) -> str:
        """Return the name of the encoder; a `ConfigError` if none works without a download."""
        kind = self.chosen_kind()
        encoder = self.encoder or DEFAULT_ENCODERS.get(kind)
        if encoder is None:
            raise ConfigError(
                f"--encoder: expected the name or folder of a model for {kind}, found none. For "
                "example: --encoder laion/clap-htsat-unfused"
            )
        return encoder


@dataclass(frozen=True)
class EncodingReport:
    """Counts of one run, and which items miss the modality and why.

    Attributes:
        reused: items whose content was encoded before, in an earlier run or for another item.
        unreadable: item -> why its content could not be used.
        without_source: items of the dataset for which the source has nothing.
        empty_vectors: items whose vector is zero, such as texts that share no word with others.
        unknown: items of the source that the dataset does not have.
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
                rest = len(self.unreadable) - SHOWN
                file = f"{self.dataset}.{self.modality}.encoding.json"
                lines.append(f"                 ... and {rest:,} more, all in {file}")
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
