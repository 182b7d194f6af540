"""The simple form: what it makes, and everything that is wrong with a wrong one."""

import contextlib
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.rules import Condition, EscalationStep, Rule, Severity
from service.rules.form import RuleError
from service.rules.schema import CONDITIONS, FIELDS, parse_policy, parse_rule, rule_form

GOOD: dict[str, Any] = {
    "name": "High error rate",
    "query": 'error_rate{region="eu"}',
    "condition": "gt",
    "threshold": 0.05,
}


def parsed(tenant: str | None = "acme", **changes: Any) -> Rule:
    body = {**GOOD, **changes}
    return parse_rule(body, rule_id="r1", tenant=tenant, cooldown_seconds=900.0)


def problems(body: Any, tenant: str | None = "acme") -> dict[str, str]:
    with pytest.raises(RuleError) as caught:
        parse_rule(body, rule_id="r1", tenant=tenant, cooldown_seconds=900.0)
    return {problem.field: problem.reason for problem in caught.value.problems}


def test_a_rule_with_everything() -> None:
    rule = parsed(
        severity="Critical",
        for_duration="5m",
        cooldown="1h30m",
        channels=["slack", "pager", "slack"],
        escalation="night",
        labels={"team": "web"},
        annotations={"summary": "Line one\nline two"},
        enabled=False,
    )
    assert rule == Rule(
        id="r1",
        tenant="acme",
        name="High error rate",
        query=rule.query,
        condition=Condition.GT,
        threshold=0.05,
        severity=Severity.CRITICAL,
        for_seconds=300.0,
        cooldown_seconds=5400.0,
        channels=("slack", "pager"),
        escalation="night",
        labels={"team": "web"},
        annotations={"summary": "Line one\nline two"},
        enabled=False,
    )
    assert rule.query.text == 'error_rate{region="eu"}'


def test_what_is_absent_takes_its_default() -> None:
    rule = parsed(channels=None, cooldown=None)
    assert (rule.severity, rule.for_seconds, rule.cooldown_seconds) == (
        Severity.MEDIUM,
        0.0,
        900.0,
    )
    assert (rule.channels, rule.escalation, rule.enabled) == ((), None, True)


@pytest.mark.parametrize("word", list(CONDITIONS))
def test_every_word_for_a_condition(word: str) -> None:
    condition = CONDITIONS[word]
    bare = not (condition.compares or condition is Condition.FORECAST)
    budget = {"alert_budget": "1/day"} if word == "alert_budget" else {}
    rule = parsed(condition=word, threshold=None if bare else 1, **budget)
    assert rule.condition is condition
    assert rule.alert_budget == (7.0 if budget else None)


def test_forecast_and_no_data_have_fields_of_their_own() -> None:
    rule = parsed(condition="forecast", threshold=90, operator="less_than", horizon="6h")
    assert (rule.operator, rule.horizon_seconds) == (Condition.LT, 21600.0)
    assert rule.probability is None
    assert parsed(condition="forecast", threshold=90, probability=0.8).probability == 0.8
    assert parsed(condition="no_data", threshold=None, window="10m").window_seconds == 600.0
    assert parsed(condition="change", threshold=None, window="6h").window_seconds == 21_600.0
    assert parsed(condition="change", threshold=None).window_seconds == 3600.0


def test_peers_are_all_series_of_a_metric_or_those_with_equal_labels() -> None:
    rule = parsed(condition="peers", threshold=None)
    assert (rule.peers_by, rule.window_seconds) == ((), 1800.0)
    assert parsed(condition="peers", threshold=None, peers_by="job").peers_by == ("job",)
    rule = parsed(condition="peers", threshold=0.99, peers_by=["job", "zone", "job"], window="1h")
    assert (rule.peers_by, rule.window_seconds, rule.threshold) == (("job", "zone"), 3600.0, 0.99)


def test_a_rule_of_the_file_may_name_its_tenant() -> None:
    assert parsed(tenant=None).tenant is None
    body = {**GOOD, "tenant": "acme"}
    rule = parse_rule(body, rule_id="x", tenant=None, cooldown_seconds=1.0)
    assert rule.tenant == "acme"
    assert "no such field" in problems(body)["tenant"]


