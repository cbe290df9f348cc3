"""Cells of a table as ids and as texts, and ids as numbers, so that many fit into memory."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_margo.errors import DataError

# What pandas, and RecBole through it, reads as "no value"; such a token could never be read back.
MISSING = frozenset(
    {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"}
    | {"<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"}
)
WHOLE = re.compile(r"([+-]?\d+)(?:\.0*)?")
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
# Half of a character beyond U+FFFF, as text that was cut in its middle has it.
SURROGATES = re.compile("[\ud800-\udfff]")


class TokenCodes:
    """Numbers tokens from 0 in the order of their first appearance."""

    def __init__(self) -> None:
        self._code_of: dict[str, int] = {}

    def encode(self, tokens: pd.Series) -> NDArray[np.int32]:
        """Return the codes [E] of tokens [E]; -1 where there is none (see `MISSING`).

        Args:
            tokens: text, or values whose text is the token; space around it does not count.
        """
        local, unique = pd.factorize(tokens)
        codes = np.full(len(unique) + 1, -1, dtype=np.int32)  # the last is for local == -1
        for position, value in enumerate(unique):
            token = str(value).strip()
            if token not in MISSING:
                codes[position] = self._code_of.setdefault(token, len(self._code_of))
        return codes[local]

    @property
    def tokens(self) -> list[str]:
        """All tokens, by code."""
        return list(self._code_of)


def clean_ids(tokens: list[str], where: str) -> list[str]:
    """Undo what spreadsheets and data frames do to ids: 12 that became 12.0.

    Args:
        tokens: distinct ids.
        where: file and column, for the message.

    Returns:
        The ids in the same order; whole numbers without a fraction if all ids are whole numbers.

    Raises:
        DataError: an id spans lines, or the ids are numbers with fractions.
    """
    for token in tokens:
        # RecBole's files are lines of fields; a quote that was never closed ends here too.
        if "\t" in token or len(token.splitlines()) != 1:
            raise DataError(
                f"{where}: expected ids without tabs and line ends, found {token[:80]!r}. Repair "
                "the file: often a quote is opened and not closed."
            )
    if not all(NUMBER.fullmatch(token) for token in tokens):
        return tokens
    whole = [WHOLE.fullmatch(token) for token in tokens]
    fraction = next((token for token, match in zip(tokens, whole, strict=True) if not match), None)
    if fraction is not None:
        raise DataError(
            f"{where}: expected ids, found numbers such as {fraction!r}. Name the "
            "column that holds the ids, or save it as text."
        )
    if not any("." in token for token in tokens):
        return tokens
    return [match.group(1) for match in whole if match]


def text_of_cell(value: Any) -> str:
    """Return the text of a cell: empty for no value, the joined parts of a list."""
    if isinstance(value, str):
        text = whole_characters(value.strip())
        return "" if text in MISSING else text
    if isinstance(value, list | tuple | np.ndarray):
        return " ".join(filter(None, map(text_of_cell, value)))
    if isinstance(value, dict):
        return text_of_cell(list(value.values()))
    return "" if value is None or pd.isna(value) else str(value)


def is_broken(text: str) -> bool:
    """Tell whether a text holds half a character, which no file can."""
    return not text.isascii() and SURROGATES.search(text) is not None


def whole_characters(text: str) -> str:
    """Return a text that can be written: halves of a character joined, or replaced by U+FFFD."""
    if not is_broken(text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
