"""YAML by a schema: text stays as it was written, and everything that is wrong has its place.

Prometheus' files take a field's text as it stands: `code: 0500` is the label `0500`, `for: 5m` a
duration. So scalars come out as their text, and what they mean is asked field by field.
"""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import yaml

from service.domain.errors import InvalidInput
from service.rules.form import suggest
from service.rules.loader import FileProblem, RuleFileError
from service.rules.yaml import Place

T = TypeVar("T")

_DEPTH_MAX = 20
_NODES_MAX = 2_000_000
_MERGE = "tag:yaml.org,2002:merge"
#: libyaml's parser where there is one: many times as fast.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_NUMBER = re.compile(r"[-+]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][-+]?\d+)?", re.ASCII)
_INFINITE = {"inf": math.inf, "+inf": math.inf, "-inf": -math.inf, "nan": math.nan}
_FLAGS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@dataclass(frozen=True, slots=True)
class Scalar:
    """Text as it was written. Without quotes, nothing, `~` and `null` are no value."""

    text: str
    place: Place
    plain: bool = True

    @property
    def is_null(self) -> bool:
        """Whether it stands for nothing."""
        return self.plain and self.text in ("", "~", "null", "Null", "NULL")


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    items: "list[Value]"
    place: Place


@dataclass(frozen=True, slots=True)
class Fields:
    """A mapping; `keys` has where each name stands."""

    values: "dict[str, Value]"
    keys: dict[str, Place]
    place: Place


Value = Scalar | Sequence | Fields


class _Wrong(InvalidInput):
    """What is wrong, with its place."""

    def __init__(self, reason: str, place: Place) -> None:
        super().__init__(reason)
        self.place = place


def read_yaml(raw: bytes, source: str, bytes_max: int) -> Value | None:
    """The document that a file's bytes write, None for an empty one; `RuleFileError`."""
    try:
        if len(raw) > bytes_max:
            raise _Wrong(f"the file is larger than {bytes_max >> 20} MiB", (1, 1))
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            before = raw[: error.start]
            place = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
            raise _Wrong("the file is not UTF-8", place) from error
        node = _composed(text)
        return None if node is None else _Walk().value(node, 0)
    except _Wrong as wrong:
        raise RuleFileError([FileProblem(source, *wrong.place, str(wrong))]) from wrong


def _composed(text: str) -> Any:
    loader = _LOADER(text)
    try:
        return loader.get_node() if loader.check_node() else None
    except yaml.MarkedYAMLError as error:
        reason = " ".join(str(error.problem or error.context or "not YAML").split())
        if "'\\t'" in reason or "character that cannot start any token" in reason:
            reason += "; YAML is indented with spaces, and text with special characters is quoted"
        raise _Wrong(reason, _place(error.problem_mark or error.context_mark)) from error
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        place = before.count("\n") + 1, error.position - before.rfind("\n")
        raise _Wrong("a character that YAML does not allow", place) from error
    except yaml.YAMLError as error:
        raise _Wrong(" ".join(str(error).split())[:200], (1, 1)) from error
    except RecursionError:
        raise _Wrong(f"nested more than {_DEPTH_MAX} deep", (1, 1)) from None
    finally:
        loader.dispose()


def _place(mark: Any) -> Place:
    return (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)


class _Walk:
    """Turns nodes into values, within bounds."""

    def __init__(self) -> None:
        self._nodes = 0

    def value(self, node: Any, depth: int) -> Value:
        place = _place(node.start_mark)
        self._nodes += 1
        if self._nodes > _NODES_MAX:
            raise _Wrong("aliases unfold into too much", place)
        if depth > _DEPTH_MAX:
            raise _Wrong(f"nested more than {_DEPTH_MAX} deep", place)
        if isinstance(node, yaml.ScalarNode):
            return Scalar(node.value, place, not node.style)
        if isinstance(node, yaml.SequenceNode):
            return Sequence([self.value(item, depth + 1) for item in node.value], place)
        return self._fields(node, place, depth)

    def _fields(self, node: Any, place: Place, depth: int) -> Fields:
        values: dict[str, Value] = {}
        keys: dict[str, Place] = {}
        merged: list[Any] = []
        for key, item in node.value:
            where = _place(key.start_mark)
            if key.tag == _MERGE:
                merged += item.value if isinstance(item, yaml.SequenceNode) else [item]
                continue
            if not isinstance(key, yaml.ScalarNode):
                raise _Wrong("a key is text", where)
            if key.value in values:
                line = keys[key.value][0]
                raise _Wrong(
                    f"the key {key.value!r} stands here twice, first in line {line}", where
                )
            keys[key.value] = where
            values[key.value] = self.value(item, depth + 1)
        for item in merged:
            more = self.value(item, depth + 1)
            if not isinstance(more, Fields):
                raise _Wrong("<< takes a mapping", _place(item.start_mark))
            values = {**more.values, **values}
            keys = {**more.keys, **keys}
        return Fields(values, keys, place)


