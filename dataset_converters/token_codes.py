"""Tokens as numbers, so that tens of millions of interactions fit into memory."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dataset_converters.errors import DataError

# What pandas, and RecBole through it, reads as "no value"; such a token could never be read back.
MISSING = frozenset(
    {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"}
    | {"<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"}
)
WHOLE = re.compile(r"([+-]?\d+)(?:\.0*)?")
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")


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
