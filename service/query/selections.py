"""Which series selectors accept, remembered for as long as a tenant has the same series."""

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from service.domain.series import LabelPairs, Matcher, MatchType, Selector, Series
from service.query.matchers import accepts

#: Tenants whose selections are remembered.
_TENANTS_MAX = 256
#: Series that a tenant's selections hold together: so many times as many as there are, and some
#: more, as one that holds none is remembered too.
_TIMES, _MORE = 4, 1000


@dataclass(frozen=True)
class Selection:
    """The series that a selector accepts, by labels. Not to be changed: it is remembered."""

    series: list[Series]

    @cached_property
    def ids(self) -> list[int]:
        """Their ids."""
        return [each.id for each in self.series]

    @cached_property
    def labels(self) -> list[LabelPairs]:
        """Their labels."""
        return [each.labels for each in self.series]


class Known:
    """The series of one tenant. Threads may ask at the same time."""

    def __init__(self, every: Mapping[int, Series]) -> None:
        self.every = every
        self._by_name: Mapping[str, list[Series]] | None = None
        self._found: OrderedDict[Selector, Selection] = OrderedDict()
        self._room = _TIMES * len(every) + _MORE
        self._lock = threading.Lock()

    def recall(self, selector: Selector) -> Selection | None:
        """What is remembered; `select` looks at every series of the name that is asked for."""
        with self._lock:
            found = self._found.get(selector)
            if found is not None:
                self._found.move_to_end(selector)
        return found

    def select(self, selector: Selector) -> Selection:
        """The series that the selector accepts."""
        found = self.recall(selector)
        if found is None:
            chosen = _accepted(self._named(selector.name), selector.matchers)
            found = Selection(sorted(chosen, key=lambda series: series.labels))
            self._remember(selector, found)
        return found

    def _named(self, name: str | None) -> Iterable[Series]:
        if not name:
            return self.every.values()
        if self._by_name is None:
            by_name: dict[str, list[Series]] = defaultdict(list)
            for series in self.every.values():
                by_name[series.name].append(series)
            self._by_name = dict(by_name)
        return self._by_name.get(name, ())

    def _remember(self, selector: Selector, found: Selection) -> None:
        with self._lock:
            if selector not in self._found:
                self._found[selector] = found
                self._room -= 1 + len(found.series)
            while self._room < 0:
                _, gone = self._found.popitem(last=False)
                self._room += 1 + len(gone.series)


class Selections:
    """What is known of each tenant."""

    def __init__(self) -> None:
        self._tenants: OrderedDict[str, Known] = OrderedDict()

    def of(self, tenant: str, every: Mapping[int, Series]) -> Known:
        """Of the tenant with these series, which must be another mapping when they change."""
        known = self._tenants.get(tenant)
        if known is None or known.every is not every:
            known = self._tenants[tenant] = Known(every)
        self._tenants.move_to_end(tenant)
        if len(self._tenants) > _TENANTS_MAX:
            self._tenants.popitem(last=False)
        return known


def _accepted(series: Iterable[Series], matchers: Iterable[Matcher]) -> Iterable[Series]:
    """Those that every matcher accepts."""
    for matcher in matchers:
        if matcher.type is MatchType.EQUAL and matcher.value:
            pair = (matcher.name, matcher.value)
            series = [each for each in series if pair in each.labels]
        else:
            series = list(filter(_judge(matcher), series))
    return series


def _judge(matcher: Matcher) -> Callable[[Series], bool]:
    """Whether a series is accepted; each value is looked at once."""
    name, judged = matcher.name, dict[str, bool]()

    def accepted(series: Series) -> bool:
        value = series.label(name)
        known = judged.get(value)
        if known is None:
            known = judged[value] = accepts((matcher,), {name: value})
        return known

    return accepted
