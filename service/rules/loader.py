"""The rules file: `alert_rules` and `escalation_policies` in YAML.

A file that is broken never replaces one that was good: `RulesFile` keeps the last good book and
says so in its log, in a metric and through the API.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any, TypeVar

import structlog

from service import telemetry
from service.domain.clock import Clock, SystemClock
from service.domain.errors import InvalidInput
from service.domain.rules import EscalationPolicy, Rule, RuleBook
from service.rules.form import Path, Problem, RuleError, kind, suggest
from service.rules.schema import parse_policy, parse_rule
from service.rules.yaml import BYTES_MAX, Document, YamlProblem, read

T = TypeVar("T")

log = structlog.get_logger(__name__)

_SECTIONS = ("alert_rules", "escalation_policies")
_MEANT = {"rules": "alert_rules", "policies": "escalation_policies"}
_RULES_MAX = 2000

Signature = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FileProblem:
    """One thing that is wrong with a file. Lines and columns count from 1."""

    file: str
    line: int
    column: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.reason}"


class RuleFileError(InvalidInput):
    """A rules file that cannot be taken, with all that is wrong with it."""

    def __init__(self, problems: list[FileProblem]) -> None:
        super().__init__("\n".join(map(str, problems)), where=problems[0].file)
        self.problems = tuple(problems)


class RulesFile:
    """One file. `book` is what is in force; `error` says why the newest file is not."""

    def __init__(self, path: FilePath, cooldown_seconds: float, clock: Clock | None = None) -> None:
        self.path = FilePath(path)
        self.book = RuleBook(source=str(path))
        self.error: str | None = None
        self.error_since: float | None = None
        self._cooldown_seconds = cooldown_seconds
        self._clock = clock or SystemClock()
        self._seen: Signature | None = None
        self._missing = False

    def load(self) -> RuleBook:
        """What the file says now, an empty book if there is none; `RuleFileError`."""
        try:
            with self.path.open("rb") as file:
                raw = file.read(BYTES_MAX + 1)
        except FileNotFoundError:
            return RuleBook(source=str(self.path))
        except OSError as error:
            reason = f"cannot be read: {error.strerror}"
            raise RuleFileError([FileProblem(str(self.path), 1, 1, reason)]) from error
        return parse_file(raw, str(self.path), self._cooldown_seconds)

    async def reload_if_changed(self) -> bool:
        """Take the file if it has changed since the last look; whether another book is in force.

        Never raises for what the file says: `error` has it, and the last good book stays.
        """
        before = self.book
        signature = self._signature()
        if signature is None and self._seen is not None and not self._missing:
            # Editors and mounts replace files; one that is missing once may be on its way.
            self._missing = True
            return False
        self._missing = signature is None
        if signature == self._seen:
            if self.error is None:
                telemetry.RULES_FILE_OK.set(1)
            return False
        self._seen = signature
        try:
            book = await asyncio.to_thread(self.load)
        except RuleFileError as error:
            self.error = str(error)
            self.error_since = self.error_since or self._clock.now()
            telemetry.RULES_FILE_OK.set(0)
            log.error(
                "the rules file is broken; the last good rules stay in force",
                file=str(self.path),
                rules=len(before.rules),
                problems=[str(problem) for problem in error.problems[:20]],
            )
            return False
        if self.error is not None or book != before:
            log.info("rules file taken", file=str(self.path), rules=len(book.rules))
        self.book, self.error, self.error_since = book, None, None
        telemetry.RULES_FILE_OK.set(1)
        return book != before

    def _signature(self) -> Signature | None:
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def parse_file(raw: bytes, source: str, cooldown_seconds: float) -> RuleBook:
    """The book that a file's bytes write; `RuleFileError` has every problem, by line."""
    try:
        if len(raw) > BYTES_MAX:
            raise YamlProblem(f"the file is larger than {BYTES_MAX >> 20} MiB")
        document = read(_text(raw))
    except YamlProblem as problem:
        raise RuleFileError([FileProblem(source, *problem.place, str(problem))]) from problem
    reading = _Reading(document, source, cooldown_seconds)
    book = reading.book()
    if reading.problems:
        raise RuleFileError(sorted(reading.problems, key=lambda p: (p.line, p.column)))
    return book


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        place = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        raise YamlProblem("the file is not UTF-8", place) from error