def test_all_problems_are_found_at_once() -> None:
    found = problems(
        {
            "name": " ",
            "query": "error_rate[5m]",
            "condition": "above",
            "treshold": 5,
            "for": "5m",
            "severity": "hihg",
            "channels": "slack",
            "labels": {"1st": "x", "ok": 7, "bad": ["y"], "alertname": "z"},
            "enabled": "yes",
            "cooldown": "-5m",
        }
    )
    assert found["treshold"] == "a rule has no such field; did you mean 'threshold'?"
    assert found["for"].endswith("did you mean 'for_duration'?")
    assert found["severity"].endswith("did you mean 'high'?")
    assert found["name"] == "is empty"
    assert "expression" in found["query"]
    assert "is one of gt, gte, lt" in found["condition"]
    assert found["channels"] == "is a list of channels such as [slack], not the text 'slack'"
    assert set(found) >= {"labels.1st", "labels.bad", "labels.alertname", "enabled", "cooldown"}
    assert "labels.ok" not in found


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"threshold": None}, "threshold", "is missing; the condition gt compares with it"),
        ({"threshold": True}, "threshold", "is a number, not the flag true"),
        ({"threshold": math.nan}, "threshold", "is a finite number"),
        ({"threshold": 10**400}, "threshold", "is a finite number"),
        ({"threshold": "5"}, "threshold", "is a number, not the text '5'"),
        ({"condition": "anomaly", "threshold": 3}, "threshold", "a score between 0 and 1"),
        ({"condition": "no_data"}, "threshold", "does not belong to the condition no_data"),
        ({"condition": "change"}, "threshold", "does not belong to the condition change; window"),
        (
            {"window": "5m"},
            "window",
            "belongs to the condition no_data and change and peers",
        ),
        ({"peers_by": ["job"]}, "peers_by", "belongs to the condition peers, not to gt"),
        ({"condition": "peers", "threshold": 5}, "threshold", "for peers is a score between 0 and"),
        (
            {"condition": "peers", "threshold": None, "peers_by": ["1st"]},
            "peers_by",
            "is a label such as job, or a list of them, not the text '1st'",
        ),
        (
            {"condition": "peers", "threshold": None, "peers_by": [["job"]]},
            "peers_by",
            "is a label such as job, or a list of them, not a list",
        ),
        (
            {"condition": "peers", "threshold": None, "peers_by": [f"l{i}" for i in range(31)]},
            "peers_by",
            "has 31 labels; 30 are possible",
        ),
        ({"horizon": "5m"}, "horizon", "belongs to the condition forecast, not to gt"),
        ({"condition": "forecast", "operator": "eq"}, "operator", "is one of gt, gte, lt, lte"),
        ({"condition": "forecast", "horizon": 0}, "horizon", "is longer than 0"),
        ({"probability": 0.8}, "probability", "belongs to the condition forecast, not to gt"),
        (
            {"condition": "forecast", "probability": 80},
            "probability",
            "is between 0.01 and 0.99, such as 0.8, not 80; did you mean 0.8?",
        ),
        (
            {"condition": "forecast", "probability": "80 %"},
            "probability",
            "is a number, not the text '80 %'",
        ),
        (
            {"condition": "anomaly", "threshold": None, "query": '{region="eu"}'},
            "query",
            "needs a fixed metric name",
        ),
        (
            {"condition": "anomaly", "threshold": None, "query": "m:anomaly_score"},
            "query",
            "wants the metric itself",
        ),
        (
            {"condition": "anomaly", "alert_budget": "2/week"},
            "alert_budget",
            "sets the threshold by itself; a rule has one of the two",
        ),
        ({"alert_budget": "2/week"}, "alert_budget", "belongs to the condition anomaly, not to gt"),
        (
            {"condition": "Alert_Budget", "threshold": None},
            "alert_budget",
            "is missing; the condition alert_budget spends it, say 2/week",
        ),
        (
            {"condition": "anomaly", "threshold": None, "alert_budget": "often"},
            "alert_budget",
            "is text like 2/week or 1/day, not 'often'",
        ),
        (
            {"condition": "anomaly", "threshold": None, "alert_budget": "0/week"},
            "alert_budget",
            "is above 0 and at most one a minute",
        ),
        (
            {"condition": "anomaly", "threshold": None, "alert_budget": "9" * 5000 + "/week"},
            "alert_budget",
            "9…",
        ),
        ({"query": 'm{a=~"("}'}, "query", "illegal regex"),
        ({"query": "m\0"}, "query", "cannot be printed"),
        ({"name": "a\ud800"}, "name", "cannot be printed"),
        ({"name": "x" * 201}, "name", "has 201 characters"),
        ({"annotations": {"a": "x" * 4097}}, "annotations.a", "has 4097 characters"),
        ({"labels": []}, "labels", "is a mapping of names to text, not a list"),
        ({"labels": {f"l{i}": "x" for i in range(31)}}, "labels", "has 31 entries"),
        ({"channels": ["slack", 5]}, "channels[1]", "is text, not a number"),
        ({"channels": [str(i) for i in range(21)]}, "channels", "has 21 channels"),
        ({"for_duration": "soon"}, "for_duration", "a number of seconds or text like 5m"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], field: str, reason: str) -> None:
    found = problems({**GOOD, **changes})
    assert list(found) == [field]
    assert reason in found[field]


