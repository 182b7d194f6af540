"""Templates as text and the tokens of actions."""

import re
from dataclasses import dataclass

from service.domain.errors import InvalidInput
from service.rules.go_format import quoted


class TemplateProblem(InvalidInput):
    """What is wrong with a template, as Go says it."""


_TOKEN = re.compile(
    r"""(?P<space>[\ \t\r\n]+)
    |(?P<string>"(?:\\.|[^"\\\n])*"|`[^`]*`)
    |(?P<char>'(?:\\.|[^'\\\n])*')
    |(?P<number>[-+]?(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+
        |(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][-+]?\d+)?))(?![\w.])
    |(?P<field>\.[^\W\d]\w*)
    |(?P<variable>\$\w*)
    |(?P<word>[^\W\d]\w*)
    |(?P<sign>:=|=|\||\(|\)|,|\.)""",
    re.VERBOSE,
)
_COMMENT = re.compile(r"\{\{(?:- )?/\*.*?\*/(?: -)?\}\}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Token:
    """One piece of an action, and where it stands. White space counts."""

    kind: str
    text: str
    at: int


class Lexer:
    """Walks over a template. `tokens` are what is left of the action that is open."""

    def __init__(self, name: str, text: str) -> None:
        self.tokens: list[Token] = []
        self.line = 1
        self._name = name
        self._text = text
        self._at = 0  # where text goes on
        self._trim = False

    @property
    def at(self) -> int:
        """How far it is."""
        return self._at

    @property
    def is_done(self) -> bool:
        """Whether nothing is left."""
        return self._at >= len(self._text)

    def problem(self, reason: str) -> TemplateProblem:
        """What is wrong in this line."""
        return TemplateProblem(f"template: {self._name}:{self.line}: {reason}")

    def text_upto_action(self) -> str:
        """Text up to the next action, trimmed as actions ask."""
        begin = self._at
        end = self._text.find("{{", begin)
        text = self._text[begin:] if end < 0 else self._text[begin:end]
        self._at = len(self._text) if end < 0 else end
        if self._trim:
            text = text.lstrip(" \t\r\n")
            self._trim = False
        if (
            end >= 0
            and self._text[end + 2 : end + 3] == "-"
            and self._text[end + 3 : end + 4] in (*" \t\r\n",)
        ):
            text = text.rstrip(" \t\r\n")
        return text

    def open_action(self) -> bool:
        """Take the tokens of the action that begins here; whether it is one and no comment."""
        self.line = 1 + self._text.count("\n", 0, self._at)
        comment = _COMMENT.match(self._text, self._at)
        if comment is not None:
            self._trim = comment[0].endswith(" -}}")
            self._at = comment.end()
            return False
        at = self._at + 2
        if self._text[at : at + 1] == "-" and self._text[at + 1 : at + 2].isspace():
            at += 1
        if self._text.startswith("/*", at):
            raise self.problem("unclosed comment")
        self.tokens = []
        while True:
            if self._text.startswith("}}", at):
                self._at = at + 2
                break
            found = _TOKEN.match(self._text, at)
            if found is None:
                raise self._unlexed(at)
            kind = found.lastgroup or ""
            at = found.end()
            if kind == "space":
                if self._text.startswith("-}}", at):
                    self._trim = True
                    self._at = at + 3
                    break
                self.tokens.append(Token("space", " ", found.start()))
            else:
                self.tokens.append(Token(kind, found[0], found.start()))
        while self.tokens and self.tokens[-1].kind == "space":
            self.tokens.pop()
        while self.tokens and self.tokens[0].kind == "space":
            self.tokens.pop(0)
        if not self.tokens:
            raise self.problem("missing value for command")
        return True

    def _unlexed(self, at: int) -> TemplateProblem:
        if at >= len(self._text):
            return self.problem("unclosed action")
        char = self._text[at]
        if char == "\n":
            return self.problem("unclosed action")
        if char in "\"'`":
            what = {'"': "quoted string", "'": "character constant", "`": "raw quoted string"}[char]
            return self.problem(f"unterminated {what}")
        word = re.match(r"[-+.\w]+", self._text[at:])
        if char.isdigit() and word is not None:
            return self.problem(f'bad number syntax: "{word[0]}"')
        return self.problem(f"unexpected {quoted(char)} in command")
