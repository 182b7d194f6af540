"""Takes the fields of a form one by one and gathers everything that is wrong with them."""

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from service.domain.errors import InvalidInput, Unprocessable

T = TypeVar("T")

CHANNELS_MAX = 20
_FIELDS_MAX = 50
_LABELS_MAX = 30
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,127}")

#: What people write who come from elsewhere.
_MEANT = {
    "alert": "name",
    "metric": "query",
    "selector": "query",
    "for": "for_duration",
    "duration": "for_duration",
    "value": "threshold",
    "cooldown_period": "cooldown",
    "cooldown_seconds": "cooldown",
    "channel": "channels",
    "notify": "channels",
    "budget": "alert_budget",
    "policy": "escalation",
    "escalation_policy": "escalation",
    "tags": "labels",
    "likelihood": "probability",
    "by": "peers_by",
    "group_by": "peers_by",
    "tenant_id": "tenant",
}

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one field. `path` leads to it; `at_key` says that its name is wrong."""

    path: Path
    reason: str
    at_key: bool = False

    @property
    def field(self) -> str:
        """`labels.region`, `steps[1].after`."""
        text = ""
        for part in self.path:
            text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
        return text

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}" if self.path else self.reason


class RuleError(Unprocessable):
    """A rule or policy that cannot be taken; `problems` has all that is wrong with it."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(map(str, problems)), where=problems[0].field or None)
        self.problems = tuple(problems)


