"""The rules file: what it makes, where each of its errors is, and that a good one stays."""

import time
from pathlib import Path
from textwrap import dedent

import pytest
from structlog.testing import capture_logs

from service.domain.clock import ManualClock
from service.domain.rules import EscalationStep, RuleBook
from service.rules.loader import RuleFileError, RulesFile, parse_file
from service.rules.yaml import BYTES_MAX

GOOD = """\
escalation_policies:
  - name: default
    steps:
      - {after: 0s, channels: [slack]}
      - {after: 10m, channels: [email]}
alert_rules:
  - name: High error rate
    query: error_rate
    condition: gt
    threshold: 0.05
  - name: For one
    tenant: acme
    query: up
    condition: no_data
    escalation: default
"""


def load(text: str | bytes) -> RuleBook:
    raw = text if isinstance(text, bytes) else dedent(text).encode()
    return parse_file(raw, "rules.yaml", 900.0)


def broken(text: str | bytes) -> list[str]:
    with pytest.raises(RuleFileError) as caught:
        load(text)
    return [str(problem) for problem in caught.value.problems]


def test_a_good_file() -> None:
    book = load(GOOD)
    assert [(rule.id, rule.tenant) for rule in book.rules] == [
        ("file:High error rate", None),
        ("file:For one", "acme"),
    ]
    assert all(rule.from_file for rule in book.rules)
    (policy,) = book.policies
    assert policy.steps == (EscalationStep(0.0, ("slack",)), EscalationStep(600.0, ("email",)))
    assert book.source == "rules.yaml"
    assert [rule.name for rule in book.rules_for("other")] == ["High error rate"]
    assert len(book.rules_for("acme")) == 2


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "alert_rules:\n", "alert_rules: []\n"])
def test_an_empty_book(text: str) -> None:
    assert load(text).rules == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("alert_rules:\n\t- name: x\n", "2:1: a tab; YAML is indented with spaces"),
        ("alert_rules: [\n", "2:1: "),
        ("alert_rules: []\nalert_rules: []\n", "2:1: the key 'alert_rules' stands here twice"),
        ("rules: []\n", "1:1: unknown section 'rules'; did you mean 'alert_rules'?"),
        ("alert_rulse: []\n", "1:1: unknown section 'alert_rulse'; did you mean 'alert_rules'?"),
        ("- a\n", "1:1: a rules file has alert_rules and escalation_policies; this is a list"),
        ("alert_rules: 5\n", "1:14: alert_rules is a list, not a number"),
        ("a: b\n---\nc: d\n", "2:1: "),
        ("alert_rules: *nobody\n", "1:14: found undefined alias 'nobody'"),
        ("alert_rules: !!python/name:os.system x\n", "1:14: "),
        ("alert_rules:\n  - name: \0\n", "2:11: a character that YAML does not allow"),
        ("? [a]\n: b\n", "1:3: a key is text"),
        ("alert_rules: 'x\n", "2:1: "),
    ],
)
def test_where_a_file_is_broken(text: str, expected: str) -> None:
    (problem, *_) = broken(text)
    assert problem.startswith(f"rules.yaml:{expected}"), problem


def test_every_problem_has_its_line_and_column() -> None:
    found = broken(
        """\
        alert_rules:
          - name: First
            query: error_rate
            condition: gt
            threshold: five
            treshold: 5
          - name: Second
            query: up{
            condition: no_data
            labels:
              team: web
              1st: x
            channels: [slack, {a: b}]
            escalation: nobody
          - query: up
            condition: no_data
        escalation_policies:
          - name: default
            steps:
              - {after: 5m, channels: [a]}
              - {after: 1m, channels: [b]}
        """
    )
    assert [":".join(line.split(":")[1:3]) for line in found] == [
        "5:16",  # five
        "6:5",  # treshold
        "8:12",  # up{
        "12:7",  # 1st
        "13:23",  # {a: b}
        "15:5",  # the rule without a name
        "21:17",  # 1m
    ]
    assert found[0] == (
        "rules.yaml:5:16: rule 'First': threshold: is a number, not the text 'five'"
    )


