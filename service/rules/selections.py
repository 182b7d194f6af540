"""Which series of a worker's head a selector accepts, remembered."""

from collections.abc import Iterable, Mapping

from service.domain.series import MatchType, Selector, Series
from service.query.matchers import matches

#: Selections of a tenant that are remembered, and series of all of them together.
SELECTIONS_MAX, SERIES_MAX = 20_000, 5_000_000


class SeriesIndex:
    """Remembers which series a selector accepts; of series that come it looks at those alone.

    Keep one per worker; without it every evaluation looks at every series.
    """

    def __init__(self) -> None:
        self._tenants: dict[str, _Selections] = {}

    def select(self, tenant: str, known: Mapping[int, Series], selector: Selector) -> list[Series]:
        """The series that the selector accepts."""
        found = self._tenants.get(tenant)
        if found is None or not found.follows(known):
            found = self._tenants[tenant] = _Selections(known)
        return found.select(selector)

    def forget(self, tenant: str) -> None:
        """A tenant is judged elsewhere now."""
        self._tenants.pop(tenant, None)


class _Selections:
    """The selections of one tenant over one set of series."""

    def __init__(self, known: Mapping[int, Series]) -> None:
        self._known, self._size = known, len(known)
        self._by_pair: dict[tuple[str, str], list[Series]] = {}
        self._all: list[Series] = []
        self._selected: dict[Selector, list[Series]] = {}
        self._held = 0
        self._take(known.values())

    def follows(self, known: Mapping[int, Series]) -> bool:
        """Whether these are the series, now that what is new is taken in; not if some are gone."""
        if known is self._known and len(known) == self._size:
            return True
        if known is self._known or not self._known.keys() <= known.keys():
            return False
        new = [series for i, series in known.items() if i not in self._known]
        self._known, self._size = known, len(known)
        self._take(new)
        for selector, selected in self._selected.items():
            if more := _matching(selector, new):
                self._selected[selector] = selected + more
                self._held += len(more)
        return True

    def _take(self, new: Iterable[Series]) -> None:
        for series in new:
            for pair in series.labels:
                self._by_pair.setdefault(pair, []).append(series)
            self._all.append(series)

    def select(self, selector: Selector) -> list[Series]:
        selected = self._selected.get(selector)
        if selected is None:
            if len(self._selected) >= SELECTIONS_MAX or self._held >= SERIES_MAX:
                self._selected.clear()
                self._held = 0
            selected = self._selected[selector] = self._find(selector)
            self._held += len(selected)
        return selected

    def _find(self, selector: Selector) -> list[Series]:
        # An equality leaves few series, and only those are worth a look.
        fixed = [m for m in selector.matchers if m.type is MatchType.EQUAL and m.value]
        pools = [self._by_pair.get((m.name, m.value), []) for m in fixed]
        pool = min(pools, key=len, default=self._all)
        return _matching(selector, pool)


def _matching(selector: Selector, pool: Iterable[Series]) -> list[Series]:
    return [series for series in pool if matches(selector, series)]
