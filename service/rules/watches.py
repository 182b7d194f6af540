"""Which rules look at a series, so that a sample of it has them judged at once."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from service.domain.rules import Rule
from service.domain.series import MatchType, Selector, Series
from service.query.matchers import matches
from service.rules.plans import Plan

_Pair = tuple[str, str]

#: Series of which it is remembered which rules look at them.
_REMEMBERED = 1_000_000


class Watches:
    """The rules of one tenant by what their selectors ask for.

    A selector is found by the one of its equalities that the fewest others have, for most rules
    name a metric and many rules the same one.
    """

    def __init__(self, plans: Sequence[Plan]) -> None:
        self.rules = [plan.rule for plan in plans]
        self._by_pair: dict[_Pair, list[tuple[int, Selector]]] = {}
        self._others: list[tuple[int, Selector]] = []
        self._looking: dict[int, tuple[int, ...]] = {}
        self._shared: dict[tuple[int, ...], tuple[int, ...]] = {}
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
        if not self.rules:
            return []
        looking: set[tuple[int, ...]] = set()
        for i in ids:
            places = self._looking.get(i)
            if places is None:
                if i not in known:
                    continue
                places = self._remembered(i, self._look(known[i]))
            looking.add(places)
        return [self.rules[place] for place in sorted({p for places in looking for p in places})]

    def _look(self, series: Series) -> tuple[int, ...]:
        """The places of the rules that look at a series."""
        asking = [self._others, *(self._by_pair.get(pair, ()) for pair in series.labels)]
        found = {p for some in asking for p, selector in some if matches(selector, series)}
        return tuple(sorted(found))

    def _remembered(self, series: int, places: tuple[int, ...]) -> tuple[int, ...]:
        """Most series of a metric are looked at by the same rules: these are kept once."""
        if len(self._looking) >= _REMEMBERED:
            self._looking.clear()
            self._shared.clear()
        places = self._shared.setdefault(places, places)
        self._looking[series] = places
        return places


def _equalities(selector: Selector) -> list[_Pair]:
    return [(m.name, m.value) for m in selector.matchers if m.type is MatchType.EQUAL and m.value]
