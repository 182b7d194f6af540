"""From a request's body to an entry of the log."""

from collections.abc import Sequence

import numpy as np

from service.domain.clock import Clock
from service.domain.errors import OffbeatError
from service.domain.series import Series
from service.ingest import json
from service.ingest.answer import Answer
from service.ingest.limits import TimeWindow
from service.storage.columns import Batch, Columns, Ids
from service.storage.log import LogWriter
from service.storage.registry import Registered, SeriesRegistry

#: Cached series keys of a tenant; over that the cache starts anew.
_KEYS_MAX = 50_000


class Intake:
    """Takes requests of tenants. One append to the log a request; answers once Redis has it."""

    def __init__(self, registry: SeriesRegistry, log: LogWriter, clock: Clock) -> None:
        self._registry = registry
        self._log = log
        self._clock = clock
        self._ids: dict[str, dict[json.SeriesKey, int]] = {}

    async def record_json(
        self,
        tenant: str,
        body: bytes,
        *,
        max_age_seconds: float,
        max_ahead_seconds: float,
        series_max: int,
    ) -> Answer:
        """Keep the good samples of a body and say which items were not kept, and why.

        Raises `InvalidInput` if the body is no metrics at all, `Unavailable` if Redis is down.
        """
        answer = Answer()
        decoded = json.decode(body, tenant, answer)
        now_ms = round(self._clock.now() * 1000)
        ids = await self._resolve(tenant, decoded, series_max, answer)
        t = np.array([now_ms if t is None else t for t in decoded.t_ms], np.int64)
        v = np.array(decoded.value, np.float64)
        window = TimeWindow(
            now_ms - round(max_age_seconds * 1000), now_ms + round(max_ahead_seconds * 1000)
        )
        timely = (t >= window.start_ms) & (t <= window.end_ms)
        for row in np.flatnonzero(~timely & (ids >= 0)).tolist():
            answer.reject(
                decoded.index[row], decoded.key[row][0], window.reason(decoded.t_ms[row] or 0)
            )
        keep = timely & (ids >= 0)
        if keep.any():
            await self._log.append(tenant, Batch(ids[keep], t[keep], v[keep]))
            answer.accepted = int(keep.sum())
        answer.items.sort(key=lambda item: item.index)
        return answer

    async def _resolve(
        self, tenant: str, decoded: json.Decoded, series_max: int, answer: Answer
    ) -> Ids:
        """Ids of the decoded samples' series; -1 where there is none, with the reason told."""
        cache = self._ids.setdefault(tenant, {})
        ids = [cache.get(key, -1) for key in decoded.key]
        if -1 in ids:
            if len(cache) > _KEYS_MAX:
                cache.clear()
            problems = await self._learn(tenant, decoded, ids, series_max, cache)
            for row, key in enumerate(decoded.key):
                if ids[row] < 0:
                    if key in problems:
                        answer.reject(decoded.index[row], key[0], problems[key])
                    else:
                        ids[row] = cache[key]
        return np.array(ids, np.int64)

    async def _learn(
        self,
        tenant: str,
        decoded: json.Decoded,
        ids: Sequence[int],
        series_max: int,
        cache: dict[json.SeriesKey, int],
    ) -> dict[json.SeriesKey, str]:
        problems: dict[json.SeriesKey, str] = {}
        fresh: dict[json.SeriesKey, Series] = {}
        for row, key in enumerate(decoded.key):
            if ids[row] < 0 and key not in fresh and key not in problems:
                found = json.parse_series(key, decoded.types[row])
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
        self._ids.pop(tenant, None)


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
