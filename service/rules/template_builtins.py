"""Go's own functions of text templates."""

import html
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote_plus

from service.rules.go_format import Loose, Sample, sprint, sprintf, sprintln, text_of, type_name
from service.rules.template_registry import ANY, TEXT, CallFailed, Surroundings, function, is_true


@function("not", ANY)
def _not(_: Surroundings, value: Any) -> bool:
    return not is_true(value)


@function("len", ANY)
def _len(_: Surroundings, value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, list | dict):
        return len(value)
    if value is None:
        raise CallFailed("len of nil pointer")
    raise CallFailed(f"len of type {type_name(value)}")


@function("index", ANY, rest=ANY)
def _index(_: Surroundings, value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, dict):
            if not isinstance(key, str):
                raise CallFailed(f"value has type {type_name(key)}; should be string")
            value = value.get(key, None if isinstance(value, Loose) else "")
        elif isinstance(value, list | str):
            whole = value.encode() if isinstance(value, str) else value
            value = whole[_place(key, len(whole), last=False)]
        elif value is None:
            raise CallFailed("index of untyped nil")
        else:
            raise CallFailed(f"can't index item of type {type_name(value)}")
    return value


@function("slice", ANY, rest=ANY)
def _slice(_: Surroundings, value: Any, *places: Any) -> Any:
    if len(places) > 3:
        raise CallFailed(f"too many slice indexes: {len(places)}")
    if isinstance(value, str):
        if len(places) == 3:
            raise CallFailed("cannot 3-index slice a string")
        whole: Any = value.encode()
    elif isinstance(value, list):
        whole = value
    else:
        raise CallFailed(f"can't slice item of type {type_name(value)}")
    begin, end = 0, len(whole)
    if places:
        begin = _place(places[0], end, last=True)
    if len(places) > 1:
        end = _place(places[1], end, last=True)
    if begin > end:
        raise CallFailed(f"invalid slice index: {begin} > {end}")
    part = whole[begin:end]
    return part.decode(errors="replace") if isinstance(part, bytes) else part


def _place(value: Any, length: int, *, last: bool) -> int:
    if value is None:
        raise CallFailed("cannot index slice/array with nil")
    if isinstance(value, bool) or not isinstance(value, int):
        raise CallFailed(f"cannot index slice/array with type {type_name(value)}")
    if not 0 <= value < length + last:
        raise CallFailed(f"index out of range: {value}")
    return value


@function("print", rest=ANY)
def _print(_: Surroundings, *values: Any) -> str:
    return sprint(values)


@function("println", rest=ANY)
def _println(_: Surroundings, *values: Any) -> str:
    return sprintln(values)


@function("printf", TEXT, rest=ANY)
def _printf(_: Surroundings, form: str, *values: Any) -> str:
    return sprintf(form, values)


def _evaluated(values: Sequence[Any]) -> str:
    return values[0] if len(values) == 1 and isinstance(values[0], str) else sprint(values)


@function("html", rest=ANY)
def _html(_: Surroundings, *values: Any) -> str:
    text = html.escape(_evaluated(values), quote=True).replace("\0", "\ufffd")
    return text.replace("&quot;", "&#34;").replace("&#x27;", "&#39;")


_IN_SCRIPT = {"\\": "\\\\", "'": "\\'", '"': '\\"', "<": "\\u003C", ">": "\\u003E", "&": "\\u0026",
              "=": "\\u003D"}  # fmt: skip


@function("js", rest=ANY)
def _js(_: Surroundings, *values: Any) -> str:
    return "".join(
        _IN_SCRIPT.get(char) or (char if char.isprintable() else f"\\u{ord(char):04X}")
        for char in _evaluated(values)
    )


@function("urlquery", rest=ANY)
def _urlquery(_: Surroundings, *values: Any) -> str:
    return quote_plus(_evaluated(values), safe="~")


def _basic(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    for kind, name in ((int, "int"), (float, "float"), (str, "string")):
        if isinstance(value, kind):
            return name
    if value is None:
        return "nil"
    raise CallFailed("invalid type for comparison")


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, dict | list) or isinstance(right, dict | list):
        worst = left if isinstance(left, dict | list) else right
        raise CallFailed(f"non-comparable type {text_of(worst)}: {type_name(worst)}")
    if isinstance(left, Sample) or isinstance(right, Sample):
        return left is right
    if _basic(left) != _basic(right):
        if left is None or right is None:
            return False
        raise CallFailed("incompatible types for comparison")
    return bool(left == right)


@function("eq", ANY, rest=ANY)
def _eq(_: Surroundings, left: Any, *others: Any) -> bool:
    if not others:
        raise CallFailed("missing argument for comparison")
    return any(_equal(left, other) for other in others)


@function("ne", ANY, ANY)
def _ne(_: Surroundings, left: Any, right: Any) -> bool:
    return not _equal(left, right)


def _less(left: Any, right: Any) -> bool:
    kinds = _basic(left), _basic(right)
    if kinds[0] != kinds[1]:
        raise CallFailed("incompatible types for comparison")
    if kinds[0] in ("bool", "nil"):
        raise CallFailed("invalid type for comparison")
    return bool(left < right)


@function("lt", ANY, ANY)
def _lt(_: Surroundings, left: Any, right: Any) -> bool:
    return _less(left, right)


@function("le", ANY, ANY)
def _le(_: Surroundings, left: Any, right: Any) -> bool:
    return _less(left, right) or _equal(left, right)


@function("gt", ANY, ANY)
def _gt(_: Surroundings, left: Any, right: Any) -> bool:
    return not (_less(left, right) or _equal(left, right))


@function("ge", ANY, ANY)
def _ge(_: Surroundings, left: Any, right: Any) -> bool:
    return not _less(left, right)