def test_names_are_unique_for_each_tenant() -> None:
    rule = "{name: A, query: up, condition: no_data"
    both = load(f"alert_rules:\n  - {rule}, tenant: a}}\n  - {rule}, tenant: b}}\n")
    assert len(both.rules) == 2
    for first, second in ((", tenant: a", ", tenant: a"), ("", ", tenant: a"), (", tenant: a", "")):
        found = broken(f"alert_rules:\n  - {rule}{first}}}\n  - {rule}{second}}}\n")
        assert found == ["rules.yaml:3:12: name: there is a rule 'A' already, in line 2"]


def test_a_policy_that_is_missing_is_named() -> None:
    text = GOOD.replace("escalation: default", "escalation: defualt")
    assert broken(text) == [
        "rules.yaml:15:17: escalation: there is no policy 'defualt'; did you mean 'default'?"
    ]


def test_anchors_and_merges_work() -> None:
    book = load(
        """\
        alert_rules:
          - &base
            name: A
            query: up
            condition: gt
            threshold: 1
          - <<: *base
            name: B
            threshold: 2
        """
    )
    assert [(rule.name, rule.threshold) for rule in book.rules] == [("A", 1.0), ("B", 2.0)]


def test_bombs_do_nothing() -> None:
    began = time.monotonic()
    aliases = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
    )
    assert "aliases unfold into too much" in broken(aliases)[0]
    assert "nested more than" in broken("&a [*a]")[0]
    assert "nested more than" in broken("[" * 5000)[0]
    assert "nested more than" in broken("alert_rules: " + "[" * 30 + "]" * 30)[0]
    assert "larger than 1 MiB" in broken(b"#" * (BYTES_MAX + 1))[0]
    assert "rules.yaml:2:3: the file is not UTF-8" in broken(b"# x\n  \xff\n")[0]
    assert time.monotonic() - began < 20


async def test_a_missing_file_is_an_empty_book(tmp_path: Path) -> None:
    file = RulesFile(tmp_path / "none.yaml", 900.0)
    assert file.load() == RuleBook(source=str(tmp_path / "none.yaml"))
    assert await file.reload_if_changed() is False
    assert file.error is None


async def test_a_broken_file_keeps_the_last_good_rules(tmp_path: Path) -> None:
    path, clock = tmp_path / "rules.yaml", ManualClock()
    path.write_text(GOOD)
    file = RulesFile(path, 900.0, clock)
    assert await file.reload_if_changed() is True
    good = file.book
    assert len(good.rules) == 2
    assert await file.reload_if_changed() is False

    path.write_text("alert_rules:\n  - nmae: x\n")
    with capture_logs() as logs:
        assert await file.reload_if_changed() is False
    assert file.book is good
    assert file.error is not None
    assert f"{path}:2:5: " in file.error
    assert file.error_since == clock.now()
    assert (logs[0]["log_level"], logs[0]["rules"]) == ("error", 2)

    since = clock.now()
    await clock.advance(60)
    path.write_text("alert_rules: [\n")
    await file.reload_if_changed()
    assert file.error_since == since  # it has not been well in between

    path.write_text(GOOD.replace("0.05", "0.10"))
    assert await file.reload_if_changed() is True
    assert (file.error, file.error_since) == (None, None)
    assert file.book.rules[0].threshold == 0.1


async def test_a_file_that_is_replaced_is_not_missed_for_a_moment(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(GOOD)
    file = RulesFile(path, 900.0)
    await file.reload_if_changed()
    path.unlink()
    assert await file.reload_if_changed() is False
    assert len(file.book.rules) == 2
    path.write_text(GOOD)
    await file.reload_if_changed()
    assert len(file.book.rules) == 2
    path.unlink()
    await file.reload_if_changed()
    assert await file.reload_if_changed() is True
    assert file.book.rules == ()


async def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    file = RulesFile(tmp_path, 900.0)
    await file.reload_if_changed()
    assert file.error is not None
    assert "cannot be read" in file.error