def suggest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'query'?`, or nothing."""
    names, word = list(known), word[:64].lower()
    meant = _MEANT.get(word)
    if meant not in names:
        close = difflib.get_close_matches(word, names, 1, 0.6)
        meant = close[0] if close else None
    return f"; did you mean {meant!r}?" if meant else ""


class Form:
    """Takes fields out of a mapping and gathers what is wrong with them."""

    def __init__(
        self, body: object, fields: tuple[str, ...], what: str = "a rule", path: Path = ()
    ) -> None:
        self.problems: list[Problem] = []
        self._path = path
        self.given: dict[str, Any] = {}
        self._broken = True
        if not isinstance(body, Mapping):
            self.problems.append(Problem(path, f"{what} is a mapping of fields, not {kind(body)}"))
            return
        if len(body) > _FIELDS_MAX:
            self.problems.append(Problem(path, f"{what} has no {len(body)} fields"))
            return
        self._broken = False
        for key, value in body.items():
            if key in fields:
                if value is not None:
                    self.given[key] = value
            else:
                word = _shorten(str(key))
                self.wrong(word, f"{what} has no such field{suggest(word, fields)}", True)

    def wrong(self, field: str, reason: str, at_key: bool = False) -> None:
        """Note what is wrong with a field."""
        self.problems.append(Problem((*self._path, field), reason, at_key))

    def fine(self, field: str) -> bool:
        """Whether nothing was noted about a field."""
        return not any(p.path[: len(self._path) + 1] == (*self._path, field) for p in self.problems)

    def take(self, field: str, read: Callable[[Any], T], required: bool = False) -> T | None:
        """The field's value as `read` makes it; None if absent or wrong."""
        if self._broken:
            return None
        if field not in self.given:
            if required:
                self.wrong(field, "is missing")
            return None
        try:
            return read(self.given[field])
        except _Nested as error:
            self.problems += [Problem((*self._path, field, *p.path), p.reason) for p in error.inner]
        except InvalidInput as error:
            self.wrong(field, str(error))
        return None

    def take_map(self, field: str, longest: int, reserved: tuple[str, ...] = ()) -> dict[str, str]:
        """A mapping of label names to text; what is wrong is noted entry by entry."""
        found = self.given.get(field, {})
        if not isinstance(found, Mapping):
            self.wrong(field, f"is a mapping of names to text, not {kind(found)}")
            return {}
        if len(found) > _LABELS_MAX:
            self.wrong(field, f"has {len(found)} entries; {_LABELS_MAX} are possible")
            return {}
        taken: dict[str, str] = {}
        for key, value in found.items():
            place = (*self._path, field, str(key)[:128])
            if not (isinstance(key, str) and _LABEL.fullmatch(key)):
                reason = "a name has letters, digits and _, at most 128, and begins with no digit"
                self.problems.append(Problem(place, reason, True))
            elif key in reserved:
                self.problems.append(Problem(place, "this name is set by the service", True))
            else:
                try:
                    taken[key] = text_of(value, longest)
                except InvalidInput as error:
                    self.problems.append(Problem(place, str(error)))
        return taken

    def finish(self) -> None:
        """Raise `RuleError` if anything was noted."""
        if self.problems:
            raise RuleError(self.problems)


class _Nested(InvalidInput):
    """Problems inside a field's value."""

    def __init__(self, inner: list[Problem]) -> None:
        super().__init__("; ".join(map(str, inner)))
        self.inner = inner


def kind(value: object) -> str:
    """What a value is, in words for people who write YAML."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"the flag {str(value).lower()}"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return f"the text {_shorten(value)!r}"
    return "a mapping" if isinstance(value, Mapping) else "a list"


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "…"


def text_of(value: object, longest: int) -> str:
    """Printable text of at most `longest` characters; numbers are taken as text."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise InvalidInput(f"is text, not {kind(value)}")
    if len(value) > longest:
        raise InvalidInput(f"has {len(value)} characters; {longest} are possible")
    # PostgreSQL takes no NUL, UTF-8 no lone surrogate.
    if not all(c.isprintable() or c in "\n\t" for c in value):
        raise InvalidInput("has characters that cannot be printed")
    return value


def plain_name(value: object) -> str:
    """One line of printable text, 1 to 200 characters."""
    if not isinstance(value, str):
        raise InvalidInput(f"is text, not {kind(value)}")
    name = value.strip()
    if not name:
        raise InvalidInput("is empty")
    if len(name) > 200:
        raise InvalidInput(f"has {len(name)} characters; 200 are possible")
    if not name.isprintable():
        raise InvalidInput("has characters that cannot be printed")
    return name


def chosen(value: object, known: Mapping[str, T], shown: Iterable[str]) -> T:
    """What one of the `known` words stands for; `shown` are those that a refusal names."""
    if isinstance(value, str) and value.strip().lower() in known:
        return known[value.strip().lower()]
    hint = suggest(value, known) if isinstance(value, str) else ""
    raise InvalidInput(f"is one of {', '.join(shown)}, not {kind(value)}{hint}")


def number(value: object) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInput(f"is a number, not {kind(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InvalidInput("is a finite number")
    return number


def flag(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise InvalidInput(f"is true or false, not {kind(value)}")
    return value


def items(value: object) -> list[Any]:
    """A list."""
    if not isinstance(value, list):
        raise InvalidInput(f"is a list, not {kind(value)}")
    return value


def label_names(value: object) -> tuple[str, ...]:
    """Names of labels, each once, in order; one may stand without a list."""
    found = items(value) if not isinstance(value, str) else [value]
    if len(found) > _LABELS_MAX:
        raise InvalidInput(f"has {len(found)} labels; {_LABELS_MAX} are possible")
    for label in found:
        if not (isinstance(label, str) and _LABEL.fullmatch(label)):
            raise InvalidInput(f"is a label such as job, or a list of them, not {kind(label)}")
    return tuple(dict.fromkeys(found))


def channel_names(value: object) -> tuple[str, ...]:
    """Names of channels, each once, in order."""
    if not isinstance(value, list):
        raise InvalidInput(f"is a list of channels such as [slack], not {kind(value)}")
    if len(value) > CHANNELS_MAX:
        raise InvalidInput(f"has {len(value)} channels; {CHANNELS_MAX} are possible")
    problems: list[Problem] = []
    names: list[str] = []
    for i, item in enumerate(value):
        try:
            name = plain_name(item)
            if len(name) > 64:
                raise InvalidInput(f"has {len(name)} characters; 64 are possible")
            names.append(name)
        except InvalidInput as error:
            problems.append(Problem((i,), str(error)))
    if problems:
        raise _Nested(problems)
    return tuple(dict.fromkeys(names))
