"""Which rules look at a series, so that a sample of it has them judged at once."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from service.domain.rules import Rule
from service.domain.series import MatchType, Selector, Series
from service.query.matchers import matches
from service.rules.plans import Plan

_Pair = tuple[str, str]


class Watches:
    """The rules of one tenant by what their selectors ask for.

    A selector is found by the one of its equalities that the fewest others have, for most rules
    name a metric and many rules the same one.
    """

    def __init__(self, plans: Sequence[Plan]) -> None:
        self.rules = [plan.rule for plan in plans]
        self._by_pair: dict[_Pair, list[tuple[int, Selector]]] = {}
        self._others: list[tuple[int, Selector]] = []
        asked = [
            (place, selector, _equalities(selector))
            for place, plan in enumerate(plans)
            for selector in plan.watches
        ]
        often = Counter(pair for _, _, pairs in asked for pair in pairs)
        for place, selector, pairs in asked:
            if pairs:
                rarest = min(pairs, key=often.__getitem__)
                self._by_pair.setdefault(rarest, []).append((place, selector))
            else:
                self._others.append((place, selector))

    def touched(self, ids: Iterable[int], known: Mapping[int, Series]) -> list[Rule]:
        """The rules that look at one of the series, in their order."""
        found: set[int] = set()
        for i in ids:
            series = known.get(i)
            if series is None:
                continue
            asking = [self._others, *(self._by_pair.get(pair, ()) for pair in series.labels)]
            for place, selector in (one for some in asking for one in some):
                if place not in found and matches(selector, series):
                    found.add(place)
            if len(found) == len(self.rules):
                break
        return [self.rules[place] for place in sorted(found)]


def _equalities(selector: Selector) -> list[_Pair]:
    return [(m.name, m.value) for m in selector.matchers if m.type is MatchType.EQUAL and m.value]
