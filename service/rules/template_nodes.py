"""What a template is made of, from text to nodes that know where they stand."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Text:
    """Text outside of actions."""

    text: str


@dataclass(frozen=True, slots=True)
class Literal:
    """A number, text, flag or `nil`; `shown` is how it was written."""

    value: Any
    shown: str
    at: int

    def __str__(self) -> str:
        return self.shown


@dataclass(frozen=True, slots=True)
class Name:
    """A function."""

    name: str
    at: int

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Fields:
    """`.A.B` of the dot, `$x.A` of a variable, or `(pipeline).A` of what stands in brackets.

    Without names it is the dot, the variable or the value in brackets itself.
    """

    of: "str | Pipeline"
    names: tuple[str, ...]
    at: int

    def __str__(self) -> str:
        inner = f"({self.of})" if isinstance(self.of, Pipeline) else self.of
        text = inner + "".join(f".{name}" for name in self.names)
        return text or "."


Operand = Literal | Name | Fields


@dataclass(frozen=True, slots=True)
class Command:
    """An operand with its arguments."""

    args: tuple[Operand, ...]
    at: int

    def __str__(self) -> str:
        return " ".join(map(str, self.args))


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Commands, each with the result of the one before as its last argument."""

    commands: tuple[Command, ...]
    at: int
    names: tuple[str, ...] = ()
    assigns: bool = False

    def __str__(self) -> str:
        text = " | ".join(map(str, self.commands))
        sign = "=" if self.assigns else ":="
        return f"{', '.join(self.names)} {sign} {text}" if self.names else text


@dataclass(frozen=True, slots=True)
class Action:
    """A pipeline whose value is written, unless it only sets a variable."""

    pipe: Pipeline


@dataclass(frozen=True, slots=True)
class Branch:
    """`if`, `range` or `with`."""

    kind: str
    pipe: Pipeline
    body: "tuple[Node, ...]"
    otherwise: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Include:
    """`template "name" pipeline`."""

    name: str
    pipe: Pipeline | None
    at: int


@dataclass(frozen=True, slots=True)
class Leave:
    """`break` or `continue`."""

    kind: str


Node = Text | Action | Branch | Include | Leave


@dataclass(frozen=True, slots=True)
class Template:
    """The nodes of a text, and those that it defines by name."""

    name: str
    text: str
    nodes: tuple[Node, ...]
    defined: dict[str, tuple[Node, ...]] = field(default_factory=dict)
