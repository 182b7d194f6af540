"""What templates of alerts can call: functions with the types that they take."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from service.rules.go_format import TEXT_MAX, Sample, size_of


class CallFailed(Exception):  # it becomes a line of the template's error
    """Why a function gives no result."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What functions ask for: the time, queries at it, and where the service is found."""

    now_ms: int
    query: Callable[[str], list[Sample]]
    external_url: str = ""


Call = Callable[..., Any]

#: How Go calls the types that functions take.
TEXT, SAMPLE, VECTOR, ANY = "string", "*template.sample", "template.queryResult", "any"
_KINDS: dict[str, type] = {TEXT: str, SAMPLE: Sample, VECTOR: list}


@dataclass(frozen=True, slots=True)
class Function:
    """`call` gets the surroundings first. A `rest` says that more arguments of it may follow."""

    call: Call
    takes: tuple[str, ...] = ()
    rest: str = ""


FUNCTIONS: dict[str, Function] = {}


def function(name: str, *takes: str, rest: str = "") -> Callable[[Call], Call]:
    """Enter a function; it gets the surroundings, then what it takes."""

    def enter(call: Call) -> Call:
        FUNCTIONS[name] = Function(call, takes, rest)
        return call

    return enter


def fits(kind: str, value: Any) -> bool:
    """Whether a value can be passed where a kind is taken."""
    return kind == ANY or isinstance(value, _KINDS[kind])


def called(function: Function, around: Surroundings, values: Sequence[Any]) -> Any:
    """What a function gives; `CallFailed`, also where text would grow without end."""
    if sum(map(size_of, values)) > TEXT_MAX:
        raise CallFailed(f"more than {TEXT_MAX} characters")
    try:
        return function.call(around, *values)
    except (ValueError, OverflowError) as error:
        raise CallFailed(str(error)) from error


def is_true(value: Any) -> bool:
    """Whether `if` takes the value as true: neither zero nor empty nor nothing."""
    if isinstance(value, bool | int | float | str | list | dict):
        return bool(value)
    return value is not None
