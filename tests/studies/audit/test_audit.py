"""The catalogue audit of tiny MARGOs: sums, missing modalities, order, contents, relations."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from made_up_audit import made_audit, made_audit_result, made_result
from PIL import Image

from recbole_margo.errors import DataError
from recbole_margo.evidence.pair_evidence import PairEvidence
from recbole_margo.studies.audit.catalogue import CatalogueAudit
from recbole_margo.studies.audit.item_contents import ItemContents
from recbole_margo.studies.audit.report import audit_csv
from recbole_margo.studies.audit.result import AuditSettings, feature_norms
from recbole_margo.testing import MISSING, Experiment, World, prepare, random_world

RESAMPLES = 200


def randomized(root: Path, world: World, **settings: object) -> Experiment:
    built = prepare(world.write(root), "MARGO", **settings)
    built.randomize()
    built.model.eval()
    return built


def audit_of(*built: Experiment) -> CatalogueAudit:
    models = [one.model for one in built]
    return CatalogueAudit.of_models(models, built[0].dataset, negatives=6, resamples=RESAMPLES)


@pytest.mark.parametrize("missing", list(MISSING))
def test_an_audit_sums_the_pairs_of_each_item(tmp_path: Path, missing: str) -> None:
    world = random_world().without(MISSING[missing])
    built = randomized(tmp_path, world)
    audit = audit_of(built)
    found = PairEvidence.of_models([built.model], 6, seed=0)
    assert audit.items.tolist() == built.item_tokens[1:]
    for place, token in enumerate(audit.items):
        users = {user for user, item in world.splits["train"] if item == token}
        assert audit.pairs[place] == len(users)
        of_item = found.items == place + 1
        trust = found.confidence[of_item].sum()
        present = np.array([str(token) in rows for rows in world.features.values()])
        assert (audit.present[place] == present).all()
        if present.sum() > 1 and trust > 0:
            expected = found.reliability[of_item].sum(axis=0) / trust
            np.testing.assert_allclose(audit.evidence[place], expected)
            assert audit.evidence[place].sum() == pytest.approx(1, abs=1e-5)
        else:
            assert np.isnan(audit.evidence[place]).all()
        triplets = found.triplets[of_item].sum()
        expected = np.where(present & (triplets > 0), 0.0, np.nan)
        if triplets > 0:
            expected = expected + found.contradictions[of_item].sum(axis=0) / triplets
        np.testing.assert_allclose(audit.contradicted[place], expected)
    known = np.isfinite(audit.evidence)
    assert (audit.evidence_low[known] <= audit.evidence[known] + 1e-12).all()
    assert (audit.evidence[known] <= audit.evidence_high[known] + 1e-12).all()


def test_items_without_training_interactions_are_listed_without_evidence(tmp_path: Path) -> None:
    world = random_world()
    for split in ("train", "valid"):
        world.splits[split][:] = [pair for pair in world.splits[split] if pair[1] != "i2"]
    world.splits["test"].append(("u0", "i2"))
    audit = audit_of(randomized(tmp_path, world))
    (place,) = np.flatnonzero(audit.items == "i2")
    assert audit.pairs[place] == 0
    assert np.isnan(audit.evidence[place]).all()
    assert np.isnan(audit.contradicted_low[place]).all()
    assert place not in audit.ranking(0, 1).least
    assert audit.weights[place].sum() == pytest.approx(1, abs=1e-6)


def test_with_one_modality_the_contradictions_rank_the_items(tmp_path: Path) -> None:
    audit = audit_of(randomized(tmp_path, random_world(1)))
    assert audit.ranked_by == "contradicted"
    assert np.isnan(audit.evidence).all()
    order = audit.ranking(0, 1).least
    assert (np.diff(1 - audit.contradicted_low[order, 0]) >= 0).all()


def test_weights_of_several_seeds_are_averaged(tmp_path: Path) -> None:
    built = [randomized(tmp_path / str(seed), random_world(), seed=seed) for seed in (1, 2)]
    weights = np.stack([one.model.item_weights().detach().numpy()[1:] for one in built])
    audit = audit_of(*built)
    np.testing.assert_allclose(audit.weights, weights.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(audit.weight_deviations, weights.std(axis=0, ddof=1), rtol=1e-5)
    assert audit.triplets.max() <= 6 * audit.pairs.max()
    assert np.isnan(audit_of(built[0]).weight_deviations).all()


def test_few_pairs_do_not_come_first() -> None:
    audit = made_audit(
        evidence=[0.01, 0.20, 0.30, 0.60, 0.02],
        half_widths=[0.60, 0.05, 0.05, 0.05, 0.01],
        pairs=[6, 200, 100, 100, 2],
    )
    assert audit.items[audit.ranking(0, 5).least].tolist() == ["i1", "i2", "i0", "i3"]
    assert audit.items[audit.ranking(0, 5).most].tolist() == ["i3", "i2", "i1", "i0"]
    assert audit.items[audit.ranking(0, 1).least][0] == "i4"


def test_suspects_come_before_items_that_are_only_less_reliable() -> None:
    # The image of i0 explains less than its text, but is hardly ever contradicted.
    audit = made_audit(evidence=[0.10, 0.20, 0.65, 0.70], half_widths=[0.02] * 4, pairs=[100] * 4)
    for end in (audit.contradicted, audit.contradicted_low, audit.contradicted_high):
        end[0, 0] = 0.05
    assert audit.ranking(0, 5).surely_below.tolist() == [True, True, False, False]
    assert audit.ranking(0, 5).suspect.tolist() == [False, True, False, False]
    assert audit.ranking(0, 5).trusted.tolist() == [False, False, True, True]
    assert audit.items[audit.ranking(0, 5).least].tolist() == ["i1", "i0", "i2", "i3"]
    # Too few pairs: neither suspect nor trusted.
    assert not audit.ranking(0, 101).suspect.any()


def test_the_lists_share_no_item_and_the_rows_hold_every_item(tmp_path: Path) -> None:
    built = randomized(tmp_path, random_world().without(MISSING["some items miss one"]))
    audit = audit_of(built)
    norms = feature_norms(built.config, built.dataset)
    result = made_result(audit, norms=norms, settings=AuditSettings(items=8, min_pairs=1))
    for part in result.modalities:
        least, most = ({row.item for row in rows} for rows in (part.least, part.most))
        assert least
        assert not least & most
        assert part.surely_below <= part.ranked
    rows = list(csv.DictReader(io.StringIO(audit_csv(made_audit_result(result)), newline="")))
    assert len(rows) == 2 * len(audit.items)
    assert "[PAD]" not in {row["item"] for row in rows}
    ranks = sorted(int(r["least_reliable_rank"]) for r in rows if r["least_reliable_rank"])
    assert ranks[0] == 1


def test_a_result_known_by_hand() -> None:
    # The average of the image is .475; only i0 lies surely below it, and only i3 surely above.
    result = made_result()
    image, text = result.modalities
    assert (image.present, image.ranked) == (4, 4)
    assert (image.average, image.contradicted) == pytest.approx((0.475, 0.525))
    assert (image.surely_below, image.suspect, image.surely_above, image.trusted) == (1, 1, 1, 1)
    assert [(row.item, row.sure) for row in image.least] == [("i0", True), ("i1", False)]
    assert [(row.item, row.sure) for row in image.most] == [("i3", True), ("i2", False)]
    assert [row.item for row in text.least] == ["i3", "i1"]
    first = image.least[0]
    assert (first.reliability, first.low, first.high) == pytest.approx((0.1, 0.05, 0.15))
    assert (first.contradicted, first.contradicted_low) == pytest.approx((0.9, 0.85))
    # The ranks of reliability are 1 2 3 4, those of the pairs 2 3 4 1: 1 - 6 * 12 / 60.
    assert image.popularity_correlation == pytest.approx(-0.2)
    plain = result.as_plain()
    assert plain["audit"]["pairs"] == 62
    assert plain["audit"]["modalities"][0]["least"][0]["pairs"] == 10
    assert plain["relations"][0] == {
        "modality": "image",
        "with": "popularity",
        "rho": pytest.approx(-0.2),
        "low": result.relations[0].correlation.low,
        "high": result.relations[0].correlation.high,
        "count": 4,
    }
    entropy = -np.mean([w * np.log2(w) + (1 - w) * np.log2(1 - w) for w in (0.1, 0.4, 0.5, 0.9)])
    assert plain["models"][0]["entropy_bits"] == pytest.approx(entropy)
    assert plain["stability"] == []
    rows = list(csv.DictReader(io.StringIO(audit_csv(made_audit_result(result)), newline="")))
    assert [row["suspect"] for row in rows if row["modality"] == "image"] == ["1", "0", "0", "0"]
    assert [row["least_reliable_rank"] for row in rows[::2]] == ["1", "2", "3", "4"]
    assert (rows[0]["evidence"], rows[0]["weight_std"], rows[0]["triplets"]) == ("0.1", "", "200")


def test_norms_are_those_of_the_raw_rows(tmp_path: Path) -> None:
    world = random_world().without(MISSING["some items miss one"])
    built = randomized(tmp_path, world, feature_normalization="l2")
    norms = feature_norms(built.config, built.dataset)
    for m, rows in enumerate(world.features.values()):
        for place, token in enumerate(built.item_tokens[1:]):
            expected = np.linalg.norm(rows[token]) if token in rows else np.nan
            np.testing.assert_allclose(norms[place, m], expected, rtol=1e-6)


def test_a_planted_relation_is_found_and_a_constant_has_none() -> None:
    count = 200
    random = np.random.default_rng(0)
    audit = made_audit(
        random.uniform(0.2, 0.8, count).tolist(), [0.1] * count, list(range(1, count + 1))
    )
    result = made_result(audit)
    found = {(one.modality, one.other): one.correlation for one in result.relations}
    assert found["image", "evidence"].rho == pytest.approx(1)
    assert found["text", "contradicted"].rho == pytest.approx(-1)
    assert np.isnan(found["image", "feature norm"].rho)
    of_chance = found["image", "popularity"]
    assert of_chance.low < 0 < of_chance.high


def test_contents_are_found_where_encode_finds_them(tmp_path: Path) -> None:
    world = random_world()
    built = randomized(tmp_path, world)
    folder = tmp_path / "tiny"
    tokens = built.item_tokens[1:]
    rows = "".join(f"{token}\tThe <{token}>\tred\n" for token in tokens)
    header = "item_id:token\ttitle:token_seq\tabout:token_seq\n"
    (folder / "tiny.item").write_text(header + rows, encoding="utf-8")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.new("RGBA", (400, 200), (255, 0, 0, 128)).save(pictures / "i1.png")
    (pictures / "i2.jpg").write_bytes(b"no picture")
    contents = ItemContents.find(built.config, tokens, pictures)
    assert contents.titles["i3"] == "The <i3>"
    assert contents.texts["i3"] == "The <i3> red"
    thumbnails = contents.thumbnails(["i1", "i2", "i3", "i1"])
    assert set(thumbnails) == {"i1"}
    assert thumbnails["i1"].startswith("data:image/jpeg;base64,")
    assert len(thumbnails["i1"]) < 5_000
    with pytest.raises(DataError, match="--images: expected a folder"):
        ItemContents.find(built.config, tokens, tmp_path / "nowhere")


def test_a_dataset_without_contents_has_none(tmp_path: Path) -> None:
    built = randomized(tmp_path, random_world())
    contents = ItemContents.find(built.config, built.item_tokens[1:])
    assert (contents.titles, contents.texts, contents.images) == ({}, {}, {})
