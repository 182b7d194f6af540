"""YAML with the place of everything in it, read within bounds.

Only text, numbers, flags, lists and mappings come out; a date stays the text that was written.
Duplicate keys are refused, and files that are too large, too deep, or that unfold through
aliases into something huge.
"""

import datetime
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from service.rules.form import Path

BYTES_MAX = 1 << 20
_DEPTH_MAX = 20
#: A file of full size has no more nodes than this without aliases.
_NODES_MAX = 200_000
_MERGE = "tag:yaml.org,2002:merge"

Place = tuple[int, int]  # line and column, from 1


class YamlProblem(Exception):  # it is one of the problems of a file
    """Why a text cannot be read, and where."""

    def __init__(self, reason: str, place: Place = (1, 1)) -> None:
        super().__init__(reason)
        self.place = place


@dataclass(frozen=True, slots=True)
class Document:
    """What a text says. `places` has where each value begins, `keys` where its name does."""

    value: Any
    places: dict[Path, Place] = field(default_factory=dict)
    keys: dict[Path, Place] = field(default_factory=dict)

    def place(self, path: Path, *, at_key: bool = False) -> Place:
        """Where a path leads; for what is not there, where the thing around it begins."""
        if at_key and path in self.keys:
            return self.keys[path]
        for end in range(len(path), -1, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return 1, 1


def read(text: str) -> Document:
    """The document that `text` writes, None for an empty one; `YamlProblem` if it cannot be."""
    if len(text.encode()) > BYTES_MAX:
        raise YamlProblem(f"the file is larger than {BYTES_MAX >> 20} MiB")
    yaml = YAML(typ="safe", pure=True)
    try:
        node = yaml.compose(text)
    except MarkedYAMLError as error:
        raise YamlProblem(_reason(error), _place(error.problem_mark)) from error
    except ReaderError as error:
        before = text[: error.position]
        place = before.count("\n") + 1, error.position - before.rfind("\n")
        raise YamlProblem("a character that YAML does not allow", place) from error
    except YAMLError as error:
        raise YamlProblem(" ".join(str(error).split())[:200]) from error
    except RecursionError:
        raise YamlProblem(f"nested more than {_DEPTH_MAX} deep") from None
    if node is None:
        return Document(None)
    document = Document(None)
    value = _Walk(yaml, document).value(node, ())
    return Document(value, document.places, document.keys)


def _place(mark: Any) -> Place:
    return (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)


def _reason(error: MarkedYAMLError) -> str:
    reason = " ".join(str(error.problem or error.context or "not YAML").split())
    if "'\\t'" in reason:
        return "a tab; YAML is indented with spaces"
    return reason


class _Walk:
    """Turns nodes into values, keeping places."""

    def __init__(self, yaml: YAML, document: Document) -> None:
        self._constructor = yaml.constructor
        self._document = document
        self._nodes = 0

    def value(self, node: Node, path: Path) -> Any:
        self._nodes += 1
        if self._nodes > _NODES_MAX:
            raise YamlProblem("aliases unfold into too much", _place(node.start_mark))
        if len(path) > _DEPTH_MAX:
            raise YamlProblem(f"nested more than {_DEPTH_MAX} deep", _place(node.start_mark))
        self._document.places.setdefault(path, _place(node.start_mark))
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self.value(item, (*path, i)) for i, item in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: MappingNode, path: Path) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        merged: list[Node] = []
        for key_node, value_node in node.value:
            place = _place(key_node.start_mark)
            if key_node.tag == _MERGE:
                several = isinstance(value_node, SequenceNode)
                merged += value_node.value if several else [value_node]
                continue
            key = self._scalar(key_node) if isinstance(key_node, ScalarNode) else None
            if not isinstance(key, Hashable) or key is None:
                raise YamlProblem("a key is text", place)
            if key in found:
                first = self._document.keys[*path, str(key)]
                reason = f"the key {str(key)!r} stands here twice, first in line {first[0]}"
                raise YamlProblem(reason, place)
            self._document.keys[*path, str(key)] = place
            found[key] = self.value(value_node, (*path, str(key)))
        for item in merged:
            values = self.value(item, path)
            if not isinstance(values, dict):
                raise YamlProblem("<< takes a mapping", _place(item.start_mark))
            found = {**values, **found}
        return found

    def _scalar(self, node: Node) -> Any:
        try:
            value = self._constructor.construct_object(node)
        except (YAMLError, ValueError, OverflowError) as error:
            raise YamlProblem(
                f"{str(node.value)[:40]!r} cannot be read as {node.tag}", _place(node.start_mark)
            ) from error
        if isinstance(value, str | int | float | bool | None):
            return value
        if isinstance(value, datetime.date):
            return node.value
        raise YamlProblem(f"{node.tag} has no place here", _place(node.start_mark))