class _Reading:
    """One pass over a document."""

    def __init__(self, document: Document, source: str, cooldown_seconds: float) -> None:
        self.problems: list[FileProblem] = []
        self._document = document
        self._source = source
        self._cooldown_seconds = cooldown_seconds

    def book(self) -> RuleBook:
        top = self._document.value
        if top is None:
            return RuleBook(source=self._source)
        if not isinstance(top, Mapping):
            sections = " and ".join(_SECTIONS)
            self._note((), f"a rules file has {sections}; this is {kind(top)}")
            return RuleBook()
        for key in top:
            if key not in _SECTIONS:
                meant = _MEANT.get(str(key))
                hint = f"; did you mean {meant!r}?" if meant else suggest(str(key), _SECTIONS)
                self._note((str(key),), f"unknown section {str(key)[:60]!r}{hint}", at_key=True)
        policies = self._section(top, "escalation_policies", parse_policy)
        rules = self._section(top, "alert_rules", self._rule)
        self._check_names(rules, policies)
        return RuleBook(
            tuple(rule for _, rule in rules), tuple(p for _, p in policies), self._source
        )

    def _section(
        self, top: Mapping[Any, Any], name: str, parse: Callable[[object], T]
    ) -> list[tuple[Path, T]]:
        listed = top.get(name)
        if listed is None:
            return []
        if not isinstance(listed, list):
            self._note((name,), f"{name} is a list, not {kind(listed)}")
            return []
        if len(listed) > _RULES_MAX:
            self._note((name,), f"{name} has {len(listed)} entries; {_RULES_MAX} are possible")
            return []
        found: list[tuple[Path, T]] = []
        for i, item in enumerate(listed):
            try:
                found.append(((name, i), parse(item)))
            except RuleError as error:
                called = item.get("name") if isinstance(item, Mapping) else None
                for problem in error.problems:
                    self._note_in((name, i), problem, called)
        return found

    def _rule(self, item: object) -> Rule:
        rule = parse_rule(item, rule_id="", tenant=None, cooldown_seconds=self._cooldown_seconds)
        return replace(rule, id=f"file:{rule.name}")

    def _check_names(
        self, rules: list[tuple[Path, Rule]], policies: list[tuple[Path, EscalationPolicy]]
    ) -> None:
        known: dict[str, Path] = {}
        for path, policy in policies:
            if policy.name in known:
                self._note((*path, "name"), f"there is a policy {policy.name!r} already")
            known.setdefault(policy.name, path)
        seen: dict[str, dict[str | None, int]] = {}
        for path, rule in rules:
            others = seen.setdefault(rule.name, {})
            # A rule for every tenant holds beside the one for a single tenant.
            clash = others if rule.tenant is None else {None, rule.tenant} & others.keys()
            if clash:
                line = others[next(iter(clash))]
                reason = f"name: there is a rule {rule.name!r} already, in line {line}"
                self._note((*path, "name"), reason)
            others.setdefault(rule.tenant, self._document.place((*path, "name"))[0])
            if rule.escalation is not None and rule.escalation not in known:
                hint = suggest(rule.escalation, known)
                reason = f"escalation: there is no policy {rule.escalation!r}{hint}"
                self._note((*path, "escalation"), reason)

    def _note_in(self, path: Path, problem: Problem, called: object) -> None:
        about = f"rule {called!r}: " if isinstance(called, str) and path[0] == _SECTIONS[0] else ""
        self._note((*path, *problem.path), f"{about}{problem}", at_key=problem.at_key)

    def _note(self, path: Path, reason: str, *, at_key: bool = False) -> None:
        line, column = self._document.place(path, at_key=at_key)
        self.problems.append(FileProblem(self._source, line, column, reason))
