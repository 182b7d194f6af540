"""Unit-test files are run as promtool runs them, with the semantics of Prometheus 3."""

from pathlib import Path
from textwrap import dedent

import pytest

from service.rules.unit_tests.runner import FileReport, run_file

RULES = """
groups:
- name: record
  rules:
  - record: job:m:sum
    expr: sum by (job) (m)
    labels: {from: rule}
- name: alerts
  rules:
  - alert: High
    expr: job:m:sum > 4
    for: 2m
    keep_firing_for: 1m
    labels: {severity: '{{ if gt $value 60.0 }}critical{{ else }}warning{{ end }}'}
    annotations:
      summary: '{{ $labels.job }} is at {{ $value | humanize }} in {{ $externalLabels.dc }}'
  - alert: Gone
    expr: absent(m)
"""
SERIES = """
  input_series:
  - {series: 'm{job="a", i="1"}', values: '0+1x6 _x3 stale'}
  - {series: 'm{job="a", i="2"}', values: '1x6 stale'}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rules.yml").write_text(RULES)
    return tmp_path


def run(folder: Path, text: str, tolerance: float | None = None) -> FileReport:
    path = folder / "test.yml"
    path.write_text(dedent(text))
    return run_file(path, tolerance)


def cases(folder: Path, cases: str, series: str = SERIES, top: str = "") -> list[str]:
    """The differences of the cases of one group, empty ones among them."""
    indented = dedent(cases).replace("\n", "\n  ")
    text = f"rule_files: [rules.yml]\n{top}\ntests:\n- interval: 1m{series}  {indented}"
    return [outcome.difference for outcome in run(folder, text).outcomes]


def samples(folder: Path, expr: str, at: str, *expected: str, top: str = "") -> str:
    listed = ", ".join(expected)
    (difference,) = cases(
        folder,
        f"promql_expr_test:\n- {{expr: '{expr}', eval_time: {at}, exp_samples: [{listed}]}}\n",
        top=top,
    )
    return difference


def test_expressions_see_series_and_what_rules_recorded(folder: Path) -> None:
    assert not samples(folder, "m", "1m", "{labels: 'm{job=\"a\",i=\"1\"}', value: 1}",
                       "{labels: 'm{i=\"2\",job=\"a\"}', value: 1}")  # fmt: skip
    recorded = '{labels: \'job:m:sum{from="rule", job="a"}\', value: 3}'
    assert not samples(folder, "job:m:sum", "2m", recorded)
    assert not samples(folder, "1 + 1", "2m", "{labels: '{}', value: 2}")


def test_a_difference_names_what_is_missing_too_much_and_other(folder: Path) -> None:
    assert samples(folder, "m", "1m", "{labels: 'm{job=\"a\",i=\"1\"}', value: 2}",
                   "{labels: 'n', value: 1}") == (
        'expected m{i="1", job="a"} 2, got 1\nmissing n 1\nunexpected m{i="2", job="a"} 1'
    )  # fmt: skip


def test_a_series_that_a_rule_no_longer_gives_ends(folder: Path) -> None:
    # Samples end at 6m, a stale marker follows at 10m; the rule gives nothing from then on.
    assert not samples(folder, "count(job:m:sum)", "9m", "{labels: '{}', value: 1}")
    assert not samples(folder, "job:m:sum", "10m")


def test_alerts_wait_fire_stay_and_write_series(folder: Path) -> None:
    def alerts(state: str) -> str:
        labels = f'{{alertname="High",alertstate="{state}",from="rule",job="a",severity="warning"}}'
        return f"{{labels: 'ALERTS{labels}', value: 1}}"

    # 5 > 4 at 4m, so it fires from 6m; the last of m ends at 10m, and it stays for a minute.
    assert not samples(folder, 'ALERTS{severity="warning"}', "4m", alerts("pending"))
    text = """
    alert_rule_test:
    - {eval_time: 5m, alertname: High}
    - eval_time: 8m
      alertname: High
      exp_alerts:
      - exp_labels: {severity: warning, job: a, from: rule}
        exp_annotations: {summary: 'a is at 6 in eu'}
    - {eval_time: 9m59s, alertname: High, exp_alerts: [{exp_labels: {severity: warning, job: a, from: rule}, exp_annotations: {summary: a is at 6 in eu}}]}
    - {eval_time: 10m, alertname: High, exp_alerts: [{exp_labels: {severity: warning, job: a, from: rule}, exp_annotations: {summary: a is at 6 in eu}}]}
    - {eval_time: 11m, alertname: High}
    - {eval_time: 14m, alertname: Gone, exp_alerts: [{}]}
    external_labels: {dc: eu}
    """  # noqa: E501
    assert cases(folder, text) == [""] * 6


def test_what_alerts_say_instead_is_told(folder: Path) -> None:
    text = """
    alert_rule_test:
    - eval_time: 8m
      alertname: High
      exp_alerts:
      - exp_labels: {severity: warning, job: a, from: rule}
        exp_annotations: {summary: other}
    - {eval_time: 8m, alertname: Other, exp_alerts: [{exp_labels: {a: b}}]}
    """
    first, second = cases(folder, text)
    assert first == (
        'alert {alertname="High", from="rule", job="a", severity="warning"}: expected annotations '
        '{summary="other"}, got {summary="a is at 6 in "}'
    )
    assert second == 'missing {a="b", alertname="Other"} annotations {}'


def test_what_comes_after_the_last_evaluation_is_not_loaded(folder: Path) -> None:
    assert not samples(folder, "count(m)", "90s", "{labels: '{}', value: 2}")
    ended = '{labels: \'m{i="1", job="a"}\', value: 1}'
    assert not samples(folder, 'm{i="1"}', "119s", ended)
    assert not samples(folder, 'm{i="1"} offset -4m', "60s", ended)


def test_a_range_and_the_lookback_are_open_at_their_left_end(folder: Path) -> None:
    text = """
    promql_expr_test:
    - {expr: 'count_over_time(m{i="1"}[2m])', eval_time: 4m, exp_samples: [{labels: '{i="1", job="a"}', value: 2}]}
    - {expr: 'n', eval_time: 4m59s, exp_samples: [{labels: n, value: 7}]}
    - {expr: 'n', eval_time: 5m}
    """  # noqa: E501
    series = SERIES.rstrip("\n") + "\n  - {series: n, values: '7'}\n"
    assert cases(folder, text, series, "evaluation_interval: 1s") == ["", "", ""]


def test_nan_is_nan_and_infinity_has_signs(folder: Path) -> None:
    text = """
    promql_expr_test:
    - {expr: 'n * NaN', exp_samples: [{labels: '{}', value: .NaN}]}
    - {expr: 'n / 0', exp_samples: [{labels: '{}', value: +Inf}]}
    - {expr: '-n / 0', exp_samples: [{labels: '{}', value: Inf}]}
    - {expr: 'n', exp_samples: [{labels: 'n', value: NaN}]}
    """
    series = SERIES.rstrip("\n") + "\n  - {series: n, values: '7'}\n"
    found = cases(folder, text, series)
    assert found[:2] == ["", ""]
    assert found[2:] == ["expected {} +Inf, got -Inf", "expected n NaN, got 7"]


@pytest.mark.parametrize(
    ("expected", "top", "tolerance", "passed"),
    [
        ("0.3", "", None, False),
        ("0.30000000000000004", "", None, True),
        ("0.3", "fuzzy_compare: true", None, True),  # the next float
        ("0.2999999999", "fuzzy_compare: true", None, False),
        ("0.2999999999", "", 1e-9, True),
        ("0.29999999", "", 1e-9, False),
    ],
)
def test_values_are_the_same_to_the_last_bit_unless_told(
    folder: Path, expected: str, top: str, tolerance: float | None, passed: bool
) -> None:
    text = f"""
    {top}
    tests:
    - promql_expr_test: [{{expr: 0.1 + 0.2, exp_samples: [{{labels: '{{}}', value: {expected}}}]}}]
    """
    (outcome,) = run(folder, text, tolerance).outcomes
    assert outcome.passed is passed


def test_names_tell_cases_apart(folder: Path) -> None:
    text = """
    rule_files: [rules.yml]
    tests:
    - name: first
      alert_rule_test: [{eval_time: 5m, alertname: High}]
      promql_expr_test: [{expr: '1', eval_time: 1h30m}, {expr: '1', eval_time: 1h30m}]
    - promql_expr_test: [{expr: 'm'}]
    """
    names = [outcome.name for outcome in run(folder, text).outcomes]
    assert names == [
        "first: alert High at 5m",
        "first: 1 at 1h30m",
        "first: 1 at 1h30m (2)",
        "unnamed#1: m at 0s",
    ]


def test_a_rule_that_fails_fails_what_comes_after_it(folder: Path) -> None:
    (folder / "rules.yml").write_text(
        "groups: [{name: g, rules: [{alert: A, expr: 'm > 2'}, {record: r, expr: 'm > 2'}]}]"
    )
    series = "\n  input_series: [{series: 'm{i=\"1\"}', values: 1+1x9}, {series: 'm{i=\"2\"}', values: 1+1x9}]\n"  # noqa: E501
    (folder / "more.yml").write_text("groups: [{name: h, limit: 1, rules: [{record: s, expr: m}]}]")
    text = "alert_rule_test: [{eval_time: 2m, alertname: A}]\npromql_expr_test: [{expr: m}]\n"
    assert cases(folder, text.replace("2m", "1m"), series)[0] == ""
    found = run(
        folder,
        "rule_files: [more.yml]\ntests:\n- interval: 1m"
        + series
        + "  promql_expr_test: [{expr: m}]",
    )
    assert found.outcomes[0].difference == (
        "rule s failed at 0s: exceeded limit of 1 with 2 series"
    )


def test_groups_go_in_their_order(folder: Path) -> None:
    (folder / "rules.yml").write_text(
        "groups: [{name: late, rules: [{record: b, expr: a * 2}]}, "
        "{name: early, rules: [{record: a, expr: m * 2}]}]"
    )
    series = "\n  input_series: [{series: m, values: 1+1x9}]\n"
    text = "promql_expr_test: [{expr: b, eval_time: 1m, exp_samples: [{labels: b, value: %d}]}]\n"
    assert cases(folder, text % 4, series) == [""]
    order = "group_eval_order: [early, late]"
    assert cases(folder, text % 8, series, order) == [""]


def test_a_query_offset_looks_and_writes_into_the_past(folder: Path) -> None:
    (folder / "rules.yml").write_text(
        "groups: [{name: g, query_offset: 1m, rules: [{record: r, expr: m}]}]"
    )
    series = "\n  input_series: [{series: m, values: 1+1x9}]\n"
    text = """
    promql_expr_test:
    - {expr: r, eval_time: 4m, exp_samples: [{labels: r, value: 5}]}
    - {expr: timestamp(r), eval_time: 5m, exp_samples: [{labels: '{}', value: 240}]}
    """
    assert cases(folder, text, series) == ["", ""]


def test_a_start_other_than_1970(folder: Path) -> None:
    text = """
    tests:
    - start_timestamp: 2024-01-01T00:00:00Z
      interval: 1m
      input_series: [{series: m, values: 1 2 3}]
      promql_expr_test:
      - {expr: timestamp(m), eval_time: 1m, exp_samples: [{labels: '{}', value: 1704067260}]}
      - {expr: year(), eval_time: 1m, exp_samples: [{labels: '{}', value: 2024}]}
    """
    assert [outcome.difference for outcome in run(folder, text).outcomes] == ["", ""]


def test_a_bad_case_fails_alone(folder: Path) -> None:
    text = """
    promql_expr_test:
    - {expr: 'sum(', exp_samples: []}
    - {expr: 'm[5m]'}
    - {expr: 'm', exp_samples: [{labels: 'm{', value: 1}]}
    - {expr: 'm', exp_samples: [{labels: 'm', histogram: '{{count:1}}'}]}
    - {expr: 'vector(1)', exp_samples: [{labels: '{}', value: 1}]}
    """
    found = cases(folder, text)
    assert found[0].startswith("error: ")
    assert found[1] == "error: rule result is not a vector or scalar"
    assert "labels: expected a label" in found[2]
    assert "native histograms (histogram: …) are not supported" in found[3]
    assert found[4] == ""


def test_series_that_cannot_be_read_fail_their_group_alone(folder: Path) -> None:
    text = """
    tests:
    - input_series: [{series: m, values: '1 {{count:1}}'}]
      promql_expr_test: [{expr: m}]
    - promql_expr_test: [{expr: m}]
    """
    first, second = run(folder, text).outcomes
    assert first.difference.endswith(
        ":3:38: native histograms ({{…}}) are not supported in series values"
    )
    assert second.passed
    far = "tests: [{interval: 200y, input_series: [{series: m, values: 1x9999}], "
    (outcome,) = run(folder, far + "promql_expr_test: [{expr: m}]}]").outcomes
    assert outcome.difference.endswith("the last values would come after the end of time")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tests: 5", ":1:8: tests is a list, not the text '5'"),
        ("test: []", ":1:1: a unit-test file has no field 'test'; did you mean 'tests'?"),
        ("tests: [{interval: x}]", ":1:20: interval: not a valid duration string: 'x'"),
        ("tests: [{alert_rule_test: [{eval_time: 1m}]}]", "misses required attribute alertname"),
        ("group_eval_order: [a, a]", ":1:23: group name repeated in evaluation order: a"),
        ("tests: [{start_timestamp: yesterday}]", "cannot parse 'yesterday' to a valid timestamp"),
        (f"tests: [{{start_timestamp: {'9' * 400}}}]", "to a valid timestamp"),
        ("tests: [{interval: 300y}]", ":1:20: interval: duration out of range"),
        (f"tests: [{{interval: {'9' * 5000}s}}]", "interval: duration out of range"),
        (
            "tests: [{promql_expr_test: [{exp_samples: [{value: 0x" + "f" * 400 + "}]}]}]",
            ":1:52: value: is a number, not '0xfff",
        ),
        ("tests: [", ":2:1: "),
    ],
)
def test_a_broken_file_is_one_failure_with_a_place(folder: Path, text: str, said: str) -> None:
    (outcome,) = run(folder, text).outcomes
    assert (outcome.name, outcome.passed) == ("", False)
    assert said in outcome.difference


def test_a_broken_rule_file_fails_every_case(folder: Path) -> None:
    (folder / "rules.yml").write_text("groups: [{name: g, rules: [{alert: A, expr: 'sum('}]}]")
    report = run(folder, "rule_files: ['*les.yml']\ntests: [{promql_expr_test: [{expr: '1'}]}]")
    assert "rules.yml:1:45: could not parse expression" in report.outcomes[0].difference
    assert run(folder, "rule_files: [rules.yml]").outcomes[0].name == ""


def test_a_pattern_that_names_nothing_is_only_noted(folder: Path) -> None:
    report = run(folder, "rule_files: [nothing*.yml]\ntests: []")
    assert report.passed
    assert report.notes == (f"no file match pattern {folder / 'nothing*.yml'}",)


def test_rules_files_of_ours_are_tested_too(folder: Path) -> None:
    (folder / "alert_rules.yaml").write_text(
        dedent(
            """
            alert_rules:
            - {name: Busy, query: 'm{i="1"}', condition: gt, threshold: 3, for_duration: 1m, labels: {a: b}}
            - {name: Quiet, expr: 'm < 2', enabled: false}
            """  # noqa: E501
        )
    )
    text = """
    alert_rule_test:
    - {eval_time: 4m, alertname: Busy}
    - {eval_time: 5m, alertname: Busy, exp_alerts: [{exp_labels: {a: b, i: "1", job: a}}]}
    - {eval_time: 5m, alertname: Quiet}
    """
    (folder / "rules.yml").write_text((folder / "alert_rules.yaml").read_text())
    assert cases(folder, text) == ["", "", ""]