@dataclass(slots=True)
class Reader:
    """Takes values as what they should be and gathers what is wrong with them."""

    source: str
    problems: list[FileProblem] = field(default_factory=list)

    def wrong(self, place: Place, reason: str) -> None:
        """Note what is wrong at a place."""
        self.problems.append(FileProblem(self.source, *place, reason))

    def finish(self) -> None:
        """Raise `RuleFileError` if anything was noted."""
        if self.problems:
            raise RuleFileError(sorted(self.problems, key=lambda p: (p.line, p.column)))

    def fields(self, value: Value | None, what: str, known: Iterable[str]) -> Fields:
        """A mapping with no other fields than those known; without those that say nothing."""
        if value is None or (isinstance(value, Scalar) and value.is_null):
            return Fields({}, {}, (1, 1) if value is None else value.place)
        if not isinstance(value, Fields):
            self.wrong(value.place, f"{what} is a mapping of fields, not {_kind(value)}")
            return Fields({}, {}, value.place)
        known = tuple(known)
        given: dict[str, Value] = {}
        for key, item in value.values.items():
            if key not in known:
                hint = suggest(key, known)
                self.wrong(value.keys[key], f"{what} has no field {key[:60]!r}{hint}")
            elif not (isinstance(item, Scalar) and item.is_null):
                given[key] = item
        return Fields(given, value.keys, value.place)

    def items(self, value: Value | None, what: str) -> list[Value]:
        """A list, empty if there is none."""
        if value is None:
            return []
        if isinstance(value, Sequence):
            return value.items
        self.wrong(value.place, f"{what} is a list, not {_kind(value)}")
        return []

    def text(self, value: Value | None, what: str) -> str:
        """Text as it stands, empty if there is none."""
        if value is None:
            return ""
        if isinstance(value, Scalar):
            return "" if value.is_null else value.text
        self.wrong(value.place, f"{what} is text, not {_kind(value)}")
        return ""

    def texts(self, value: Value | None, what: str) -> dict[str, str]:
        """Names to text."""
        if value is None:
            return {}
        if isinstance(value, Fields):
            return {name: self.text(item, f"{what}.{name}") for name, item in value.values.items()}
        self.wrong(value.place, f"{what} is a mapping of names to text, not {_kind(value)}")
        return {}

    def take(self, value: Value | None, what: str, read: Callable[[str], T], default: T) -> T:
        """What `read` makes of text; it raises `InvalidInput` if that cannot be."""
        if value is None:
            return default
        try:
            return read(self.text(value, what))
        except InvalidInput as error:
            self.wrong(value.place, f"{what}: {error}")
            return default


def _kind(value: Value) -> str:
    if isinstance(value, Fields):
        return "a mapping"
    if isinstance(value, Sequence):
        return "a list"
    return f"the text {value.text[:60]!r}"


def number(text: str) -> float:
    """A number as YAML writes it, `.inf` and `.nan` among them, or as Prometheus does."""
    word = text.strip().lower()
    bare = word[1:] if word[:1] == "." else word.replace("-.", "-", 1).replace("+.", "+", 1)
    if bare in _INFINITE:
        return _INFINITE[bare]
    if _NUMBER.fullmatch(word):
        return float(word.replace("_", ""))
    if re.fullmatch(r"0x[0-9a-f]+", word):
        return float(int(word, 16))
    raise InvalidInput(f"is a number, not {text[:60]!r}")


def whole(text: str) -> int:
    """A whole number."""
    if not re.fullmatch(r"[-+]?\d{1,18}", text, re.ASCII):
        raise InvalidInput(f"is a whole number, not {text[:60]!r}")
    return int(text)


def flag(text: str) -> bool:
    """True or false."""
    found = _FLAGS.get(text.lower())
    if found is None:
        raise InvalidInput(f"is true or false, not {text[:60]!r}")
    return found
