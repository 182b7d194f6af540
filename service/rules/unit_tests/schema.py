"""promtool's unit-test files: what they say, read strictly and with the place of every error."""

import re
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from service.domain.durations import duration_ms
from service.domain.errors import InvalidInput
from service.domain.series import LabelPairs
from service.rules.strict_yaml import (
    Fields,
    Reader,
    Value,
    flag,
    number,
    read_yaml,
)
from service.rules.unit_tests.notation import labels_of, values_of
from service.storage.columns import Columns

BYTES_MAX = 64 << 20
_MINUTE_MS = 60_000

_FILE = ("rule_files", "evaluation_interval", "group_eval_order", "tests", "fuzzy_compare")
_GROUP = (
    *("name", "interval", "input_series", "alert_rule_test", "promql_expr_test"),
    *("external_labels", "external_url", "start_timestamp"),
)


@dataclass(frozen=True, slots=True)
class ExpectedSample:
    """One sample that an expression should give."""

    labels: LabelPairs
    value: float


@dataclass(frozen=True, slots=True)
class ExpectedAlert:
    """One alert that should fire; the labels without its name."""

    labels: dict[str, str]
    annotations: dict[str, str]


@dataclass(frozen=True, slots=True)
class ExprCase:
    """An expression and what it should give at a time after the start.

    `problem` says why it cannot be asked, if it cannot. `at` is the time as it was written.
    """

    expr: str
    eval_ms: int
    at: str
    expected: tuple[ExpectedSample, ...]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class AlertCase:
    """An alert and how it should fire at a time after the start."""

    alertname: str
    eval_ms: int
    at: str
    expected: tuple[ExpectedAlert, ...]


@dataclass(frozen=True, slots=True)
class TestGroup:
    """Series, and cases over them. `problem` says why the series cannot be loaded."""

    name: str
    start_ms: int
    series: tuple[tuple[LabelPairs, Columns], ...]
    exprs: tuple[ExprCase, ...]
    alerts: tuple[AlertCase, ...]
    external_labels: dict[str, str] = field(default_factory=dict)
    external_url: str = ""
    problem: str = ""

    @property
    def last_ms(self) -> int:
        """The latest time of a case, after the start."""
        times = [case.eval_ms for case in self.exprs] + [case.eval_ms for case in self.alerts]
        return max(times, default=0)


@dataclass(frozen=True, slots=True)
class TestFile:
    """One file. Rule files are patterns, as they were written."""

    path: str
    rule_files: tuple[str, ...]
    evaluation_ms: int
    group_order: tuple[str, ...]
    fuzzy: bool
    groups: tuple[TestGroup, ...]


def parse_test_file(raw: bytes, path: str) -> TestFile:
    """What a file's bytes say; `RuleFileError` has every problem, by line and column."""
    reader = Reader(path)
    top = reader.fields(read_yaml(raw, path, BYTES_MAX), "a unit-test file", _FILE)
    values = top.values
    interval = reader.take(
        values.get("evaluation_interval"), "evaluation_interval", duration_ms, _MINUTE_MS
    )
    order: list[str] = []
    for item in reader.items(values.get("group_eval_order"), "group_eval_order"):
        name = reader.text(item, "group_eval_order")
        if name in order:
            reader.wrong(item.place, f"group name repeated in evaluation order: {name}")
        order.append(name)
    file = TestFile(
        path,
        tuple(
            reader.text(item, "rule_files")
            for item in reader.items(values.get("rule_files"), "rule_files")
        ),
        interval or _MINUTE_MS,
        tuple(order),
        reader.take(values.get("fuzzy_compare"), "fuzzy_compare", flag, False),
        tuple(
            _group(reader, item, i, interval or _MINUTE_MS)
            for i, item in enumerate(reader.items(values.get("tests"), "tests"))
        ),
    )
    reader.finish()
    return file


