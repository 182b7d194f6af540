"""Whether an alert is kept quiet, and how silences change: pure decisions."""

from dataclasses import replace

import pytest

from service.domain.errors import Conflict, Unprocessable
from service.domain.series import Matcher, MatchType
from service.domain.silences import (
    AHEAD_SECONDS,
    LONGEST_SECONDS,
    MATCHERS_MAX,
    NOT_LEARNED_SECONDS,
    Draft,
    Edit,
    Silence,
    SilenceKind,
    SilenceState,
    check,
    edit,
    quiet,
)
from service.query.matchers import accepts

NOW = 1_700_000_000.0
EU = Matcher("region", MatchType.EQUAL, "eu")
LABELS = {"__name__": "plays", "region": "eu", "alertname": "Odd", "severity": "high"}
SILENCE = Silence(
    "a", "acme", SilenceKind.SILENCE, (EU,), NOW, NOW + 60, "responder:ann", "a move", NOW, NOW
)
DRAFT = Draft((EU,), NOW + 60, "a move", starts_at=NOW)


@pytest.mark.parametrize(
    ("now", "state"),
    [
        (NOW - 1, SilenceState.PENDING),
        (NOW, SilenceState.ACTIVE),
        (NOW + 59.9, SilenceState.ACTIVE),
        (NOW + 60, SilenceState.EXPIRED),
    ],
)
def test_it_holds_from_its_beginning_to_before_its_end(now: float, state: SilenceState) -> None:
    assert SILENCE.state(now) is state
    assert (quiet([SILENCE], LABELS, now, accepts) is not None) is (state is SilenceState.ACTIVE)


@pytest.mark.parametrize(
    ("name", "type", "value", "matches"),
    [
        ("region", "=", "eu", True),
        ("region", "=", "us", False),
        ("region", "!=", "us", True),
        ("region", "=~", "e.", True),
        ("region", "=~", "e", False),
        ("region", "!~", "e.*", False),
        ("severity", "=", "high", True),
        ("alertname", "=~", "Odd|Even", True),
        ("__name__", "=", "plays", True),
        ("absent", "=", "", True),
        ("absent", "!=", "x", True),
        ("absent", "=~", ".+", False),
    ],
)
def test_what_a_matcher_accepts(name: str, type: str, value: str, matches: bool) -> None:
    found = replace(SILENCE, matchers=(EU, Matcher(name, MatchType(type), value)))
    assert (quiet([found], LABELS, NOW, accepts) is not None) is matches


def test_of_several_the_last_to_end_counts() -> None:
    longer = replace(SILENCE, id="b", ends_at=NOW + 90, comment="more")
    ended = replace(SILENCE, id="c", starts_at=NOW - 9, ends_at=NOW)
    why = quiet([SILENCE, longer, ended], LABELS, NOW, accepts)
    assert why is not None
    assert (why.ids, why.until) == (["b", "a"], NOW + 90)
    assert why.text == "silenced by responder:ann until 2023-11-14T22:14:50Z: more"
    assert why.detail["reason"] == "silenced"


@pytest.mark.parametrize(
    ("changes", "now", "way"),
    [
        ({}, NOW, Edit.NOTHING),
        ({"starts_at": None}, NOW, Edit.NOTHING),
        ({"ends_at": NOW + 90}, NOW, Edit.UPDATE),
        ({"comment": "other"}, NOW, Edit.UPDATE),
        ({"kind": SilenceKind.MAINTENANCE}, NOW, Edit.UPDATE),
        ({"starts_at": NOW + 1}, NOW, Edit.REPLACE),
        ({"matchers": (EU, EU)}, NOW, Edit.REPLACE),
        ({"matchers": (EU, EU)}, NOW - 1, Edit.UPDATE),
        ({"starts_at": NOW + 1}, NOW - 1, Edit.UPDATE),
    ],
)
def test_how_a_change_is_made(changes: dict[str, object], now: float, way: Edit) -> None:
    assert edit(SILENCE, replace(DRAFT, **changes), now) is way


def test_what_has_ended_stays() -> None:
    with pytest.raises(Conflict, match="ended at 2023-11-14T22:14:20Z"):
        edit(SILENCE, DRAFT, NOW + 60)


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"ends_at": NOW}, "ends_at"),
        ({"starts_at": NOW - 9, "ends_at": NOW - 1}, "ends_at"),
        ({"ends_at": NOW + LONGEST_SECONDS + 1}, "ends_at"),
        ({"starts_at": NOW + AHEAD_SECONDS + 1, "ends_at": NOW + AHEAD_SECONDS + 2}, "starts_at"),
        ({"comment": " \n"}, "comment"),
        ({"matchers": ()}, "matchers"),
        ({"matchers": (EU,) * (MATCHERS_MAX + 1)}, "matchers"),
        ({"matchers": (Matcher("region", MatchType.NOT_EQUAL, "us"),)}, "matchers"),
        ({"matchers": (Matcher("region", MatchType.REGEX, ".*"),)}, "matchers"),
    ],
)
def test_what_cannot_be(changes: dict[str, object], where: str) -> None:
    check(DRAFT, NOW, accepts)
    with pytest.raises(Unprocessable) as error:
        check(replace(DRAFT, **changes), NOW, accepts)
    assert error.value.where == where


def test_of_a_long_one_a_week_is_not_learned() -> None:
    assert SILENCE.not_learned == (NOW, NOW + 60)
    long = replace(SILENCE, ends_at=NOW + 1e7)
    assert long.not_learned == (NOW, NOW + NOT_LEARNED_SECONDS)
    assert not SILENCE.names_alerts
    named = Matcher("alertname", MatchType.NOT_EQUAL, "x")
    assert replace(SILENCE, matchers=(EU, named)).names_alerts