@pytest.mark.parametrize("body", [None, [], "rule", 5, {}])
def test_what_is_no_rule(body: Any) -> None:
    assert problems(body)


def test_a_body_of_very_many_fields_is_refused_quickly() -> None:
    assert problems({f"field{i}": i for i in range(100_000)}) == {"": "a rule has no 100000 fields"}


def test_a_rule_comes_back_as_it_was() -> None:
    for changes in (
        {},
        {"for_duration": 90061, "cooldown": "1.5s", "labels": {"a": "b"}, "enabled": False},
        {"condition": "forecast", "operator": "lt", "horizon": "6h", "channels": ["a"]},
        {"condition": "forecast", "operator": "gte", "probability": 0.8},
        {"condition": "no_data", "threshold": None, "window": "10m", "escalation": "x"},
        {"condition": "change", "threshold": None, "window": "2h"},
        {"condition": "peers", "threshold": None, "window": "2h", "peers_by": ["job"]},
        {"condition": "anomaly", "threshold": 0.99},
        {"condition": "alert_budget", "threshold": None, "alert_budget": "2 per week"},
    ):
        rule = parsed(**changes)
        again = parse_rule(rule_form(rule), rule_id="r1", tenant="acme", cooldown_seconds=1.0)
        assert again == rule


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*GOOD, "labels", "channels", "for_duration"]), json_values))
def test_no_body_fails_otherwise(changes: dict[str, Any]) -> None:
    with contextlib.suppress(RuleError):
        assert parsed(**changes).name.strip()


def test_a_policy() -> None:
    policy = parse_policy(
        {
            "name": "default",
            "steps": [{"after": "0s", "channels": ["a"]}, {"after": "5m", "channels": ["b"]}],
        }
    )
    assert policy.steps == (EscalationStep(0.0, ("a",)), EscalationStep(300.0, ("b",)))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "p"}, "steps"),
        ({"name": "p", "steps": []}, "steps"),
        (
            {"name": "p", "steps": [{"after": f"{i}m", "channels": ["a"]} for i in range(11)]},
            "steps",
        ),
        ({"name": "p", "steps": [{"after": "5m", "channels": []}]}, "steps[0].channels"),
        ({"name": "p", "steps": [{"channels": ["a"]}]}, "steps[0].after"),
        ({"name": "p", "steps": [{"after": "5m", "channels": ["a"], "wait": 1}]}, "steps[0].wait"),
        (
            {
                "name": "p",
                "steps": [{"after": "5m", "channels": ["a"]}, {"after": "5m", "channels": ["b"]}],
            },
            "steps[1].after",
        ),
        ({"name": "p", "steps": ["now"]}, "steps[0]"),
        ({"steps": [{"after": 0, "channels": ["a"]}]}, "name"),
    ],
)
def test_a_wrong_policy(body: Any, field: str) -> None:
    with pytest.raises(RuleError) as caught:
        parse_policy(body)
    assert [problem.field for problem in caught.value.problems] == [field]


def test_the_page_documents_every_field_and_condition() -> None:
    page = (Path(__file__).parents[2] / "docs" / "rules.md").read_text()
    assert [field for field in FIELDS if f"\n| `{field}` |" not in page] == []
    assert [word for word in CONDITIONS if f"`{word}`" not in page] == []


def test_a_text_that_is_no_template_is_named() -> None:
    wrong = problems(
        GOOD | {"labels": {"team": "{{ nobody }}"}, "annotations": {"summary": "{{ $labels.x "}}
    )
    assert set(wrong) == {"labels.team", "annotations.summary"}
    assert all(reason.startswith("is no template: ") for reason in wrong.values())
    fine = parsed(annotations={"summary": "{{ $value | humanize }} of {{ .Labels.region }}"})
    assert fine.annotations["summary"].startswith("{{ $value")
