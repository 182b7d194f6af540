"""For which series forecasters that take long are asked: those whose forecast a rule waits for.

Asking them doubles what a training costs. They stay where they earn a part of the weight; elsewhere
they are tried again now and then.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from models.forecast.pool import POOL
from service.detection.records import ModelRecord
from service.domain.series import Selector, Series
from service.query.matchers import matches

#: The selectors of a tenant whose series a rule looks ahead at.
Foreseen = Callable[[str], Awaitable[Sequence[Selector]]]

#: Trainings of a series until those that did not earn it are asked again.
EVERY = 8
#: The share of the weight that pays for them.
EARNED = 0.1


def asked(series: Series, record: ModelRecord, foreseen: Iterable[Selector]) -> bool:
    """Whether the next training of a series asks forecasters that take long."""
    tried = record.version % EVERY == 0 or record.quality.get("thorough", 0.0) >= EARNED
    return tried and any(matches(selector, series) for selector in foreseen)


def share(weights: Mapping[str, float]) -> float:
    """The part of a forecast's weight that lies with members that take long."""
    return sum(weight for name, weight in weights.items() if POOL[name].dear)
