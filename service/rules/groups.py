"""Prometheus' rule files: groups of rules that record series or raise alerts.

Read as Prometheus reads them: what it refuses is refused, with line and column. A rules file of
ours (`alert_rules`) is read by `service.rules.loader`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from service.domain.durations import duration_ms
from service.domain.errors import InvalidInput
from service.domain.series import NAME
from service.query.promql.expressions import Expr, Number
from service.query.promql.parse import parse
from service.rules.strict_yaml import Fields, Reader, Value, whole
from service.rules.template_tokens import TemplateProblem
from service.rules.templates import check_template

BYTES_MAX = 16 << 20

_GROUP = (
    *("name", "interval", "query_offset", "limit", "labels", "rules"),
    *("evaluation_delay", "source_tenants", "align_evaluation_time_on_interval"),  # Mimir's
)
_RULE = ("record", "alert", "expr", "for", "keep_firing_for", "labels", "annotations")


@dataclass(frozen=True, slots=True)
class GroupRule:
    """One rule: `record` names the series that it writes, or `alert` the alert that it raises."""

    expr: Expr
    text: str
    record: str = ""
    alert: str = ""
    for_ms: int = 0
    keep_firing_ms: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What it records, or how its alert is called."""
        return self.record or self.alert


@dataclass(frozen=True, slots=True)
class RuleGroup:
    """Rules that are evaluated one after the other, at the same times.

    `interval_ms` is None where the default holds. A rule of more than `limit` results fails; 0 is
    no limit. Labels of the group are those of each of its rules already.
    """

    name: str
    rules: tuple[GroupRule, ...]
    file: str = ""
    interval_ms: int | None = None
    query_offset_ms: int = 0
    limit: int = 0


def groups_of(document: Value | None, source: str) -> tuple[RuleGroup, ...]:
    """The groups of a document; `RuleFileError`."""
    reader = Reader(source)
    top = reader.fields(document, "a rule file", ("groups",))
    groups: list[RuleGroup] = []
    for item in reader.items(top.values.get("groups"), "groups"):
        group = _group(reader, item)
        if any(group.name == other.name for other in groups):
            reader.wrong(item.place, f'groupname: "{group.name}" is repeated in the same file')
        groups.append(group)
    reader.finish()
    return tuple(groups)


def _group(reader: Reader, item: Value) -> RuleGroup:
    given = reader.fields(item, "a group", _GROUP)
    values = given.values
    name = reader.text(values.get("name"), "name")
    if not name:
        reader.wrong(given.place, "Groupname must not be empty")
    labels = _labels(reader, given, "labels")
    rules = tuple(
        rule
        for value in reader.items(values.get("rules"), "rules")
        if (rule := _rule(reader, value, labels)) is not None
    )
    offset = values.get("query_offset") or values.get("evaluation_delay")
    return RuleGroup(
        name,
        rules,
        reader.source,
        reader.take(values.get("interval"), "interval", duration_ms, 0) or None,
        reader.take(offset, "query_offset", duration_ms, 0),
        reader.take(values.get("limit"), "limit", whole, 0),
    )


def _rule(reader: Reader, item: Value, shared: Mapping[str, str]) -> GroupRule | None:
    before = len(reader.problems)
    given = reader.fields(item, "a rule", _RULE)
    values = given.values
    record = reader.text(values.get("record"), "record")
    alert = reader.text(values.get("alert"), "alert")
    if record and alert:
        reader.wrong(given.keys["alert"], "only one of 'record' and 'alert' must be set")
    elif not record and not alert and len(reader.problems) == before:
        reader.wrong(given.place, "one of 'record' or 'alert' must be set")
    text = reader.text(values.get("expr"), "expr")
    expr: Expr = Number(0.0)
    if not text:
        reader.wrong(given.place, "field 'expr' must be set in rule")
    else:
        try:
            expr = parse(text)
        except InvalidInput as error:
            reader.wrong(values["expr"].place, f"could not parse expression: {error}")
    own = _labels(reader, given, "labels")
    annotations = reader.texts(values.get("annotations"), "annotations")
    if record:
        _check_recording(reader, given, record)
    else:
        _check_templates(reader, given, alert)
    rule = GroupRule(
        expr,
        text,
        record,
        alert,
        reader.take(values.get("for"), "for", duration_ms, 0),
        reader.take(values.get("keep_firing_for"), "keep_firing_for", duration_ms, 0),
        {**shared, **own},
        annotations,
    )
    return rule if len(reader.problems) == before else None


def _labels(reader: Reader, given: Fields, name: str) -> dict[str, str]:
    value = given.values.get(name)
    labels = reader.texts(value, name)
    for label in labels:
        if label in ("", NAME):
            place = value.keys[label] if isinstance(value, Fields) else given.place
            reader.wrong(place, f"invalid label name: {label}")
    return labels


def _check_recording(reader: Reader, given: Fields, record: str) -> None:
    for name in ("annotations", "for", "keep_firing_for"):
        if name in given.values:
            reader.wrong(given.keys[name], f"invalid field '{name}' in recording rule")
    if "{" in record or "}" in record:
        reader.wrong(
            given.values["record"].place,
            f"braces present in the recording rule name; should it be in expr?: {record}",
        )


def _check_templates(reader: Reader, given: Fields, alert: str) -> None:
    for section in ("labels", "annotations"):
        value = given.values.get(section)
        if not isinstance(value, Fields):
            continue
        for name, item in value.values.items():
            try:
                check_template(reader.text(item, name), f"__alert_{alert}")
            except TemplateProblem as problem:
                reader.wrong(item.place, f'{section.rstrip("s")} "{name}": {problem}')
