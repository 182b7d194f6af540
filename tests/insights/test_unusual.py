"""Where an unusual stretch sits and what moved with it, of samples that a test makes."""

from typing import Any

import numpy as np
import pytest

from service.domain.series import Series
from service.insights import unusual
from service.insights.findings import describe_run
from service.insights.reading import Watched
from service.storage.columns import Columns

MINUTE = 60_000
T = np.arange(0, 360 * MINUTE, MINUTE)
NOW_MS = int(T[-1])
SINCE = int(T[-30])


def columns(v: Any) -> Columns:
    return Columns(T, np.broadcast_to(np.asarray(v, np.float64), len(T)).copy())


def moved(share: float, name: str = "plays", *, minutes: int = 0, **tags: str) -> Watched:
    """A series expected at 100 that left its course by this share, some minutes before `SINCE`."""
    v = np.where(SINCE - minutes * MINUTE <= T, 100.0 * (1 + share), 100.0)
    noise = np.random.default_rng(len(tags)).normal(0, 0.1, len(T))
    score = np.where(T >= SINCE, 0.9999, 0.3)
    return Watched(Series.of(name, tags), columns(v + noise), columns(100.0), score=columns(score))


def run_of(subject: Watched) -> unusual.Run:
    found = unusual.current_run(subject, 0.999, NOW_MS)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("shares", "text"),
    [
        ((-0.5, -0.5, -0.5), "all 3 series alike"),
        ((-0.5, -0.6, 0.0), "2 of 3 series, mostly b and a"),
        ((-0.5, 0.0, 0.0), "only host=a; the other 2 are as expected"),
        ((-0.5, 0.0), "only host=a; the other one is as expected"),
        ((-0.5,), None),
    ],
)
def test_where_among_peers(shares: tuple[float, ...], text: str | None) -> None:
    # of shares nothing adds up, so no value explains a part
    family = [
        moved(share, "hit_ratio", host=host) for host, share in zip("abc", shares, strict=False)
    ]
    found = unusual.where(family[0], run_of(family[0]), family)
    assert (None if found is None else found.text.replace("\u00a0", " ")) == text


def test_a_value_that_all_have_explains_nothing() -> None:
    whole = moved(-0.5)
    parts = [moved(share, cdn="x", host=host) for host, share in (("a", -0.9), ("b", -0.1))]
    found = unusual.where(whole, run_of(whole), [whole, *parts])
    assert found is not None
    assert found.text.replace("\u00a0", " ") == "host=a explains 90 % of the drop"


def test_what_is_as_expected_on_the_whole_sits_nowhere() -> None:
    odd = moved(0.0)
    family = [odd, moved(0.0, host="a"), moved(0.0, host="b")]
    assert unusual.where(odd, run_of(odd), family) is None


def test_what_moved_is_told_with_its_lead() -> None:
    errors = moved(0.5, "errors", region="eu")
    others = [
        moved(-0.3, "buffer", minutes=4, region="eu"),
        moved(4.0, "retries", region="eu"),
        moved(-0.3, "plays", minutes=4, region="us"),
        moved(0.02, "load", region="eu"),
    ]
    found = unusual.moved_with(errors, run_of(errors), others)
    assert [move.series.name for move in found] == ["retries", "buffer"]
    assert unusual.moves_text(found).replace("\u00a0", " ") == (
        "Retries ↑ 5× (at the same time), Buffer ↓ 30 % (4 minutes earlier)"
    )
    assert unusual.moves_text([]) == ""


def test_a_stretch_that_has_ended_says_so() -> None:
    odd = moved(-0.31, region="eu")
    score = np.where((T >= SINCE) & (T <= NOW_MS - 3 * MINUTE), 0.9999, 0.3)
    run = run_of(Watched(odd.series, odd.samples, odd.expected, score=columns(score)))
    assert run.ended
    assert describe_run(odd, run, NOW_MS / 1000).replace("\u00a0", " ") == (
        "eu: 31 % under expectation for 26 minutes until 3 minutes ago, 69 instead of 100"
    )
    assert unusual.current_run(odd, 0.99995, NOW_MS) is None
    assert unusual.current_run(odd, 0.999, NOW_MS + 6 * MINUTE) is None
