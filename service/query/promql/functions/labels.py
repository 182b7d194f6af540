"""Functions that change labels and leave values alone."""

import re
from collections.abc import Sequence
from typing import cast

import re2

from service.domain.errors import InvalidInput, Unprocessable
from service.domain.series import label_value
from service.query.matchers import compiled
from service.query.promql.budget import QueryTooDear
from service.query.promql.functions.registry import Asked, Value, function
from service.query.promql.vectors import Vector, merged, with_label

#: What Go's templates know: a dollar, `$name` as long as it goes, `${name}`.
_PLACEHOLDER = re.compile(r"\$(?:(\$)|(\w+)|\{(\w+)\})")
#: Go reads numbers of groups up to here.
_MOST_GROUPS = 100_000_000
#: Characters that one label may have, and all that one call writes: labels grow by being replaced.
_VALUE_MAX, _WRITTEN_MAX = 65_536, 1 << 27


@function("label_replace")
def _label_replace(asked: Asked, args: Sequence[Value]) -> Value:
    vector = cast(Vector, args[0])
    target, template, source, pattern = (cast(str, arg) for arg in args[1:])
    try:
        expression = compiled(f"(?s:{pattern})")
    except InvalidInput as error:
        raise Unprocessable(f"invalid regular expression in label_replace(): {pattern}") from error
    _check(target, "destination", "label_replace")
    labels = list(vector.labels)
    room = _WRITTEN_MAX
    for i, pairs in enumerate(labels):
        asked.budget.check()
        found = expression.fullmatch(label_value(pairs, source))
        if found is not None:
            value = _expanded(template, found)
            room = _remaining(room, len(value))
            labels[i] = with_label(pairs, target, value)
    return merged(Vector(labels, vector.values, vector.present))


@function("label_join")
def _label_join(asked: Asked, args: Sequence[Value]) -> Value:
    vector = cast(Vector, args[0])
    target, separator, *sources = (cast(str, arg) for arg in args[1:])
    for source in sources:
        _check(source, "source", "label_join")
    _check(target, "destination", "label_join")
    labels = []
    room = _WRITTEN_MAX
    for pairs in vector.labels:
        asked.budget.check()
        values = [label_value(pairs, source) for source in sources]
        room = _remaining(room, sum(map(len, values)) + len(separator) * len(values))
        labels.append(with_label(pairs, target, separator.join(values)))
    return merged(Vector(labels, vector.values, vector.present))


def _check(name: str, kind: str, caller: str) -> None:
    """`Unprocessable` for what is no label's name: any text is one, in UTF-8, but the empty one."""
    try:
        name.encode()
    except UnicodeEncodeError:
        name = ""
    if not name:
        raise Unprocessable(f"invalid {kind} label name in {caller}(): {name}")


def _remaining(room: int, length: int) -> int:
    """The room that is left when so many characters are written; `QueryTooDear` without any."""
    if length > _VALUE_MAX or length > room:
        raise QueryTooDear(
            f"labels would be too long: {_VALUE_MAX:,} characters are possible, and "
            f"{_WRITTEN_MAX:,} of all series together"
        )
    return room - length


def _expanded(template: str, found: "re2._Match[str]") -> str:
    """The template with the groups that matched; what is no group is empty."""

    room = _VALUE_MAX

    def replace(placeholder: "re.Match[str]") -> str:
        nonlocal room
        if placeholder[1]:
            return "$"
        name = placeholder[2] or placeholder[3]
        group: int | str = name
        if name.isascii() and name.isdigit():
            small = len(name) < len(str(_MOST_GROUPS)) and (name == "0" or name[0] != "0")
            group = int(name) if small else _MOST_GROUPS
            known = group <= found.re.groups
        else:
            known = name in found.re.groupindex
        text = (found.group(group) or "") if known else ""
        room = _remaining(room, len(text))
        return text

    return _PLACEHOLDER.sub(replace, template)
