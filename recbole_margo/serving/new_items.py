"""Users and items that the model was not trained with, from what is known of them."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recbole_margo.errors import BundleError, ConfigError, DataError, FeatureError
from recbole_margo.nn.new_items import Content, prior_weights
from recbole_margo.serving.bundle import Bundle, ModalityReliability
from recbole_margo.store.feature_files import read_stored_features
from recbole_margo.store.manifest import EncoderRecord, FeatureManifest

# Item token -> modality -> row of raw features.
NewFeatures = Mapping[str, Mapping[str, Sequence[float] | NDArray[Any]]]
SUFFIX = ".features.json"
NAMED = 5
# The ridge of the map, in units of the mean variance of its inputs.
RIDGE = 1e-2


def fold_in_map(
    users: NDArray[np.float32],
    items: NDArray[np.float32],
    history: sp.csr_matrix,
    ridge: float = RIDGE,
) -> NDArray[np.float32]:
    r"""Learn how the trained users follow from the items that they know.

    .. math:: A = (H^T H + \rho I)^{-1} H^T U, \qquad h_u = \frac{1}{|N_u|} \sum_{i \in N_u} e_i

    A model that makes users from items by linear propagation has such a map; of others this is the
    best linear one. It costs one pass over the interactions and needs no training.

    Args:
        users: user table [U, K].
        items: item table [I, K].
        history: binary training interactions [U, I].
        ridge: rho, in units of the mean diagonal of H^T H.

    Returns:
        A [K, K].
    """
    width = items.shape[1]
    counts = np.diff(history.indptr)
    known = counts > 0
    means = (history @ items)[known].astype(np.float64) / counts[known, None]
    gram, cross = means.T @ means, means.T @ users[known]
    penalty = ridge * (np.trace(gram) / width or 1.0)
    return np.linalg.solve(gram + penalty * np.eye(width), cross).astype(np.float32)


def fold_in_users(bundle: Bundle, histories: Sequence[NDArray[np.integer]]) -> NDArray[np.float32]:
    """Return user rows [B, K] for users with these rows of items [B], of each at least one."""
    means = np.stack([bundle.items[history].mean(axis=0) for history in histories])
    return means @ bundle.fold_in


def read_new_features(
    folder: Path,
) -> tuple[dict[str, dict[str, NDArray[Any]]], dict[str, EncoderRecord | None]]:
    """Read the features of items from a folder in the project's feature format.

    Returns:
        Rows by item token and modality; and what made them by modality, None where it is not known.

    Raises:
        FeatureError: there is no such file or several, or one is damaged.
    """
    found = sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []
    if len(found) != 1:
        raise FeatureError(
            f"{folder}: expected one file NAME{SUFFIX} with the matrices that it names, found "
            f"{len(found)}: write features as the converters and `recbole-margo encode` do "
            "(docs/data.md)"
        )
    rows: dict[str, dict[str, NDArray[Any]]] = {}
    try:
        manifest = FeatureManifest.read(folder, found[0].name.removesuffix(SUFFIX))
        for modality, entry in manifest.modalities.items():
            matrix, tokens = read_stored_features(folder, entry)
            for token, row in zip(tokens, matrix, strict=True):
                rows.setdefault(token, {})[modality] = row
    except DataError as error:
        raise FeatureError(str(error)) from error
    return rows, {modality: entry.encoder for modality, entry in manifest.modalities.items()}


def check_encoders(bundle: Bundle, found: Mapping[str, EncoderRecord | None], where: Path) -> None:
    """Refuse features of another space than those of the trained items; warn if nothing says so.

    Args:
        found: what made the new features, by modality.

    Raises:
        BundleError: the bundle has no contents.
        FeatureError: another encoder made them, or one fitted to other texts.
    """
    content, dataset = _content_of(bundle), bundle.facts.dataset
    names = content.path.modalities
    known = dict(zip(names, content.encoders or (None,) * len(names), strict=True))
    for modality in [each for each in names if each in found]:
        expected, made_by = known[modality], found[modality]
        if expected is None or made_by is None:
            logging.getLogger().warning(
                "%s, %s: nothing says %s; features of another encoder, or of another fit of it, "
                "give wrong recommendations without any error.",
                where,
                modality,
                "with what the new items were encoded"
                if made_by is None
                else "in the bundle with what the trained items were encoded",
            )
        elif expected.fingerprint != made_by.fingerprint:
            differs = (
                f"another {made_by.name}, fitted to other texts or of other weights"
                if made_by.name == expected.name
                else made_by.name
            )
            raise FeatureError(
                f"{where}, {modality}: expected features by the {expected.name} of the trained "
                f"items, found {differs}: encode the new items with `recbole-margo encode "
                f"--dataset {dataset} --modality {modality} --source ITEMS --output_dir NEW`"
            )


def with_new_items(
    bundle: Bundle, features: NewFeatures, titles: Mapping[str, str] | None = None
) -> Bundle:
    r"""Return a bundle that has new items too, whose rows follow from their contents.

    The row of a new item is what the model computes for an item without interactions and with an
    embedding of its own that is zero, see `ContentPath`. Where the model weighs modalities, a new
    item has the mean weights of the trained items that have the same modalities, and no q-value:

    .. math:: w_{new}^m = \mathrm{mean}_{i : M_i = M_{new}} w_i^m

    Args:
        features: raw features by item token and modality.

    Raises:
        BundleError: the bundle is of an earlier version, or contents do not enter the scores.
        FeatureError: a row does not fit, a modality is unknown, or an item has none.
        ConfigError: an item is there already, or none is given.
    """
    content = _content_of(bundle)
    tokens = tuple(features)
    _check_tokens(bundle, tokens)
    raw, present = _matrices(content, features)
    reliability, weights = bundle.reliability, None
    if reliability is not None:
        weights = prior_weights(reliability.weights, reliability.present, present)
        unknown = np.full(weights.shape, np.nan, np.float32)
        reliability = ModalityReliability(
            np.concatenate([reliability.weights, weights]),
            np.concatenate([reliability.present, present]),
            np.concatenate([reliability.scores, unknown]),
            np.concatenate([reliability.q_values, unknown]),
            reliability.fitting,
        )
    rows = content.item_rows(raw, present, weights)
    given = titles or {}
    return dataclasses.replace(
        bundle,
        item_ids=(*bundle.item_ids, *tokens),
        titles=(*bundle.titles, *(given.get(token, "") for token in tokens)),
        items=np.concatenate([bundle.items, rows]),
        reliability=reliability,
    )


def _content_of(bundle: Bundle) -> Content:
    if bundle.content is None:
        model = bundle.facts.model
        raise BundleError(
            f"expected a bundle from which new items can be scored, found one of {model} without a "
            f"path from contents to scores: either an earlier version made it, then {REMAKE}; or "
            f"the features were reduced (`feature_reduction`); or {model} scores an item by what "
            "it learned from the item's own interactions alone, as BM3 and RecBole's models do: "
            "train a model whose scores depend on contents, such as MARGO"
        )
    return bundle.content


REMAKE = "make it again with `recbole-margo bundle`"


def _check_tokens(bundle: Bundle, tokens: Sequence[str]) -> None:
    if not tokens:
        raise ConfigError("expected new items with their features, found none")
    wrong = [token for token in tokens if not isinstance(token, str) or not token]
    if wrong:
        raise ConfigError(f"expected raw ids of items, each a text, found {wrong[0]!r:.80}")
    there = set(bundle.item_ids)
    again = [token for token in tokens if token in there]
    if again:
        named = ", ".join(repr(token)[:80] for token in again[:NAMED])
        more = f" and {len(again) - NAMED} more" if len(again) > NAMED else ""
        raise ConfigError(
            f"expected items that the bundle does not have yet, found {named}{more}: an item is "
            "changed by training anew"
        )


def _matrices(
    content: Content, features: NewFeatures
) -> tuple[list[NDArray[np.float32]], NDArray[np.bool_]]:
    """Return raw features [B, D_m] per modality, and which item has which [B, M]."""
    names, widths = content.path.modalities, content.widths
    matrices = [np.zeros((len(features), width), np.float32) for width in widths]
    for place, (token, rows) in enumerate(features.items()):
        if not isinstance(rows, Mapping):
            raise FeatureError(
                f"item {token!r:.80}: expected a row by modality, found {rows!r:.80}"
            )
        for modality, row in rows.items():
            if modality not in names:
                raise FeatureError(
                    f"item {token!r:.80}: expected modalities among {', '.join(names)}, found "
                    f"{modality!r:.80}"
                )
            m = names.index(modality)
            matrices[m][place] = _row(row, widths[m], f"item {token!r:.80}, {modality}")
    present = np.stack([matrix.any(axis=1) for matrix in matrices], axis=1)
    for token, has in zip(features, present, strict=True):
        if not has.any():
            raise FeatureError(
                f"item {token!r:.80}: expected a row of at least one of {', '.join(names)}, found "
                "none: nothing can be said of an item without contents"
            )
    return matrices, present


def _row(row: Any, width: int, where: str) -> NDArray[np.float32]:
    try:
        found = np.asarray(row, np.float32)
    except (TypeError, ValueError) as error:
        raise FeatureError(f"{where}: expected {width} numbers, found {row!r:.80}") from error
    if found.shape != (width,):
        raise FeatureError(
            f"{where}: expected {width} columns, as the model was trained with, found shape "
            f"{found.shape}: encode it as the other items were"
        )
    if not np.isfinite(found).all():
        raise FeatureError(f"{where}: expected finite numbers, found NaN or infinity")
    return found
