"""What a search may choose from, and how a trial draws from it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_margo.errors import ConfigError
from recbole_margo.store.plain import as_plain, from_plain
from recbole_margo.studies.tuning.plan import Dimension, search_space
from recbole_margo.testing import make_config, random_world

optuna = pytest.importorskip("optuna")

from recbole_margo.studies.tuning.trials import ask_trial  # noqa: E402


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_config(random_world().write(tmp_path_factory.mktemp("data")), "MARGO")


@pytest.fixture(scope="module")
def of_recbole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_config(random_world().write(tmp_path_factory.mktemp("data")), "BPR")


def test_without_a_choice_all_published_ranges_are_searched(config):
    space = {dimension.key: dimension for dimension in search_space(config)}
    assert set(space) == {
        "item_neighbors",
        "user_neighbors",
        "reg_weight",
        "alpha",
        "tau",
        "weight_learning_rate",
        "score_scale",
    }
    assert (space["alpha"].low, space["alpha"].high, space["alpha"].scale) == (1e-3, 10.0, "log")
    scale = space["score_scale"]
    assert (scale.low, scale.high, scale.scale) == (1 / 32, 4.0, "log")
    assert space["item_neighbors"].choices == (5, 10, 20)


def test_named_keys_are_searched_in_their_order(config):
    assert [one.key for one in search_space(config, ["tau", "learning_rate"])] == [
        "tau",
        "learning_rate",
    ]
    (own,) = search_space(config, ["alpha"], ["alpha=[0.1, 1, linear]"])
    assert (own.low, own.high, own.scale) == (0.1, 1, "linear")
    assert [one.key for one in search_space(config, [], ["weight_decay=[1e-6, 1e-3, log]"])][
        -1
    ] == "weight_decay"


def test_whole_numbers_stay_whole(config, of_recbole):
    (width,) = search_space(config, ["embedding_size"], ["embedding_size=[4, 64, log]"])
    assert width.integer
    (width,) = search_space(of_recbole, [], ["embedding_size=[4, 64, log]"])
    assert width.integer and width.ends() == (4, 64)
    (alpha,) = search_space(config, ["alpha"], ["alpha=[1, 10, log]"])
    assert not alpha.integer


@pytest.mark.parametrize(
    ("over", "own", "message"),
    [
        (["beta"], [], "MARGO has no published search range for `beta`"),
        (["alhpa"], [], "no published search range for `alhpa`"),
        ([], ["alpha"], "--space: expected"),
        ([], ["alpha=3"], "must be .low, high, log., "),
        ([], ["alpha=[]"], "must be .low, high, log., "),
        ([], ["alpha=[2, 1, log]"], "from a smaller to a larger positive number"),
        ([], ["alpha=[0, 1, log]"], "from a smaller to a larger positive number"),
        ([], ["alpha=[a, 1, linear]"], "from a smaller to a larger number"),
        ([], ["alpha=[1]", "alpha=[2]"], "names alpha twice"),
        (["tau"], ["alpha=[1, 2]"], "--over does not name alpha of --space"),
        ([], ["seed=[1, 2]"], "`seed` cannot be searched"),
        ([], ["alpha=[1"], "not valid YAML"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused(config, over, own, message):
    with pytest.raises(ConfigError, match=message):
        search_space(config, over, own)


def test_a_model_without_published_ranges_says_how_to_give_one(of_recbole):
    with pytest.raises(ConfigError, match=r"BPR has no published.*--space"):
        search_space(of_recbole)


@given(
    st.lists(
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(-5, 5),
            st.text(max_size=3),
            st.lists(st.sampled_from(["text", "image"]), max_size=2),
            st.dictionaries(st.sampled_from(["text", "image"]), st.floats(0, 1), max_size=2),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_every_listed_value_survives_the_storage(values):
    dimension = from_plain(Dimension, as_plain(Dimension.of("key", values)))
    for value in values:
        # A text can be written like a list; then the first of the two is meant.
        found = dimension.value_of(dimension.stored(value))
        assert dimension.stored(found) == dimension.stored(value)
        assert dimension.contains(value)


@given(st.floats(1e-6, 1e3), st.floats(1.001, 1e6), st.booleans(), st.integers(0, 2**32 - 1))
def test_what_is_drawn_lies_in_the_range(low, factor, logarithmic, seed):
    high = low * factor
    dimension = Dimension.of("key", [low, high, "log" if logarithmic else "linear"])
    study = optuna.create_study()
    for _ in range(3):
        trial = ask_trial(study, seed)
        value = dimension.suggest(trial)
        assert dimension.contains(value) and math.isfinite(value)
        study.tell(trial, value)


def drawn(seed: int, process_each: bool, trials: int = 16) -> list[float]:
    """Return what a search for the smallest value of (x - 0.3)^2 draws."""
    dimension = Dimension.of("x", [0.0, 1.0, "linear"])
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(storage=storage, study_name="x")
    for _ in range(trials):
        if process_each:
            study = optuna.load_study(storage=storage, study_name="x")
        trial = ask_trial(study, seed)
        study.tell(trial, (dimension.suggest(trial) - 0.3) ** 2)
    return [trial.params["x"] for trial in study.trials]


def test_the_same_seed_draws_the_same_values_in_any_process():
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    one_process, a_process_each = drawn(5, False), drawn(5, True)
    assert one_process == a_process_each
    assert len(set(one_process)) == len(one_process), "each trial draws values of its own"
    assert drawn(6, False)[0] != one_process[0]


def test_what_a_dimension_contains():
    assert Dimension.of("x", [0.1, 1, "log"]).contains(1)
    assert not Dimension.of("x", [0.1, 1, "log"]).contains(2)
    assert not Dimension.of("x", [0.1, 1, "log"]).contains(None)
    assert not Dimension.of("x", [1, 2]).contains(True)
