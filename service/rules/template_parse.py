"""Go's text templates, from text to nodes.

The language of `text/template`: actions in `{{ }}`, pipelines, variables, `if`, `range`, `with`,
`define`, `template` and `block`. Every node knows where it stands, for errors.
"""

import re
from collections.abc import Collection

from service.domain.errors import InvalidInput
from service.rules.go_format import quoted, unquoted
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
from service.rules.template_tokens import Lexer, Token

#: Blocks and brackets that may be open at once.
DEPTH_MAX = 50
#: The most that a number of 64 bits takes, with its sign and `0b`.
_DIGITS_MAX = 67

_KEYWORDS = frozenset(
    {"block", "break", "continue", "define", "else", "end", "if", "nil", "range", "template"}
    | {"true", "false", "with"}
)


def parse_template(name: str, text: str, functions: Collection[str]) -> Template:
    """The template that `text` writes; `TemplateProblem`."""
    return _Parser(name, text, functions).template()


class _Parser:
    def __init__(self, name: str, text: str, functions: Collection[str]) -> None:
        self._name = name
        self._text = text
        self._functions = functions
        self._lexer = Lexer(name, text)
        self._depth = 0
        self._loops = 0
        self._variables = ["$"]
        self._defined: dict[str, tuple[Node, ...]] = {}

    def template(self) -> Template:
        nodes, ending = self._nodes(top=True)
        if ending:
            raise self._lexer.problem(f"unexpected {{{{{ending}}}}}")
        return Template(self._name, self._text, nodes, self._defined)

    # Text and actions

    def _nodes(self, *, top: bool = False) -> tuple[tuple[Node, ...], str]:
        """Nodes up to `end` or `else`, and which of them it is; nothing at the end of the text."""
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise self._lexer.problem(f"more than {DEPTH_MAX} blocks and brackets are open")
        nodes: list[Node] = []
        ending = ""
        while True:
            text = self._lexer.text_upto_action()
            if text:
                nodes.append(Text(text))
            if self._lexer.is_done:
                if not top:
                    raise self._lexer.problem("unexpected EOF")
                break
            if not self._lexer.open_action():
                continue
            word = self._lexer.tokens[0].text if self._lexer.tokens[0].kind == "word" else ""
            if word in ("end", "else"):
                self._lexer.tokens.pop(0)
                ending = word
                break
            node = self._action(word, top=top)
            if node is not None:
                nodes.append(node)
        self._depth -= 1
        return tuple(nodes), ending

    # What an action may be

    def _action(self, word: str, *, top: bool) -> Node | None:
        if word in ("if", "range", "with"):
            self._lexer.tokens.pop(0)
            return self._branch(word)
        if word in ("define", "block", "template"):
            self._lexer.tokens.pop(0)
            if word == "define":
                if not top:
                    raise self._lexer.problem("unexpected <define> in command")
                self._define()
                return None
            return self._include(word)
        if word in ("break", "continue"):
            if not self._loops:
                raise self._lexer.problem(f"{{{{{word}}}}} outside {{{{range}}}}")
            self._lexer.tokens.pop(0)
            self._closed(word)
            return Leave(word)
        pipe = self._pipeline("command", declares=True)
        self._closed("command")
        return Action(pipe)

    def _closed(self, where: str) -> None:
        self._skip()
        if self._lexer.tokens:
            raise self._lexer.problem(f"unexpected {_shown(self._lexer.tokens[0])} in {where}")

    def _branch(self, kind: str) -> Branch:
        variables = len(self._variables)
        pipe = self._pipeline(kind, declares=True)
        self._closed(kind)
        self._loops += kind == "range"
        body, ending = self._nodes()
        self._loops -= kind == "range"
        otherwise: tuple[Node, ...] = ()
        if ending == "else":
            self._skip()
            # `else if` and `else with` stand for one within the other, with a single end.
            if kind != "range" and self._lexer.tokens and self._lexer.tokens[0].text == kind:
                self._lexer.tokens.pop(0)
                self._depth += 1
                otherwise = (self._branch(kind),)
                self._depth -= 1
                del self._variables[variables:]
                return Branch(kind, pipe, body, otherwise)
            self._closed("else")
            otherwise, ending = self._nodes()
            if ending == "else":
                raise self._lexer.problem("expected end; found {{else}}")
        self._closed("end")
        del self._variables[variables:]
        return Branch(kind, pipe, body, otherwise)

    def _define(self) -> None:
        name = self._string("define clause")
        self._closed("define clause")
        outer, self._variables = self._variables, ["$"]
        nodes, ending = self._nodes()
        self._variables = outer
        if ending == "else":
            raise self._lexer.problem("unexpected {{else}} in define clause")
        self._closed("end")
        self._defined[name] = nodes

    def _include(self, word: str) -> Include:
        self._skip()
        at = self._lexer.tokens[0].at if self._lexer.tokens else self._lexer.at
        name = self._string(f"{word} clause")
        self._skip()
        pipe = self._pipeline(f"{word} clause") if self._lexer.tokens else None
        self._closed(f"{word} clause")
        if word == "block":
            outer, self._variables = self._variables, ["$"]
            nodes, ending = self._nodes()
            self._variables = outer
            if ending == "else":
                raise self._lexer.problem("unexpected {{else}} in block clause")
            self._closed("end")
            self._defined[name] = nodes
        return Include(name, pipe, at)

    def _string(self, where: str) -> str:
        self._skip()
        if not self._lexer.tokens or self._lexer.tokens[0].kind != "string":
            found = _shown(self._lexer.tokens[0]) if self._lexer.tokens else '"}}"'
            raise self._lexer.problem(f"unexpected {found} in {where}")
        return self._unquoted(self._lexer.tokens.pop(0))

    # Pipelines

    def _skip(self) -> None:
        while self._lexer.tokens and self._lexer.tokens[0].kind == "space":
            self._lexer.tokens.pop(0)

    def _is_next(self, sign: str) -> bool:
        tokens = self._lexer.tokens
        return bool(tokens) and tokens[0].kind == "sign" and tokens[0].text == sign

    def _pipeline(self, where: str, *, declares: bool = False) -> Pipeline:
        self._skip()
        at = self._lexer.tokens[0].at if self._lexer.tokens else self._lexer.at
        names, assigns = self._declared(where) if declares else ((), False)
        commands: list[Command] = []
        while True:
            self._skip()
            if not commands and self._is_next("|"):
                raise self._lexer.problem(f'unexpected "|" in {where}')
            commands.append(self._command(where))
            self._skip()
            if (
                self._lexer.tokens
                and self._lexer.tokens[0].text == "|"
                and self._lexer.tokens[0].kind == "sign"
            ):
                self._lexer.tokens.pop(0)
                self._skip()
                if not self._lexer.tokens:
                    raise self._lexer.problem(f"missing value for {where}")
                continue
            break
        for number, command in enumerate(commands[1:], 2):
            first = command.args[0]
            if isinstance(first, Literal) or (isinstance(first, Fields) and not first.names
                    and first.of == ""):  # fmt: skip
                raise self._lexer.problem(f"non executable command in pipeline stage {number}")
        self._variables += () if assigns else names
        return Pipeline(tuple(commands), at, names, assigns)

    def _declared(self, where: str) -> tuple[tuple[str, ...], bool]:
        """The variables that a pipeline sets, and whether they were there before."""
        rest = [token for token in self._lexer.tokens if token.kind != "space"]
        names: list[str] = []
        for i in range(0, len(rest) - 1, 2):
            if rest[i].kind != "variable":
                break
            names.append(rest[i].text)
            sign = rest[i + 1].text
            if sign == "," and where == "range" and len(names) < 2:
                continue
            if sign not in (":=", "="):
                break
            last = rest[i + 1]
            self._lexer.tokens = self._lexer.tokens[self._lexer.tokens.index(last) + 1 :]
            return tuple(names), sign == "="
        if len(rest) > 1 and rest[0].kind == "variable" and rest[1].text == ",":
            raise self._lexer.problem(f"too many declarations in {where}")
        return (), False

    def _check_variable(self, name: str) -> None:
        if name not in self._variables:
            raise self._lexer.problem(f"undefined variable {quoted(name)}")

    def _command(self, where: str) -> Command:
        at = self._lexer.tokens[0].at if self._lexer.tokens else self._lexer.at
        args: list[Operand] = []
        while self._lexer.tokens:
            token = self._lexer.tokens[0]
            if token.kind == "space":
                self._lexer.tokens.pop(0)
                continue
            if token.kind == "sign" and token.text in ("|", ")"):
                break
            args.append(self._operand(where))
            after = self._lexer.tokens[0] if self._lexer.tokens else None
            if after is not None and after.kind != "space" and after.text not in ("|", ")"):
                raise self._lexer.problem(f"unexpected {_shown(after)} in operand")
        if not args:
            raise self._lexer.problem(
                f"missing value for {where}" if not self._lexer.tokens else "empty command"
            )
        return Command(tuple(args), at)

    def _operand(self, where: str) -> Operand:
        token = self._lexer.tokens.pop(0)
        if token.kind == "field":
            return self._chained("", [token.text[1:]], token.at)
        if token.kind == "variable":
            self._check_variable(token.text)
            return self._chained(token.text, [], token.at)
        if token.text == "." and token.kind == "sign":
            return self._chained("", [], token.at)
        if token.text == "(" and token.kind == "sign":
            return self._chained(self._bracket(), [], token.at)
        literal = self._literal(token)
        if literal is not None:
            if self._lexer.tokens and self._lexer.tokens[0].kind == "field":
                raise self._lexer.problem(f"unexpected . after term {quoted(literal.shown)}")
            return literal
        if token.kind == "word" and token.text not in _KEYWORDS:
            if token.text not in self._functions:
                raise self._lexer.problem(f"function {quoted(token.text)} not defined")
            name = Name(token.text, token.at)
            if self._lexer.tokens and self._lexer.tokens[0].kind == "field":
                command = Command((name,), token.at)
                return self._chained(Pipeline((command,), token.at), [], token.at)
            return name
        raise self._lexer.problem(f"unexpected {_shown(token)} in {where}")

    def _bracket(self) -> Pipeline:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise self._lexer.problem(f"more than {DEPTH_MAX} blocks and brackets are open")
        pipe = self._pipeline("parenthesized pipeline")
        if not self._is_next(")"):
            raise self._lexer.problem("unclosed left paren")
        self._lexer.tokens.pop(0)
        self._depth -= 1
        return pipe

    def _chained(self, of: "str | Pipeline", names: list[str], at: int) -> Fields:
        # Go says that such a chain stands where its second part does.
        if self._lexer.tokens and self._lexer.tokens[0].kind == "field":
            at = self._lexer.tokens[0].at
        while self._lexer.tokens and self._lexer.tokens[0].kind == "field":
            names.append(self._lexer.tokens.pop(0).text[1:])
        return Fields(of, tuple(names), at)

    def _literal(self, token: Token) -> Literal | None:
        if token.kind == "string":
            return Literal(self._unquoted(token), token.text, token.at)
        if token.kind == "number":
            number = _number(token.text)
            if number is None:
                raise self._lexer.problem(f"integer overflow: {quoted(token.text)}")
            return Literal(number, token.text, token.at)
        if token.kind == "char":
            char = self._unquoted(Token("char", f'"{token.text[1:-1]}"', token.at))
            if len(char) != 1:
                raise self._lexer.problem("invalid syntax")
            return Literal(ord(char), token.text, token.at)
        if token.kind == "word" and token.text in ("true", "false", "nil"):
            value = None if token.text == "nil" else token.text == "true"
            return Literal(value, token.text, token.at)
        return None

    def _unquoted(self, token: Token) -> str:
        try:
            return unquoted(token.text)
        except InvalidInput as error:
            raise self._lexer.problem("invalid syntax") from error


def _number(text: str) -> int | float | None:
    """The number that a text writes; None for a whole one that is none of Go's."""
    digits = text.replace("_", "")
    prefixed = re.fullmatch(r"[-+]?0[xXbBoO][0-9a-fA-F]+", digits)
    if prefixed is None and re.search(r"[.eE]", digits):
        return float(digits)
    if len(digits) > _DIGITS_MAX:
        return None
    octal = re.fullmatch(r"[-+]?0[0-7]+", digits)
    number = int(digits, 0 if prefixed else 8 if octal else 10)
    return number if -(1 << 63) <= number < 1 << 64 else None


def _shown(token: Token) -> str:
    return (
        f"<{token.text}>"
        if token.kind == "word" and token.text in _KEYWORDS
        else quoted(token.text)
    )