def _group(reader: Reader, item: Value, place: int, interval_ms: int) -> TestGroup:
    values = reader.fields(item, "a test", _GROUP).values
    own = reader.take(values.get("interval"), "interval", duration_ms, 0)
    start = reader.take(values.get("start_timestamp"), "start_timestamp", _timestamp, 0)
    series: dict[LabelPairs, Columns] = {}
    problem = ""
    for one in reader.items(values.get("input_series"), "input_series"):
        given = reader.fields(one, "an input series", ("series", "values"))
        try:
            labels, columns = _series(reader, given, own or interval_ms, start)
            series[labels] = columns
        except InvalidInput as error:
            line, column = given.values.get("values", one).place
            problem = problem or f"{reader.source}:{line}:{column}: {error}"
    return TestGroup(
        reader.text(values.get("name"), "name") or f"unnamed#{place}",
        start,
        tuple(series.items()),
        tuple(
            _expr(reader, case)
            for case in reader.items(values.get("promql_expr_test"), "promql_expr_test")
        ),
        tuple(
            _alert(reader, case)
            for case in reader.items(values.get("alert_rule_test"), "alert_rule_test")
        ),
        reader.texts(values.get("external_labels"), "external_labels"),
        reader.text(values.get("external_url"), "external_url"),
        problem,
    )


def _series(
    reader: Reader, given: Fields, interval_ms: int, start_ms: int
) -> tuple[LabelPairs, Columns]:
    labels = labels_of(reader.text(given.values.get("series"), "series"))
    values, there = values_of(reader.text(given.values.get("values"), "values"))
    places = np.flatnonzero(there)
    return labels, Columns(start_ms + interval_ms * places.astype(np.int64), values[places])


def _expr(reader: Reader, item: Value) -> ExprCase:
    values = reader.fields(
        item, "an item of promql_expr_test", ("expr", "eval_time", "exp_samples")
    ).values
    expected: list[ExpectedSample] = []
    problem = ""
    for one in reader.items(values.get("exp_samples"), "exp_samples"):
        given = reader.fields(one, "a sample", ("labels", "value", "histogram"))
        if reader.text(given.values.get("histogram"), "histogram"):
            line, column = given.keys["histogram"]
            problem = (
                f"{reader.source}:{line}:{column}: native histograms (histogram: …) are not "
                "supported in exp_samples"
            )
        try:
            labels = labels_of(reader.text(given.values.get("labels"), "labels"))
        except InvalidInput as error:
            line, column = given.values.get("labels", one).place
            problem = problem or f"{reader.source}:{line}:{column}: labels: {error}"
            continue
        value = reader.take(given.values.get("value"), "value", number, 0.0)
        expected.append(ExpectedSample(labels, value))
    at = reader.text(values.get("eval_time"), "eval_time") or "0s"
    return ExprCase(
        reader.text(values.get("expr"), "expr"),
        reader.take(values.get("eval_time"), "eval_time", duration_ms, 0),
        at,
        tuple(expected),
        problem,
    )


def _alert(reader: Reader, item: Value) -> AlertCase:
    fields = reader.fields(
        item, "an item of alert_rule_test", ("alertname", "eval_time", "exp_alerts")
    )
    values = fields.values
    name = reader.text(values.get("alertname"), "alertname")
    if not name:
        reader.wrong(
            fields.place, "an item under alert_rule_test misses required attribute alertname"
        )
    expected: list[ExpectedAlert] = []
    for one in reader.items(values.get("exp_alerts"), "exp_alerts"):
        given = reader.fields(one, "an alert", ("exp_labels", "exp_annotations")).values
        expected.append(
            ExpectedAlert(
                reader.texts(given.get("exp_labels"), "exp_labels"),
                reader.texts(given.get("exp_annotations"), "exp_annotations"),
            )
        )
    return AlertCase(
        name,
        reader.take(values.get("eval_time"), "eval_time", duration_ms, 0),
        reader.text(values.get("eval_time"), "eval_time") or "0s",
        tuple(expected),
    )


def _timestamp(text: str) -> int:
    """Milliseconds of Unix seconds or RFC 3339."""
    if re.fullmatch(r"[-+]?\d+(\.\d*)?", text, re.ASCII):
        return round(float(text) * 1000)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidInput(f"cannot parse {text[:60]!r} to a valid timestamp")
    return round(moment.timestamp() * 1000)
