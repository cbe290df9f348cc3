"""Rules for the values of settings: each looks at one value and says what is wrong with it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from recbole_margo.errors import ConfigError

# Takes the key, as an error names it, and the value.
Rule = Callable[[str, Any], None]
ENDPOINT = r"\s*[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|inf)\s*"
INTERVAL = re.compile(rf"\s*[\[(]({ENDPOINT}),({ENDPOINT})[\])]\s*", re.IGNORECASE)


def refuse(key: str, expected: str, value: Any) -> None:
    """Raise the `ConfigError` of a value that is not what was expected."""
    raise ConfigError(f"`{key}` must be {expected}, found {value!r}")


def close_names(name: Any, known: Iterable[Any], cutoff: float = 0.6) -> list[str]:
    """Return up to three known names that are near to a name in any case, the nearest first."""
    words = {str(word).lower(): str(word) for word in known}
    return [words[word] for word in get_close_matches(str(name).lower(), words, 3, cutoff)]


def nearest(name: Any, known: Collection[Any]) -> str:
    """Return "did you mean `order`?" where a name is near to known ones, else all known ones."""
    if found := close_names(name, known):
        return f"did you mean {' or '.join(f'`{word}`' for word in found)}?"
    return f"there are {', '.join(map(str, known)) or 'none'}"


def optional(rule: Rule) -> Rule:
    """Return the rule that lets a key also have no value."""

    def check(key: str, value: Any) -> None:
        if value is not None:
            rule(key, value)

    return check


def whole(low: int, high: int | None = None) -> Rule:
    """Return the rule of whole numbers in a range, bounds included, that are written as such."""
    expected = f"a whole number, {low} or more" if high is None else f"from {low} to {high}"

    def check(key: str, value: Any) -> None:
        if type(value) is not int or value < low or (high is not None and value > high):
            refuse(key, expected, value)

    return check


def integer(low: int, high: int | None = None) -> Rule:
    """Return the rule of whole numbers in a range, which may be written as 1e3 or 1.0 too."""
    rule = whole(low, high)

    def check(key: str, value: Any) -> None:
        rule(key, int(value) if isinstance(value, float) and value.is_integer() else value)

    return check


def number(low: float = 0.0, high: float = math.inf, *, above: bool = False) -> Rule:
    """Return the rule of finite numbers in a range, bounds included or, if `above`, without low."""
    if math.isfinite(high):
        expected = f"a number from {low:g} to {high:g}"
    else:
        least = f" {'above' if above else 'not below'} {low:g}"
        expected = f"a number{least if math.isfinite(low) else ''}"

    def check(key: str, value: Any) -> None:
        if type(value) not in (int, float) or not math.isfinite(value):
            refuse(key, expected, value)
        if not low <= value <= high or (above and value == low):
            refuse(key, expected, value)

    return check


def share(key: str, value: Any) -> None:
    """Let numbers between 0 and 1, neither of them, pass."""
    if type(value) is not float or not 0 < value < 1:
        refuse(key, "a share above 0 and below 1, such as 0.1", value)


def choice(*allowed: Any, ignore_case: bool = False) -> Rule:
    """Return the rule of values that can be counted."""

    def check(key: str, value: Any) -> None:
        found = value.lower() if ignore_case and isinstance(value, str) else value
        if not any(type(found) is type(each) and found == each for each in allowed):
            refuse(key, f"one of {list(allowed)}", value)

    return check


def boolean(key: str, value: Any) -> None:
    """Let true and false pass."""
    if not isinstance(value, bool):
        refuse(key, "true or false", value)


def text(key: str, value: Any) -> None:
    """Let words pass that are not empty."""
    if not isinstance(value, str) or not value:
        refuse(key, "a word", value)


def matching(pattern: str, expected: str) -> Rule:
    """Return the rule of words of a form; numbers are looked at as they are written."""

    def check(key: str, value: Any) -> None:
        word = str(value) if type(value) is int else value
        if not isinstance(word, str) or not re.fullmatch(pattern, word):
            refuse(key, expected, value)

    return check


def list_of(rule: Rule, least: int = 1, most: int | None = None) -> Rule:
    """Return the rule of lists of a length whose every entry follows a rule."""
    size = f"{least} entries" if most == least else f"{least} or more entries"

    def check(key: str, value: Any) -> None:
        if not isinstance(value, (list, tuple)):
            refuse(key, "a list", value)
        if len(value) < least or (most is not None and len(value) > most):
            refuse(key, f"a list of {size}", value)
        for entry in value:
            rule(key, entry)

    return check


def one_or_list(rule: Rule) -> Rule:
    """Return the rule of one value or a list of at least one."""

    def check(key: str, value: Any) -> None:
        (list_of(rule) if isinstance(value, (list, tuple)) else rule)(key, value)

    return check


def mapping(rules: Mapping[str, Rule]) -> Rule:
    """Return the rule of mappings whose keys are known and whose values follow their rules."""

    def check(key: str, value: Any) -> None:
        if not isinstance(value, dict):
            refuse(key, f"a mapping with keys among {', '.join(rules)}", value)
        for name, part in value.items():
            if name not in rules:
                raise ConfigError(f"unknown key `{name}` in `{key}`: {nearest(name, rules)}")
            rules[name](f"{key}.{name}", part)

    return check


def mapping_to(rule: Rule) -> Rule:
    """Return the rule of mappings from names, such as those of columns, to values of a rule."""

    def check(key: str, value: Any) -> None:
        if not isinstance(value, dict):
            refuse(key, "a mapping of names to values", value)
        for name, part in value.items():
            text(key, name)
            rule(f"{key}.{name}", part)

    return check


def intervals(key: str, value: Any) -> None:
    """Let RecBole's intervals pass, `"[5,inf)"` or several with `;` between them."""
    expected = 'an interval in quotes such as "[5,inf)" or "(0,10]"'
    if isinstance(value, list) and len(value) == 2:
        # What YAML makes of [5,10]; RecBole reads the written form.
        value = str(value)
    if not isinstance(value, str):
        refuse(key, expected, value)
    for part in value.split(";"):
        found = INTERVAL.fullmatch(part)
        if found is None or float(found[1]) > float(found[2]):
            refuse(key, expected, value)


def value_interval(key: str, value: Any) -> None:
    """Let what `val_interval` takes pass: intervals of numbers, or a list of tokens."""
    if isinstance(value, list):
        list_of(lambda name, token: None)(key, value)
    else:
        intervals(key, value)
