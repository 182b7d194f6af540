"""Runs unit-test files: what promtool does with them, with the semantics of Prometheus 3."""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.domain.durations import format_duration
from service.domain.errors import InvalidInput, Unavailable
from service.query.promql.evaluate import Settings
from service.query.promql.literal import Literal
from service.query.promql.parse import parse
from service.rules.asking import instant
from service.rules.groups import BYTES_MAX, GroupRule, RuleGroup, groups_of
from service.rules.loader import FileProblem, RuleFileError, parse_file
from service.rules.rewriting import expr_of
from service.rules.strict_yaml import Fields, read_yaml
from service.rules.unit_tests.comparison import (
    Closeness,
    alerts_difference,
    samples_difference,
)
from service.rules.unit_tests.evaluation import Evaluation, RuleFailure
from service.rules.unit_tests.schema import (
    BYTES_MAX as TEST_BYTES_MAX,
)
from service.rules.unit_tests.schema import (
    AlertCase,
    ExprCase,
    TestFile,
    TestGroup,
    parse_test_file,
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one case; `difference` says why it failed. A file's own has no name."""

    file: str
    name: str
    passed: bool
    difference: str = ""


@dataclass(frozen=True, slots=True)
class FileReport:
    """What became of one file, and what is worth a word though nothing failed by it."""

    file: str
    outcomes: tuple[Outcome, ...]
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every case did."""
        return all(outcome.passed for outcome in self.outcomes)


def run_files(paths: Sequence[Path], tolerance: float | None = None) -> Iterator[FileReport]:
    """Each file's report, in order. One that is broken stops no other."""
    rules = _RuleFiles()
    for path in paths:
        yield run_file(path, tolerance, rules)


def run_file(
    path: Path, tolerance: float | None = None, rules: "_RuleFiles | None" = None
) -> FileReport:
    """The report of one file; `tolerance` is relative, None leaves it to the file."""
    name = str(path)
    try:
        file = parse_test_file(_bytes(path, TEST_BYTES_MAX), name)
    except RuleFileError as error:
        return FileReport(name, (Outcome(name, "", False, str(error)),))
    notes: list[str] = []
    problem = ""
    groups: list[RuleGroup] = []
    try:
        groups = (rules or _RuleFiles()).groups(file, notes)
    except RuleFileError as error:
        problem = str(error)
    closeness = Closeness(tolerance, file.fuzzy)
    outcomes: list[Outcome] = []
    named: dict[str, int] = {}
    for group in file.groups:
        for label, difference in _run(file, group, groups, closeness, problem):
            number = named[label] = named.get(label, 0) + 1
            unique = label if number == 1 else f"{label} ({number})"
            outcomes.append(Outcome(name, unique, not difference, difference))
    if problem and not outcomes:
        outcomes.append(Outcome(name, "", False, problem))
    return FileReport(name, tuple(outcomes), tuple(notes))


def _run(
    file: TestFile,
    group: TestGroup,
    groups: Sequence[RuleGroup],
    closeness: Closeness,
    problem: str,
) -> Iterator[tuple[str, str]]:
    """Each case's name, and what is different from what it expects."""
    alerts = [f"{group.name}: alert {case.alertname} at {case.at}" for case in group.alerts]
    exprs = [f"{group.name}: {case.expr.strip()} at {case.at}" for case in group.exprs]
    problem = problem or group.problem
    if problem:
        yield from ((label, problem) for label in (*alerts, *exprs))
        return
    step = file.evaluation_ms
    settings = Settings(subquery_step_ms=step)
    source = Literal(group.series)
    run = Evaluation(groups, source, settings, group.external_labels, group.external_url)
    # A case sees the alerts of the evaluation before it, or of its own time.
    due: dict[int, list[int]] = {}
    for i, case in enumerate(group.alerts):
        due.setdefault(case.eval_ms // step * step, []).append(i)
    last = group.last_ms // step * step
    said: dict[int, str] = {}
    failed = ""
    for after in range(0, last + 1, step) if groups else sorted(due):
        source.until_ms = group.start_ms + after
        failures = run.at(group.start_ms + after)
        if failures:
            failed = "\n".join(_failure(group, one) for one in failures)
            break
        for i in due.get(after, ()):
            said[i] = _alert_difference(run, group.alerts[i])
    yield from ((label, said.get(i, failed)) for i, label in enumerate(alerts))
    # What comes after the last evaluation has not been loaded, as with promtool.
    source.until_ms = group.start_ms + last
    for label, expr in zip(exprs, group.exprs, strict=True):
        yield label, failed or _expr_difference(expr, source, group, settings, closeness)


def _failure(group: TestGroup, failure: RuleFailure) -> str:
    after = (failure.t_ms - group.start_ms) / 1000
    return f"rule {failure.rule} failed at {format_duration(after)}: {failure.reason}"


def _alert_difference(run: Evaluation, case: AlertCase) -> str:
    found = [(dict(alert.labels), alert.annotations) for alert in run.firing(case.alertname)]
    expected = [
        ({**alert.labels, "alertname": case.alertname}, alert.annotations)
        for alert in case.expected
    ]
    return alerts_difference(expected, found)


def _expr_difference(
    case: ExprCase, source: Literal, group: TestGroup, settings: Settings, closeness: Closeness
) -> str:
    if case.problem:
        return case.problem
    try:
        found = instant(parse(case.expr), source, group.start_ms + case.eval_ms, settings)
    except (InvalidInput, Unavailable) as error:
        return f"error: {error}"
    expected = [(sample.labels, sample.value) for sample in case.expected]
    return samples_difference(expected, found, closeness)


class _RuleFiles:
    """Rule files by path, each read once."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[RuleGroup, ...] | RuleFileError] = {}

    def groups(self, file: TestFile, notes: list[str]) -> list[RuleGroup]:
        """The groups that a test file names, in the order of their evaluation; `RuleFileError`."""
        folder = Path(file.path).parent
        paths: dict[Path, None] = {}
        for pattern in file.rule_files:
            found = sorted(glob.glob(str(folder / pattern)))
            if not found:
                notes.append(f"no file match pattern {folder / pattern}")
            paths.update(dict.fromkeys(map(Path, found)))
        groups: list[RuleGroup] = []
        problems: list[FileProblem] = []
        for path in paths:
            if path not in self._known:
                self._known[path] = _read(path)
            read = self._known[path]
            if isinstance(read, RuleFileError):
                problems += read.problems
            else:
                groups += read
        if problems:
            raise RuleFileError(problems)
        order = {name: i for i, name in enumerate(file.group_order)}
        return sorted(groups, key=lambda group: order.get(group.name, 0))


def _read(path: Path) -> tuple[RuleGroup, ...] | RuleFileError:
    source = str(path)
    try:
        raw = _bytes(path, BYTES_MAX)
        document = read_yaml(raw, source, BYTES_MAX)
        if isinstance(document, Fields) and "alert_rules" in document.values:
            return (_own(raw, source),)
        return groups_of(document, source)
    except RuleFileError as error:
        return error


def _own(raw: bytes, source: str) -> RuleGroup:
    """A rules file of ours as one group, each rule as the expression that it is."""
    book = parse_file(raw, source, 0.0)
    rules = [
        GroupRule(
            parse(expr_of(rule)),
            expr_of(rule),
            alert=rule.name,
            for_ms=round(1000 * rule.for_seconds),
            labels=rule.labels,
            annotations=rule.annotations,
        )
        for rule in book.rules
        if rule.enabled
    ]
    return RuleGroup(Path(source).stem, tuple(rules), source)


def _bytes(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(most + 1)
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
        raise RuleFileError([FileProblem(str(path), 1, 1, reason)]) from error
