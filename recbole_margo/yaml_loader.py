"""A YAML loader for files that may come from a stranger: it builds plain values, and not many."""

from __future__ import annotations

import re
from typing import Any

import yaml
from yaml.composer import ComposerError

# Far above every configuration, far below what a machine notices.
MAX_CHARACTERS = 1 << 20
MAX_NODES = 50_000
MAX_DEPTH = 40
MAX_DIGITS = 64
# A longer text counts as several values.
TEXT_OF_A_VALUE = 64
MERGE = "tag:yaml.org,2002:merge"


class YamlLoader(yaml.SafeLoader):
    """PyYAML's safe loader that also reads `1e-3` as a number, as RecBole's own loader does.

    A text of a few lines can stand for billions of values by aliases of aliases, which whatever
    copies or prints the values then pays for. So values are counted as if every alias were written
    out.

    Attributes:
        refuses_duplicates: whether a key that stands twice in one mapping is an error, instead of
            the later value taking the place of the first in silence.
    """

    refuses_duplicates = True

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._nodes = 0
        self._depth = 0
        self._deepest = 0
        # By identity of a node that is complete: values in it, and levels below it.
        self._extents: dict[int, tuple[int, int]] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose one node, counting it and what an alias stands for."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        nodes_before, deepest_before = self._nodes, self._deepest
        self._depth += 1
        self._deepest = self._depth
        self._check_bounds(event)
        node: Any = super().compose_node(parent, index)
        if isinstance(event, yaml.AliasEvent):
            if id(node) not in self._extents:
                _refuse(f"the alias *{event.anchor} stands inside of what it names", event)
            nodes, levels = self._extents[id(node)]
            self._nodes += nodes
            self._deepest = self._depth + levels
        else:
            long_text = (
                len(node.value) // TEXT_OF_A_VALUE if isinstance(node, yaml.ScalarNode) else 0
            )
            self._nodes += 1 + long_text
            levels = self._deepest - self._depth
            self._extents[id(node)] = (self._nodes - nodes_before, levels)
        self._check_bounds(event)
        self._deepest = max(self._deepest, deepest_before)
        self._depth -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        """Compose a mapping whose keys differ."""
        node: Any = super().compose_mapping_node(anchor)
        known = set()
        for key, _ in node.value:
            name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else None
            if name in known and key.tag != MERGE and self.refuses_duplicates:
                _refuse(f"the key `{key.value}` stands twice in one mapping", key)
            if name is not None:
                known.add(name)
        return node

    def construct_number(self, node: Any) -> int | float:
        """Read a number that is not absurdly long."""
        if len(str(node.value)) > MAX_DIGITS:
            _refuse(f"a number of {len(node.value)} characters", node)
        integer = node.tag.endswith(":int")
        construct: Any = self.construct_yaml_int if integer else self.construct_yaml_float
        value: int | float = construct(node)
        return value

    def _check_bounds(self, event: Any) -> None:
        if self._deepest > MAX_DEPTH:
            _refuse(f"more than {MAX_DEPTH} levels of values in values", event)
        if self._nodes > MAX_NODES:
            _refuse(f"more than {MAX_NODES:,} values, aliases written out", event)


def _refuse(found: str, place: Any) -> None:
    raise ComposerError(None, None, found, place.start_mark)


YamlLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9][0-9_]*)(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)
for _tag in ("int", "float"):
    YamlLoader.add_constructor(f"tag:yaml.org,2002:{_tag}", YamlLoader.construct_number)


def load_bounded(text: str, loader: type[YamlLoader] = YamlLoader) -> Any:
    """Return the value of YAML text of any origin.

    Raises:
        ValueError: the text is not YAML, or goes beyond the bounds; the message says where.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"more than {MAX_CHARACTERS >> 10:,} Ki characters")
    try:
        # A safe loader: it builds no objects.
        return yaml.load(text, Loader=loader)  # noqa: S506
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ValueError(f"{error.problem or error.context}{place}") from error
    except Exception as error:
        # PyYAML's constructors trip in many ways over a tag whose text is of another kind.
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
