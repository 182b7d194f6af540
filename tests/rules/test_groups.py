"""Prometheus' rule files."""

import pytest

from service.rules.groups import BYTES_MAX, RuleGroup, groups_of
from service.rules.loader import RuleFileError
from service.rules.strict_yaml import read_yaml

FILE = """
groups:
- name: api
  interval: 30s
  query_offset: 1m
  limit: 10
  labels: {team: web, code: 0500}
  rules:
  - record: job:errors:rate5m
    expr: sum by (job) (rate(errors_total[5m]))
    labels: {team: api}
  - alert: Errors
    expr: |
      job:errors:rate5m > 1
    for: 1m30s
    keep_firing_for: 5m
    annotations: {summary: '{{ $labels.job }} has {{ $value }}'}
"""


def groups(text: str | bytes) -> tuple[RuleGroup, ...]:
    raw = text.encode() if isinstance(text, str) else text
    return groups_of(read_yaml(raw, "r.yml", BYTES_MAX), "r.yml")


def problems(text: str) -> list[str]:
    with pytest.raises(RuleFileError) as caught:
        groups(text)
    return [str(problem) for problem in caught.value.problems]


def test_groups_are_read_as_they_stand() -> None:
    (group,) = groups(FILE)
    assert (group.name, group.file, group.interval_ms) == ("api", "r.yml", 30_000)
    assert (group.query_offset_ms, group.limit) == (60_000, 10)
    record, alert = group.rules
    assert record.record == record.name == "job:errors:rate5m"
    assert record.labels == {"team": "api", "code": "0500"}
    assert (alert.alert, alert.for_ms, alert.keep_firing_ms) == ("Errors", 90_000, 300_000)
    assert alert.labels == {"team": "web", "code": "0500"}
    assert alert.annotations == {"summary": "{{ $labels.job }} has {{ $value }}"}


@pytest.mark.parametrize("text", ["", "groups:\n", "groups: []\n", "# nothing\n"])
def test_a_file_may_have_no_groups(text: str) -> None:
    assert groups(text) == ()


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("{record: a, alert: b, expr: up}", "7:17: only one of 'record' and 'alert' must be set"),
        ("{expr: up}", "7:5: one of 'record' or 'alert' must be set"),
        ("{record: a}", "7:5: field 'expr' must be set in rule"),
        ("{record: a, expr: 'sum('}", "7:23: could not parse expression"),
        ("{record: a, expr: up, for: 5m}", "7:27: invalid field 'for' in recording rule"),
        ("{record: 'a{b}', expr: up}", "braces present in the recording rule name"),
        ("{alert: a, expr: up, labels: {__name__: x}}", "7:35: invalid label name: __name__"),
        ("{alert: a, expr: up, for: 5x}", "7:31: for: not a valid duration string: '5x'"),
        ("{alert: a, expr: up, fro: 5m}", "7:26: a rule has no field 'fro'; did you mean 'for'?"),
        ("{alert: a, expr: [up]}", "7:22: expr is text, not a list"),
        (
            "{alert: a, expr: up, annotations: {s: '{{ nope }}'}}",
            '7:43: annotation "s": template: __alert_a:1: function "nope" not defined',
        ),
        (
            "{alert: a, expr: up, labels: {s: '{{ $x }}'}}",
            '7:38: label "s": template: __alert_a:1: undefined variable "$x"',
        ),
    ],
)
def test_a_bad_rule_is_named_with_its_place(rule: str, said: str) -> None:
    text = f"groups:\n- name: g\n  rules:\n  - record: ok\n    expr: up\n  # then\n  - {rule}\n"
    assert any(said in problem for problem in problems(text)), problems(text)
    assert all(problem.startswith("r.yml:7:") for problem in problems(text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("groups: 5", "r.yml:1:9: groups is a list, not the text '5'"),
        ("[]", "r.yml:1:1: a rule file is a mapping of fields, not a list"),
        ("group: []", "r.yml:1:1: a rule file has no field 'group'; did you mean 'groups'?"),
        ("groups:\n- rules: []", "r.yml:2:3: Groupname must not be empty"),
        ("groups:\n- name: a\n- name: a", 'r.yml:3:3: groupname: "a" is repeated'),
        ("groups:\n- name: a\n  name: b", "r.yml:3:3: the key 'name' stands here twice"),
        ("groups:\n- name: a\n  limit: x", "r.yml:3:10: limit: is a whole number, not 'x'"),
        ("groups:\n\t- name: a", "r.yml:2:1: "),
        ("groups: [", "r.yml:2:1: "),
        ("a: &a [*a]", "r.yml:1:"),
        ("[" * 30 + "]" * 30, "r.yml:1:22: nested more than 20 deep"),
        ("[" * 200_000, "nested more than 20 deep"),
        ("- " * 200_000, "nested more than 20 deep"),
    ],
)
def test_a_broken_file_is_refused_with_its_place(text: str, said: str) -> None:
    assert said in problems(text)[0]


def test_text_that_is_not_utf8_is_refused_with_its_place() -> None:
    with pytest.raises(RuleFileError, match=r"r\.yml:2:5: the file is not UTF-8"):
        groups(b"groups:\n  - \xff")


def test_anchors_and_merges_are_followed() -> None:
    text = """
groups:
- name: a
  rules:
  - &first {alert: a, expr: up == 0, labels: &l {sev: page}}
  - {<<: *first, alert: b, labels: {<<: *l, more: x}}
"""
    (group,) = groups(text)
    assert [rule.alert for rule in group.rules] == ["a", "b"]
    assert group.rules[1].labels == {"sev": "page", "more": "x"}
