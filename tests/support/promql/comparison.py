"""Generated queries, asked of Prometheus and of us, over the same series."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from service.domain.errors import InvalidInput, Unprocessable
from service.query.promql.evaluate import evaluate
from service.query.promql.parse import parse
from service.query.promql.vectors import Steps
from tests.support.literal import Literal
from tests.support.promql.answers import Answer, difference, of_ours, of_prometheus
from tests.support.promql.differences import reason, spelt
from tests.support.promql.generate import Generator
from tests.support.promql.prometheus import Prometheus
from tests.support.promql.vocabulary import Made
from tests.support.promql.world import BASE_S, SPAN_S


@dataclass(frozen=True)
class Query:
    """An expression at some times, in milliseconds; instant if there is one."""

    made: Made
    steps: Steps

    @property
    def instant(self) -> bool:
        return self.steps.start_ms == self.steps.end_ms


def queries(seed: int, count: int) -> Iterator[Query]:
    """Every second one a range query. All are at half seconds, where there are no samples."""
    random = Random(seed)
    generator = Generator(random, BASE_S, SPAN_S)
    for number in range(count):
        made = generator.expression()
        at = BASE_S * 1000 + random.randrange(600, SPAN_S + 400) * 1000 + 500
        if number % 2:
            step, steps = random.choice((15, 30, 60, 77)) * 1000, random.randrange(1, 30)
            yield Query(made, Steps(at - steps * step, at, step))
        else:
            yield Query(made, Steps(at, at))


def ours(source: Literal, query: Query) -> Answer:
    """What we answer."""
    try:
        return of_ours(evaluate(parse(query.made.text), source, query.steps))
    except (InvalidInput, Unprocessable) as error:
        return Answer(error=str(error))


def theirs(prometheus: Prometheus, query: Query) -> Answer:
    """What Prometheus answers."""
    text, steps = spelt(query.made.text), query.steps
    if query.instant:
        return of_prometheus(prometheus.query(text, steps.start_ms / 1000))
    times = (steps.start_ms / 1000, steps.end_ms / 1000, steps.step_ms / 1000)
    return of_prometheus(prometheus.query_range(text, *times))


def compared(prometheus: Prometheus, source: Literal, query: Query) -> tuple[str, str, Answer]:
    """What differs, why it may, and Prometheus' answer; nothing differs: two empty texts."""
    mine, other = ours(source, query), theirs(prometheus, query)
    ordered = query.instant and query.made.ordered
    said = difference(mine, other, query.made.exact, ordered=ordered)
    return said, reason(query.made.text, mine, other) if said else "", other
