"""Templates of alerts' labels and annotations, as Prometheus expands them.

What is wrong with a template, or with what it does, becomes the text, so that an alert is raised
all the same. Templates come from tenants: steps, text and queries of each are bounded.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from service.rules import template_builtins, template_functions
from service.rules.go_format import Loose, Sample, quoted, text_of, type_name
from service.rules.template_nodes import (
    Action,
    Branch,
    Command,
    Fields,
    Include,
    Leave,
    Literal,
    Name,
    Node,
    Operand,
    Pipeline,
    Template,
    Text,
)
from service.rules.template_parse import parse_template
from service.rules.template_registry import (
    ANY,
    FUNCTIONS,
    CallFailed,
    Function,
    Surroundings,
    fits,
    is_true,
)
from service.rules.template_tokens import TemplateProblem

#: What expanding one template may cost.
STEPS_MAX = 100_000
TEXT_MAX = 65_536
QUERIES_MAX = 50
_CALLS_MAX = 50

#: What Prometheus writes before every template.
_BEFORE = (
    "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}"
    "{{$externalURL := .ExternalURL}}{{$value := .Value}}"
)
#: Their functions enter themselves.
_ENTERED = (template_builtins, template_functions)
_KNOWN = frozenset({*FUNCTIONS, "and", "or", "call"})


@dataclass(frozen=True, slots=True)
class AlertData:
    """What a template of an alert is about."""

    labels: Mapping[str, str]
    value: float
    external_labels: Mapping[str, str] = field(default_factory=dict)
    external_url: str = ""


def check_template(text: str, name: str) -> None:
    """`TemplateProblem` says why a text is no template."""
    _parsed(text, name)


def expand(
    text: str,
    name: str,
    data: AlertData,
    now_ms: int,
    query: Callable[[str], list[Sample]],
) -> str:
    """The text with every action done; what is wrong with it is said in its place.

    `query` answers an instant query at `now_ms`, or raises `InvalidInput`.
    """
    if "{{" not in text:
        return text
    try:
        template = _parsed(text, name)
    except TemplateProblem as problem:
        return f"<error expanding template: error parsing template {name}: {problem}>"
    run = _Run(template, Surroundings(now_ms, query, data.external_url))
    dot = _Data(dict(data.labels), dict(data.external_labels), data.external_url, data.value)
    try:
        return run.text(dot)
    except _Failed as failed:
        return f"<error expanding template: error executing template {name}: {failed}>"


def expand_all(
    texts: Mapping[str, str],
    alert: str,
    data: AlertData,
    now_ms: int,
    query: Callable[[str], list[Sample]],
) -> dict[str, str]:
    """The labels or annotations of an alert, in order of their names; see `expand`."""
    name = f"__alert_{alert}"
    return {key: expand(text, name, data, now_ms, query) for key, text in sorted(texts.items())}


@lru_cache(maxsize=4096)
def _parsed(text: str, name: str) -> Template:
    return parse_template(name, _BEFORE + text, _KNOWN)


@dataclass(frozen=True, slots=True)
class _Data:
    Labels: dict[str, str]
    ExternalLabels: dict[str, str]
    ExternalURL: str
    Value: float

    def __str__(self) -> str:
        maps = f"{text_of(self.Labels)} {text_of(self.ExternalLabels)}"
        return f"{{{maps} {self.ExternalURL} {text_of(self.Value)}}}"


_DATA_TYPE = (
    "struct { Labels map[string]string; ExternalLabels map[string]string; "
    "ExternalURL string; Value interface {} }"
)
#: Nothing was given, as opposed to `nil`.
_NONE = object()


class _Failed(Exception):
    """A template that cannot be expanded."""


class _Left(Exception):
    """`break` or `continue`."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class _Run:
    """One expansion."""

    def __init__(self, template: Template, around: Surroundings) -> None:
        self._template = template
        self._name = template.name
        self._around = Surroundings(around.now_ms, self._counted(around), around.external_url)
        self._steps = self._queries = self._length = 0
        self._parts: list[str] = []
        self._variables: list[tuple[str, Any]] = []
        self._calls = 0

    def text(self, dot: Any) -> str:
        self._variables = [("$", dot)]
        self._nodes(self._template.nodes, dot)
        return "".join(self._parts)

    def _counted(self, around: Surroundings) -> Callable[[str], list[Sample]]:
        def query(text: str) -> list[Sample]:
            self._queries += 1
            if self._queries > QUERIES_MAX:
                raise CallFailed(f"a template may ask {QUERIES_MAX} queries")
            return around.query(text)

        return query

    def _failed(self, node: Any, reason: str) -> _Failed:
        before = self._template.text[: node.at]
        line = 1 + before.count("\n")
        column = node.at - (before.rfind("\n") + 1)
        return _Failed(
            f"template: {self._template.name}:{line}:{column}: executing {quoted(self._name)} at "
            f"<{node}>: {reason}"
        )

    def _step(self) -> None:
        self._steps += 1
        if self._steps > STEPS_MAX:
            raise _Failed(f"template: {self._template.name}: takes more than {STEPS_MAX} steps")

    def _write(self, text: str) -> None:
        self._length += len(text)
        if self._length > TEXT_MAX:
            raise _Failed(
                f"template: {self._template.name}: writes more than {TEXT_MAX} characters"
            )
        self._parts.append(text)

    # Nodes

    def _nodes(self, nodes: tuple[Node, ...], dot: Any) -> None:
        for node in nodes:
            self._step()
            if isinstance(node, Text):
                self._write(node.text)
            elif isinstance(node, Action):
                value = self._pipeline(node.pipe, dot)
                if not node.pipe.names:
                    self._write("<no value>" if value is None else text_of(value))
            elif isinstance(node, Branch):
                self._branch(node, dot)
            elif isinstance(node, Include):
                self._include(node, dot)
            elif isinstance(node, Leave):
                raise _Left(node.kind)

    def _branch(self, node: Branch, dot: Any) -> None:
        before = len(self._variables)
        if node.kind == "range":
            self._range(node, dot)
        else:
            value = self._pipeline(node.pipe, dot)
            within = value if node.kind == "with" else dot
            if is_true(value):
                self._nodes(node.body, within)
            else:
                self._nodes(node.otherwise, dot)
        del self._variables[before:]

    def _range(self, node: Branch, dot: Any) -> None:
        names, before = node.pipe.names, len(self._variables)
        value = self._pipeline(node.pipe, dot, declare=False)
        empty = True
        for place, item in self._items(node, value):
            empty = False
            self._step()
            given = ((place, item) if len(names) == 2 else (item,))[: len(names)]
            for name, one in zip(names, given, strict=True):
                self._set(node.pipe, name, one)
            try:
                self._nodes(node.body, item)
            except _Left as left:
                if left.kind == "break":
                    break
            finally:
                del self._variables[before:]
        if empty:
            self._nodes(node.otherwise, dot)

    def _items(self, node: Branch, value: Any) -> Iterator[tuple[Any, Any]]:
        if isinstance(value, list):
            yield from enumerate(value)
        elif isinstance(value, dict):
            yield from ((key, value[key]) for key in sorted(value))
        elif isinstance(value, int) and not isinstance(value, bool):
            yield from ((i, i) for i in range(value))
        elif value is not None:
            raise self._failed(node.pipe, f"range can't iterate over {text_of(value)}")

    def _include(self, node: Include, dot: Any) -> None:
        nodes = self._template.defined.get(node.name)
        if nodes is None:
            raise self._failed(
                _At(node.at, f"{{{{template {quoted(node.name)}}}}}"),
                f"template {quoted(node.name)} not defined",
            )
        self._calls += 1
        if self._calls > _CALLS_MAX:
            raise _Failed(
                f"template: {self._template.name}: more than {_CALLS_MAX} templates within "
                "each other"
            )
        inner = None if node.pipe is None else self._pipeline(node.pipe, dot)
        outer, self._variables = self._variables, [("$", inner)]
        name, self._name = self._name, node.name
        self._nodes(nodes, inner)
        self._variables, self._name = outer, name
        self._calls -= 1

    # Pipelines

    def _pipeline(self, pipe: Pipeline, dot: Any, *, declare: bool = True) -> Any:
        value: Any = _NONE
        for command in pipe.commands:
            value = self._command(command, dot, value)
        if declare:
            for name in pipe.names:
                self._set(pipe, name, value)
        return value

    def _set(self, pipe: Pipeline, name: str, value: Any) -> None:
        if not pipe.assigns:
            self._variables.append((name, value))
            return
        for i in range(len(self._variables) - 1, -1, -1):
            if self._variables[i][0] == name:
                self._variables[i] = (name, value)
                return
        raise self._failed(pipe.commands[-1].args[0], f"undefined variable: {name}")

    def _command(self, command: Command, dot: Any, final: Any) -> Any:
        self._step()
        first, *rest = command.args
        if isinstance(first, Name):
            return self._call(first, command, rest, dot, final)
        if rest or final is not _NONE:
            if isinstance(first, Fields) and first.names:
                *inner, last = first.names
                owner = self._operand(replace(first, names=tuple(inner)), dot)
                reason = "has arguments but cannot be invoked as function"
                if isinstance(owner, dict):
                    reason = "is not a method but has arguments"
                raise self._failed(first, f"{last} {reason}")
            raise self._failed(first, f"can't give argument to non-function {first}")
        if isinstance(first, Literal) and first.value is None:
            raise self._failed(first, "nil is not a command")
        return self._operand(first, dot)

    def _operand(self, operand: Operand, dot: Any) -> Any:
        if isinstance(operand, Literal):
            return operand.value
        if isinstance(operand, Name):
            return self._call(operand, Command((operand,), operand.at), [], dot, _NONE)
        if isinstance(operand.of, Pipeline):
            value = self._pipeline(operand.of, dot)
        elif operand.of:
            value = next(v for name, v in reversed(self._variables) if name == operand.of)
        else:
            value = dot
        for name in operand.names:
            value = self._field(operand, value, name)
        return value

    def _field(self, node: Fields, value: Any, name: str) -> Any:
        if isinstance(value, _Data):
            if name in _Data.__slots__:
                return getattr(value, name)
            raise self._failed(node, f"can't evaluate field {name} in type {_DATA_TYPE}")
        if isinstance(value, dict):
            return value.get(name, None if isinstance(value, Loose) else "")
        if isinstance(value, Sample) and name in ("Labels", "Value"):
            return dict(value.labels) if name == "Labels" else value.value
        if value is None:
            raise self._failed(node, f"nil data; no entry for key {quoted(name)}")
        raise self._failed(node, f"can't evaluate field {name} in type {type_name(value)}")

    # Calls

    def _call(self, name: Name, command: Command, args: list[Operand], dot: Any, final: Any) -> Any:
        self._step()
        if name.name in ("and", "or"):
            return self._logic(name, args, dot, final)
        if name.name == "call":
            raise self._failed(name, "error calling call: there are no functions in data")
        function = FUNCTIONS[name.name]
        number = len(args) + (final is not _NONE)
        least = len(function.takes)
        if number < least or (number > least and not function.rest):
            want = f"at least {least}" if function.rest else str(least)
            raise self._failed(name, f"wrong number of args for {name}: want {want} got {number}")
        values = [self._argument(arg, _taken(function, i), dot) for i, arg in enumerate(args)]
        if final is not _NONE:
            kind = _taken(function, len(args))
            if not fits(kind, final):
                raise self._failed(name, _wrong_type(kind, final))
            values.append(final)
        try:
            return function.call(self._around, *values)
        except CallFailed as failed:
            raise self._failed(command, f"error calling {name}: {failed}") from failed
        except (ValueError, OverflowError) as error:
            raise self._failed(command, f"error calling {name}: {error}") from error

    def _argument(self, arg: Operand, kind: str, dot: Any) -> Any:
        value = self._operand(arg, dot)
        if kind == ANY or fits(kind, value):
            return value
        if isinstance(arg, Literal):
            if value is None:
                raise self._failed(arg, f"cannot assign nil to {kind}")
            if kind == "string":
                raise self._failed(arg, f"expected {kind}; found {arg}")
            raise self._failed(arg, f"can't handle {arg} for arg of type {kind}")
        raise self._failed(arg, _wrong_type(kind, value))

    def _logic(self, name: Name, args: list[Operand], dot: Any, final: Any) -> Any:
        """`and` and `or` look no further than they must."""
        if not args and final is _NONE:
            raise self._failed(name, f"wrong number of args for {name}: want at least 1 got 0")
        value: Any = final
        for arg in args:
            value = self._operand(arg, dot)
            if is_true(value) is (name.name == "or"):
                return value
        return value if final is _NONE else final


@dataclass(frozen=True, slots=True)
class _At:
    """A place that is no node of its own."""

    at: int
    shown: str

    def __str__(self) -> str:
        return self.shown


def _taken(function: Function, place: int) -> str:
    return function.takes[place] if place < len(function.takes) else function.rest


def _wrong_type(kind: str, value: Any) -> str:
    if value is None:
        return f"invalid value; expected {kind}"
    return f"wrong type for value; expected {kind}; got {type_name(value)}"
