"""Scores series that have no model of their own yet. Synchronous: the worker calls it in a thread.

Their new rows are judged together, as arrays (`models.cold`). Where enough series of the same
name have models, their expectation lends its shape.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import structlog

from models import cold
from models.base import Array, Flags
from models.cold import Expectation, Limits, Profile, Shape
from models.ensemble import Scores
from service.detection import counters
from service.detection.derived import Samples, score_samples
from service.domain.confidence import ALONE_ROWS, BESIDE_ROWS
from service.domain.series import EXPECTED, EXPECTED_LOWER, EXPECTED_UPPER, MetricType, Series
from service.storage.columns import Columns, Times

log = structlog.get_logger(__name__)

#: Rows of a series that are judged at most at a time: of a history that comes in whole, the newest.
#: Of a stream that brings more between two looks it is the newest alone. Training judges the rest.
NEWEST = 30
#: Rows that are judged together.
_TOGETHER = 8192


class Head(Protocol):
    """The newest samples in memory."""

    def series(self, tenant: str) -> Mapping[int, Series]:
        """Every series of a tenant, derived ones too."""
        ...

    def columns(self, tenant: str, series: int) -> Columns:
        """All samples in memory."""
        ...


class _Row(NamedTuple):
    """The new rows of one series: what it has, as it is learned, and how many of it are new."""

    series: Series
    samples: Columns
    seen: Columns
    new: int


@dataclass(slots=True)
class _Names:
    """Which trained series of a tenant have a name, as of one listing."""

    trained: frozenset[int]
    known: int
    by_name: dict[str, list[Series]] = field(default_factory=dict)


class ColdScorer:
    """Turns new points of untrained series into samples of derived series."""

    def __init__(self) -> None:
        self._aside: dict[str, set[int]] = {}
        self._names: dict[str, _Names] = {}
        #: How often a series could not be judged, since the start.
        self.failures = 0

    def candidates(
        self, tenant: str, ids: Collection[int], known: Mapping[int, Series]
    ) -> list[Series]:
        """Of these ids without a model the series that may be judged: no derived ones."""
        aside = self._aside.setdefault(tenant, set())
        found = [known[i] for i in set(ids) - aside if i in known]
        aside.update(series.id for series in found if series.is_derived)
        return [series for series in found if series.id not in aside]

    def forget(self, tenant: str) -> None:
        """A tenant is judged elsewhere now."""
        self._aside.pop(tenant, None)
        self._names.pop(tenant, None)

    def score(
        self,
        tenant: str,
        head: Head,
        work: Iterable[Series],
        trained: frozenset[int],
        since: Callable[[Series], int],
    ) -> Iterator[tuple[Series, Samples]]:
        """What is said about the rows of each series after `since` (ms), score first.

        Series with nothing new are left out, and those with too few rows to say anything. What goes
        wrong is logged and counted, never raised.
        """
        profiles = _Profiles(self, tenant, head, trained)
        batch: list[_Row] = []
        rows = 0
        for series in work:
            row = _row(series, head.columns(tenant, series.id), since(series))
            if row is not None:
                batch.append(row)
                rows += row.new
            if rows >= _TOGETHER:
                yield from self._judge(tenant, batch, profiles)
                batch, rows = [], 0
        yield from self._judge(tenant, batch, profiles)

    def _judge(
        self, tenant: str, batch: list[_Row], profiles: "_Profiles"
    ) -> Iterator[tuple[Series, Samples]]:
        """What is said of a batch; if that fails, of each series alone: one harms no other."""
        try:
            found = list(_said(batch, profiles)) if batch else []
        except Exception:
            found = self._each(tenant, batch, profiles)
        yield from found

    def _each(
        self, tenant: str, batch: list[_Row], profiles: "_Profiles"
    ) -> list[tuple[Series, Samples]]:
        found: list[tuple[Series, Samples]] = []
        failed: list[tuple[Series, Exception]] = []
        for row in batch:
            try:
                found += _said([row], profiles)
            except Exception as error:
                failed.append((row.series, error))
        if failed:  # one line, however many there are
            self.failures += len(failed)
            series, first = failed[0]
            log.error(
                "cold scoring failed",
                tenant=tenant,
                series=series.hex,
                failed=len(failed),
                exc_info=first,
            )
        return found

    def peers(
        self, tenant: str, name: str, known: Mapping[int, Series], trained: frozenset[int]
    ) -> list[Series]:
        """The trained series of a name, by id."""
        names = self._names.get(tenant)
        if names is None or names.trained is not trained or names.known != len(known):
            names = self._names[tenant] = _Names(trained, len(known))
            for i in sorted(trained):
                if i in known:
                    names.by_name.setdefault(known[i].name, []).append(known[i])
        return names.by_name.get(name, [])


class _Profiles:
    """The profiles of one pass, made where they are asked for."""

    def __init__(
        self, scorer: ColdScorer, tenant: str, head: Head, trained: frozenset[int]
    ) -> None:
        self._scorer, self._tenant, self._head, self._trained = scorer, tenant, head, trained
        self._made: dict[tuple[str, MetricType], Profile | None] = {}

    def of(self, series: Series) -> Profile | None:
        """What the peers of a series do; None without enough of them."""
        name = (series.name, series.metric_type)
        if name not in self._made:
            known = self._head.series(self._tenant)
            trained = self._scorer.peers(self._tenant, series.name, known, self._trained)
            peers = [one for one in trained if one.metric_type is series.metric_type]
            told = [self._expectation(peer) for peer in peers[: cold.PEERS_MAX]]
            profile = Profile([one for one in told if one is not None])
            self._made[name] = profile if profile.peers >= cold.PEERS_MIN else None
        return self._made[name]

    def _expectation(self, peer: Series) -> Expectation | None:
        """What its model said of late; of a counter, of its rate."""
        parts = [
            self._head.columns(self._tenant, peer.derived(suffix).id)
            for suffix in (EXPECTED, EXPECTED_LOWER, EXPECTED_UPPER)
        ]
        n = min(len(part.t) for part in parts)
        if not n or any(part.t[-n] != parts[0].t[-n] for part in parts):
            return None
        t = parts[0].t[-n:]
        told = [part.v[-n:] for part in parts]
        if peer.metric_type is MetricType.COUNTER:
            samples = self._head.columns(self._tenant, peer.id)
            return _of_rates(samples, t, told)
        return Expectation(t, *told)


def _of_rates(samples: Columns, t: Times, totals: list[Array]) -> Expectation | None:
    """Expected totals of a counter as the rates that lead to them."""
    rates = counters.rates(samples)
    if not len(rates.t):
        return None
    place = np.minimum(np.searchsorted(rates.t, t), len(rates.t) - 1)
    same = rates.t[place] == t
    place = place[same]
    if not len(place):
        return None
    seconds = (samples.t[place + 1] - samples.t[place]) / 1000.0
    value = samples.v[place + 1]
    # the total that was expected differs from the one that came as much as the rates do
    told = (rates.v[place] + (total[same] - value) / seconds for total in totals)
    return Expectation(t[same], *told)


def _row(series: Series, samples: Columns, since: int) -> _Row | None:
    """The rows after `since` that can be judged, None without any."""
    if not len(samples.t) or since >= samples.t[-1]:
        return None
    kept = cold.ROWS + NEWEST + 1
    samples = Columns(samples.t[-kept:], samples.v[-kept:])
    counter = series.metric_type is MetricType.COUNTER
    seen = counters.rates(samples) if counter else samples
    new = len(seen.t) - int(np.searchsorted(seen.t, since, side="right"))
    most = NEWEST if new <= NEWEST or not since else 1
    new = min(new, most, len(seen.t) - BESIDE_ROWS)
    return _Row(series, samples, seen, new) if new > 0 else None


def _said(batch: list[_Row], profiles: _Profiles) -> Iterator[tuple[Series, Samples]]:
    """What is said about the new rows of each series."""
    before = np.concatenate([cold.windows(row.seen.v, row.new) for row in batch])
    seen = np.concatenate([row.seen.v[-row.new :] for row in batch])
    shape = _course(batch, len(seen), profiles)
    limits = cold.judge(before, seen, shape)
    fewest = ALONE_ROWS if shape is None else np.where(shape.width > 0, BESIDE_ROWS, ALONE_ROWS)
    enough = np.isfinite(before).sum(axis=1) >= fewest
    end = 0
    for row in batch:
        begin, end = end, end + row.new
        kept = enough[begin:end]
        if kept.any():
            yield row.series, _samples(row, Limits(*(part[begin:end] for part in limits)), kept)


def _course(batch: list[_Row], rows: int, profiles: _Profiles) -> Shape | None:
    """What peers do at the times of the windows of each series; None where none has any."""
    shape: Shape | None = None
    end = 0
    for row in batch:
        begin, end = end, end + row.new
        profile = profiles.of(row.series)
        if profile is None:
            continue
        if shape is None:
            nothing = np.full((rows, cold.ROWS), np.nan)
            shape = Shape(nothing, nothing[:, 0].copy(), nothing[:, 0].copy())
        course, width = profile.at(row.seen.t[-cold.ROWS - row.new :])
        shape.before[begin:end] = cold.windows(course, row.new)
        shape.now[begin:end], shape.width[begin:end] = course[-row.new :], width[-row.new :]
    return shape


def _samples(row: _Row, limits: Limits, kept: Flags) -> Samples:
    """What is said about the rows that are `kept`."""
    t = row.seen.t[-row.new :]
    silent = np.zeros(len(t))
    scores = Scores(t, limits.score, silent, limits.expected, limits.lower, limits.upper)
    if row.series.metric_type is MetricType.COUNTER:
        scores = counters.totals(row.samples, scores)
    columns = (scores.score, scores.alert, scores.expected, scores.lower, scores.upper)
    return score_samples(row.series, Scores(t[kept], *(column[kept] for column in columns)))
