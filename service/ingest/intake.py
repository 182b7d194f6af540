"""From a request's body to an entry of the log."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from service.domain.clock import Clock
from service.domain.errors import OffbeatError
from service.domain.series import Series
from service.ingest.answer import Answer
from service.ingest.decoded import NO_TIME, Decoded
from service.ingest.limits import TimeWindow
from service.storage.columns import Batch, Columns, Ids
from service.storage.log import LogWriter
from service.storage.registry import Registered, SeriesRegistry

#: Cached series keys of a tenant; over that the cache starts anew.
_KEYS_MAX = 50_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What holds for a tenant: age window of samples in seconds, number of series."""

    max_age_seconds: float
    max_ahead_seconds: float
    series_max: int


class Intake:
    """Takes requests of tenants. One append to the log a request; answers once Redis has it."""

    def __init__(self, registry: SeriesRegistry, log: LogWriter, clock: Clock) -> None:
        self._registry = registry
        self._log = log
        self._clock = clock
        self._ids: dict[tuple[str, str], dict[Hashable, int]] = {}

    async def record(
        self, tenant: str, decoded: Decoded, limits: Limits, answer: Answer | None = None
    ) -> Answer:
        """Keep the good samples of a request and say which items were not kept, and why.

        `answer` already names what the decoder could not read. Raises `Unavailable` if Redis is
        down or too far behind.
        """
        answer = answer or Answer()
        now_ms = round(self._clock.now() * 1000)
        ids = await self._resolve(tenant, decoded, limits.series_max, answer)
        t = np.where(decoded.t_ms == NO_TIME, now_ms, decoded.t_ms)
        window = TimeWindow(
            now_ms - round(limits.max_age_seconds * 1000),
            now_ms + round(limits.max_ahead_seconds * 1000),
        )
        timely = (t >= window.start_ms) & (t <= window.end_ms)
        known = ids >= 0
        for row in np.flatnonzero(~timely & known).tolist():
            answer.reject(decoded.index[row], decoded.name(row), window.reason(int(t[row])))
        keep = timely & known
        if keep.any():
            await self._log.append(tenant, Batch(ids[keep], t[keep], decoded.values[keep]))
            answer.accepted += int(keep.sum())
        answer.items.sort(key=lambda item: item.index)
        return answer

    async def _resolve(self, tenant: str, decoded: Decoded, series_max: int, answer: Answer) -> Ids:
        """Ids of the decoded samples' series; -1 where there is none, with the reason told."""
        cache = self._ids.setdefault((tenant, decoded.protocol), {})
        ids = [cache.get(key, -1) for key in decoded.keys]
        if -1 in ids:
            if len(cache) > _KEYS_MAX:
                cache.clear()
            unknown = [row for row, number in enumerate(ids) if number < 0]
            problems = await self._learn(tenant, decoded, unknown, series_max, cache)
            for row in unknown:
                key = decoded.keys[row]
                if key in problems:
                    answer.reject(decoded.index[row], decoded.name(row), problems[key])
                else:
                    ids[row] = cache[key]
        return np.array(ids, np.int64)

    async def _learn(
        self,
        tenant: str,
        decoded: Decoded,
        rows: Sequence[int],
        series_max: int,
        cache: dict[Hashable, int],
    ) -> dict[Hashable, str]:
        """Register the series of these rows; what is wrong with those that are not in `cache`."""
        problems: dict[Hashable, str] = {}
        fresh: dict[Hashable, Series] = {}
        for row in rows:
            key = decoded.keys[row]
            if key not in fresh and key not in problems:
                found = decoded.series(row)
                if isinstance(found, str):
                    problems[key] = found
                else:
                    fresh[key] = found
        outcomes = await self._registry.register(tenant, list(fresh.values()), series_max)
        for (key, series), outcome in zip(fresh.items(), outcomes, strict=True):
            if outcome is Registered.OVER_LIMIT:
                problems[key] = f"a new series, and the tenant has its {series_max} already"
            elif outcome is Registered.COLLISION:
                problems[key] = "its labels hash like those of another series; change one of them"
            else:
                cache[key] = series.id
        return problems

    def forget(self, tenant: str) -> None:
        """Forget the series of a tenant that was deleted."""
        for name in [name for name in self._ids if name[0] == tenant]:
            del self._ids[name]


class SeriesWriter:
    """Writes what models say, through the log like everything else."""

    def __init__(self, registry: SeriesRegistry, log: LogWriter) -> None:
        self._registry = registry
        self._log = log
        self._known: dict[str, set[int]] = {}

    async def write(self, tenant: str, samples: Sequence[tuple[Series, Columns]]) -> None:
        """Keep samples of derived series; the last write of a timestamp wins."""
        known = self._known.setdefault(tenant, set())
        fresh = [series for series, _ in samples if series.id not in known]
        if fresh:
            outcomes = await self._registry.register(tenant, fresh)
            for series, outcome in zip(fresh, outcomes, strict=True):
                if outcome is Registered.COLLISION:
                    raise OffbeatError(f"the id of {series} is taken by another series")
            known.update(series.id for series in fresh)
        if samples:
            await self._log.append(
                tenant,
                Batch(
                    np.concatenate([np.full(len(c.t), s.id, np.int64) for s, c in samples]),
                    np.concatenate([c.t for _, c in samples]),
                    np.concatenate([c.v for _, c in samples]),
                ),
            )
