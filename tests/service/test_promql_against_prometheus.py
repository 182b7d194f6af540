"""Generated queries get the answers that a real Prometheus gives, over the same series.

`PROMQL_TEST_QUERIES` asks more of them and `PROMQL_TEST_SEED` other ones.
"""

import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.query.promql.vectors import Steps
from tests.support.literal import Literal
from tests.support.promql.comparison import Query, compared, queries
from tests.support.promql.prometheus import Prometheus, running
from tests.support.promql.refused import BY_SERIES, BY_TEXT
from tests.support.promql.vocabulary import COMPARISONS, DATES, MATHS, Exact, Made
from tests.support.promql.world import BASE_S, SPECIAL, world

REQUIRED = os.environ.get("OFFBEAT_REQUIRE_PROMETHEUS") == "1"
QUERIES = int(os.environ.get("PROMQL_TEST_QUERIES", "3000"))
SEED = int(os.environ.get("PROMQL_TEST_SEED", "1"))
#: Parts that may run beside each other, each with queries and a Prometheus of its own.
PARTS = 3
AT_MS = (BASE_S + 3_000) * 1000 + 500

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(60 + QUERIES // 20),
    pytest.mark.skipif(
        shutil.which("prometheus") is None and not REQUIRED,
        reason="there is no prometheus on PATH (Debian: apt-get install prometheus)",
    ),
]


@pytest.fixture(scope="module")
def source() -> Literal:
    return world()


@pytest.fixture(scope="module")
def prometheus(source: Literal, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """One that has the same series."""
    assert shutil.which("prometheus"), "OFFBEAT_REQUIRE_PROMETHEUS is set: put it on PATH"
    folder: Path = tmp_path_factory.mktemp("prometheus")
    with running(folder) as found:
        found.write(source)
        yield found


@pytest.mark.parametrize("part", range(PARTS))
def test_answers_are_those_of_prometheus(
    prometheus: Prometheus, source: Literal, part: int
) -> None:
    seed, count = SEED * PARTS + part, QUERIES // PARTS
    wrong: list[str] = []
    answers: Counter[str] = Counter()
    explained: Counter[str] = Counter()
    for query in queries(seed, count):
        said, why, theirs = compared(prometheus, source, query)
        answers["error" if theirs.error else "some" if theirs.series else "none"] += 1
        if why:
            explained[why] += 1
        elif said:
            wrong.append(f"{query.made.text} at {query.steps}: {said}")
    sys.stderr.write(f"seed {seed}: {dict(answers)}, known differences {dict(explained)}\n")
    assert not wrong, "\n".join(wrong[:20])
    # Most queries say something, and few are explained away.
    assert answers["some"] > 0.7 * count
    assert answers["error"] > 0
    assert explained.total() < 0.01 * count


@pytest.mark.parametrize("text", [*BY_TEXT, *BY_SERIES])
def test_what_prometheus_refuses_is_refused(
    prometheus: Prometheus, source: Literal, text: str
) -> None:
    query = Query(Made(text, Exact.SAME), Steps(AT_MS, AT_MS))
    said, _, theirs = compared(prometheus, source, query)
    assert theirs.error
    assert not said


@pytest.mark.parametrize("name", sorted([*MATHS, *DATES, "-"]))
def test_functions_of_special_numbers(prometheus: Prometheus, source: Literal, name: str) -> None:
    _same(prometheus, source, f"{name}(special)", MATHS.get(name, Exact.SAME))


@pytest.mark.parametrize("n", range(len(SPECIAL)))
def test_operators_between_special_numbers(prometheus: Prometheus, source: Literal, n: int) -> None:
    for op in ("+", "-", "*", "/", "%", "^", "atan2", *(f"{op} bool" for op in COMPARISONS)):
        exact = Exact.ROUGH if op in ("^", "atan2") else Exact.SAME
        text = f'(-special) {op} on() group_left() (-special{{n="{n}"}})'
        _same(prometheus, source, text, exact)
    for name in ("clamp_min", "clamp_max", "round"):
        text = f'{name}(special, scalar(special{{n="{n}"}}))'
        _same(prometheus, source, text, Exact.SAME)


def _same(prometheus: Prometheus, source: Literal, text: str, exact: Exact) -> None:
    query = Query(Made(text, exact), Steps(AT_MS, AT_MS))
    said, _, theirs = compared(prometheus, source, query)
    assert theirs.series
    assert not said, f"{text}: {said}"
