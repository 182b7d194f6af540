"""What scoring carries from one new point of a series to the next: a bank for each tenant.

A series comes in when its model is used first, together with its context; after that a new point
costs a share of one call for all. What cannot be carried on (a late sample, a new model, events
that keep no time) goes back to its context, and says the same.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from models.bank import Bank
from models.ensemble import Detector, Scores
from models.forecast.series import SeriesForecaster
from service.detection import counters
from service.detection.registry import ModelRegistry, SeriesModel
from service.domain.series import Series
from service.storage.columns import Columns

#: New points of a series that are taken in one after the other; more are judged with the context.
POINTS_MAX = 12

#: A series, its context, and the time after which its points are new.
Work = tuple[Series, Columns, int]


@dataclass(frozen=True, slots=True)
class Known:
    """What else is needed of a model whose detector is in a bank; times in milliseconds.

    `cleaner` is the detector where training left rows out.
    """

    version: int
    counter: bool
    judged_until_ms: int
    trained_to_ms: int
    forecaster: SeriesForecaster
    cleaner: Detector | None

    @classmethod
    def of(cls, model: SeriesModel) -> "Known":
        """Of a loaded model."""
        return cls(
            model.version,
            model.counter,
            model.judged_until_ms,
            int(model.manifest["trained_to_ms"]),
            model.forecaster,
            model.detector if len(model.detector.left_out_) else None,
        )


@dataclass(slots=True)
class _Carried:
    """Up to where a series is in the bank: time of its last row, and the context before it."""

    known: Known
    until_ms: int
    first_ms: int
    rows: int

    def fits(self, context: Columns, new: int) -> bool:
        """Whether the `new` newest rows follow on what is in the bank, and nothing came late."""
        old = len(context.t) - new
        if old < 1 or context.t[old - 1] != self.until_ms:
            return False
        return bool(context.t[0] != self.first_ms or old == self.rows)

    def went_on(self, context: Columns) -> None:
        """All of `context` is in the bank."""
        self.until_ms, self.first_ms = int(context.t[-1]), int(context.t[0])
        self.rows = len(context.t)


@dataclass(frozen=True, slots=True)
class Next:
    """The new points of one series that its bank can go on with."""

    known: Known
    series: Series
    context: Columns
    new: int

    def newest(self, before: int = 0) -> Columns:
        """The new points, and so many rows before them."""
        rows = slice(-self.new - before, None)
        return Columns(self.context.t[rows], self.context.v[rows])


class Banks:
    """The banks of tenants, of up to `most` series together. One thread at a time."""

    def __init__(self, models: ModelRegistry, most: int) -> None:
        self._models = models
        self._most = most
        self._banks: dict[str, Bank] = {}
        self._carried: dict[str, dict[int, _Carried]] = {}

    def forget(self, tenant: str, series: int | None = None) -> None:
        """Drop a series, or all of a tenant."""
        if series is None:
            self._banks.pop(tenant, None)
            self._carried.pop(tenant, None)
        elif tenant in self._banks:
            self._banks[tenant].remove(series)
            self._carried.get(tenant, {}).pop(series, None)

    def ready(self, tenant: str, series: Series, context: Columns, from_ms: int) -> Next | None:
        """The points after `from_ms`, if the bank can go on with them."""
        carried = self._carried.get(tenant, {}).get(series.id)
        if carried is None:
            return None
        newest = len(context.t) - 1
        if newest > 0 and context.t[newest - 1] <= from_ms < context.t[newest]:
            new = 1  # nearly always
        else:
            new = len(context.t) - int(np.searchsorted(context.t, from_ms, side="right"))
        fits = 0 < new <= POINTS_MAX and carried.fits(context, new)
        if not fits or self._models.version(tenant, series.id) != carried.known.version:
            self.forget(tenant, series.id)
            return None
        return Next(carried.known, series, context, new)

    def add(
        self,
        tenant: str,
        series: Series,
        model: SeriesModel,
        context: Columns,
        seen: Columns,
        new: int,
    ) -> Scores:
        """Scores of the `new` newest rows of `seen`, as the model sees `context`; goes on there."""
        self.forget(tenant, series.id)
        bank = self._banks.setdefault(tenant, Bank())
        if sum(map(len, self._banks.values())) >= self._most:
            return model.detector.score(*seen, new)
        scores = bank.add(series.id, model.detector, *seen, new)
        if series.id in bank:
            carried = _Carried(Known.of(model), 0, 0, 0)
            carried.went_on(context)
            self._carried.setdefault(tenant, {})[series.id] = carried
            self._models.release(tenant, series.hex)  # the bank has all that is needed often
        return scores

    def step(
        self, tenant: str, work: Sequence[Next], failed: Callable[[Next], None]
    ) -> Iterator[tuple[Next, Scores]]:
        """Scores of the new points of each series; `failed` is told of those out of step."""
        bank, carried = self._banks[tenant], self._carried[tenant]
        said: dict[int, list[tuple[Scores, int]]] = {one.series.id: [] for one in work}
        tails = [_tail(one) for one in work]
        lost: set[int] = set()
        for turn in range(max((one.new for one in work), default=0)):
            at = [
                number
                for number, one in enumerate(work)
                if one.new > turn and one.series.id not in lost
            ]
            keys = [work[number].series.id for number in at]
            t = np.array([tails[number].t[turn] for number in at], np.int64)
            v = np.array([tails[number].v[turn] for number in at], np.float64)
            step = bank.step(keys, t, v)
            for place, (key, stale) in enumerate(zip(keys, step.stale.tolist(), strict=True)):
                if stale:
                    lost.add(key)
                    carried.pop(key, None)
                else:
                    said[key].append((step.scores, place))
        for one in work:
            if one.series.id in lost:
                failed(one)
                continue
            carried[one.series.id].went_on(one.context)
            scores = _together(said[one.series.id])
            if one.known.counter:
                scores = counters.totals(one.newest(1), scores)
            yield one, scores


def _tail(one: Next) -> Columns:
    """The new rows as the detector sees them."""
    return counters.rates(one.newest(1)) if one.known.counter else one.newest()


def _together(parts: list[tuple[Scores, int]]) -> Scores:
    """Rows of scores, one after the other."""
    if len(parts) == 1:
        scores, place = parts[0]
        return scores.rows(slice(place, place + 1))
    return Scores(
        np.array([scores.t_ms[place] for scores, place in parts], np.int64),
        np.array([scores.score[place] for scores, place in parts]),
        np.array([scores.alert[place] for scores, place in parts]),
        np.array([scores.expected[place] for scores, place in parts]),
        np.array([scores.lower[place] for scores, place in parts]),
        np.array([scores.upper[place] for scores, place in parts]),
    )
