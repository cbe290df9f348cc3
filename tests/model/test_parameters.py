from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass
from typing import Any

import pytest

from recbole_margo.errors import ConfigError
from recbole_margo.model import parameters as module
from recbole_margo.model.parameters import Parameters, hyperparameter


@dataclass(frozen=True, kw_only=True)
class ToyParameters(Parameters):
    size: int = hyperparameter("width of something", low=1, high=100)
    rate: float = hyperparameter("speed of something", low=0.0)
    own_rate: float | None = hyperparameter("speed of something else", low=0.0)
    kind: str = hyperparameter("which one of them", choices=("a", "b"))
    switch: bool = hyperparameter("whether it is on")
    shares: dict[str, float] = hyperparameter("how much of each")


class Toy:
    parameters_class = ToyParameters


class Other:
    parameters_class = ToyParameters


VALUES = {
    "size": 4,
    "rate": 0.5,
    "own_rate": None,
    "kind": "a",
    "switch": True,
    "shares": {"text": 0.9},
}


@pytest.fixture(autouse=True)
def _shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"model/Toy.yaml": VALUES}
    monkeypatch.setattr(module, "shipped_values", lambda path: dict(files.get(path, {})))


def read(**settings: Any) -> ToyParameters:
    return ToyParameters.from_config(settings, Toy)


def test_missing_values_are_filled_and_written_back():
    config: dict[str, Any] = {"size": 7, "other": 1}
    parameters = ToyParameters.from_config(config, Toy)
    assert (parameters.size, parameters.rate, parameters.kind) == (7, 0.5, "a")
    assert config == {**VALUES, "size": 7, "other": 1}


@pytest.mark.parametrize(
    ("settings", "value"),
    [
        ({"rate": 2}, 2.0),
        ({"size": 8.0}, 8),
        ({"own_rate": 0}, 0.0),
        ({"own_rate": None}, None),
        ({"shares": {"image": 1.0}}, {"image": 1.0}),
    ],
)
def test_values_take_the_type_of_their_field(settings, value):
    (name,) = settings
    found = getattr(read(**settings), name)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 2.5}, "`size` must be int, found 2.5"),
        ({"size": True}, "`size` must be int, found True"),
        ({"size": "64"}, "`size` must be int, found '64'"),
        ({"size": 0}, r"`size` must lie in \[1, 100\], found 0"),
        ({"size": 101}, r"`size` must lie in \[1, 100\], found 101"),
        ({"rate": None}, "`rate` must be float, found None"),
        ({"rate": -0.1}, r"`rate` must lie in \[0.0, inf\]"),
        ({"rate": float("inf")}, r"`rate` must lie in \[0.0, inf\]"),
        ({"own_rate": -1}, "`own_rate` must lie in"),
        ({"own_rate": "fast"}, "`own_rate` must be"),
        ({"kind": "c"}, r"`kind` must be one of \['a', 'b'\], found 'c'"),
        ({"switch": 1}, "`switch` must be bool, found 1"),
        ({"shares": 0.9}, "`shares` must be"),
    ],
)
def test_other_values_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        read(**settings)


def test_a_value_that_nothing_gives_is_named():
    with pytest.raises(
        ConfigError, match=r"`size` of Other has no value: .*tests/model/Other\.yaml"
    ):
        ToyParameters.from_config({}, Other)


def test_parameters_do_not_change():
    with pytest.raises(FrozenInstanceError):
        read().size = 5


def test_descriptions_come_in_the_order_of_declaration():
    assert list(ToyParameters.descriptions()) == list(VALUES)
