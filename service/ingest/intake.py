"""From a request's body to an entry of the log."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil

import numpy as np

from service.domain.clock import Clock
from service.domain.errors import OffbeatError, StaleSeries, Unavailable
from service.domain.quotas import Quota
from service.domain.series import Series
from service.ingest.answer import Answer
from service.ingest.decoded import NO_TIME, Decoded
from service.ingest.limits import TimeWindow
from service.ingest.repeats import Repeats
from service.storage.append import LogWriter
from service.storage.columns import Batch, Columns, Ids
from service.storage.registry import Registered, SeriesRegistry

#: Cached series keys of a tenant with an ordinary quota, and bytes of a key on average; over that
#: the cache starts anew. A sender may write one series in many ways, and each as long as a body.
_KEYS_MAX = 50_000
_KEY_BYTES = 1000
#: Deletions of series that a request may meet before it is sent back.
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Limits:
    """What holds for a tenant's samples."""

    quota: Quota
    max_ahead_seconds: float


@dataclass(slots=True)
class _Refused:
    """Rows that are not kept, with reasons, and the seconds until some of them may be."""

    reasons: dict[int, str] = field(default_factory=dict)
    retry_after: float = 0.0


class _Known:
    """Ids of a tenant's series by what senders write of them, valid for one generation."""

    __slots__ = ("_bytes", "by_protocol", "generation")

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.by_protocol: dict[str, dict[Hashable, int]] = {}
        self._bytes = 0

    def make_room(self, fresh: Iterable[Hashable], series_max: int) -> None:
        """Forget everything if it is too much with the keys that come now."""
        most = max(_KEYS_MAX, 2 * series_max)
        self._bytes += sum(map(_size, fresh))
        if sum(map(len, self.by_protocol.values())) > most or self._bytes > most * _KEY_BYTES:
            for cache in self.by_protocol.values():
                cache.clear()
            self._bytes = 0

    def keys(self, protocol: str) -> dict[Hashable, int]:
        """The cache of one decoder."""
        return self.by_protocol.setdefault(protocol, {})


def _size(key: Hashable) -> int:
    parts = key if isinstance(key, tuple) else (key,)
    return sum(len(part) for part in parts if isinstance(part, bytes | str))


class Intake:
    """Takes requests of tenants. One append to the log a request; answers once Redis has it."""

    def __init__(self, registry: SeriesRegistry, log: LogWriter, clock: Clock) -> None:
        self._registry = registry
        self._log = log
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._repeats = Repeats()

    def admit(self, tenant: str) -> None:
        """`OverLimit` while the tenant is over its rates: nothing of it need be read."""
        self._log.admit(tenant)

    async def record(
        self, tenant: str, decoded: Decoded, limits: Limits, answer: Answer | None = None
    ) -> Answer:
        """Keep the good samples of a request and say which items were not kept, and why.

        `answer` already names what the decoder could not read. Raises `OverLimit` if the tenant
        is over its rates, `Unavailable` if Redis is down or too far behind.
        """
        answer = answer or Answer()
        for left in reversed(range(_ATTEMPTS)):
            try:
                refused = _Refused()
                kept = await self._record(tenant, decoded, limits, refused)
                break
            except StaleSeries as error:
                self.forget(tenant)
                if not left:
                    raise Unavailable("series are being deleted; try again") from error
        answer.accepted += kept
        answer.retry_after = refused.retry_after
        for row, reason in refused.reasons.items():
            answer.reject(decoded.index[row], decoded.name(row), reason)
        answer.items.sort(key=lambda item: item.index)
        return answer

    async def _record(
        self, tenant: str, decoded: Decoded, limits: Limits, refused: _Refused
    ) -> int:
        """How many samples were kept."""
        now_ms = round(self._clock.now() * 1000)
        known = self._known.get(tenant)
        if known is None:
            # Asked for before any id is: what is deleted afterwards makes the append fail.
            known = _Known(await self._registry.generation(tenant))
            self._known[tenant] = known
        ids = await self._resolve(tenant, decoded, limits.quota, known, refused)
        t = decoded.t_ms
        first = int(t.min()) if len(t) else now_ms
        if first == NO_TIME:
            t = np.where(t == NO_TIME, now_ms, t)
            first = int(t.min())
        window = TimeWindow(
            now_ms - round(limits.quota.sample_age_seconds * 1000),
            now_ms + round(limits.max_ahead_seconds * 1000),
        )
        batch = Batch(ids, t, decoded.values)
        last = int(t.max()) if len(t) else now_ms
        if refused.reasons or first < window.start_ms or last > window.end_ms:
            keep = (ids >= 0) & (t >= window.start_ms) & (t <= window.end_ms)
            for row in np.flatnonzero(~keep & (ids >= 0)).tolist():
                refused.reasons[row] = window.reason(int(t[row]))
            batch = Batch(ids[keep], t[keep], decoded.values[keep])
        # A request of which nothing is kept still counts as one.
        await self._log.append(tenant, batch, quota=limits.quota, generation=known.generation)
        return len(batch.id)

    async def _resolve(
        self,
        tenant: str,
        decoded: Decoded,
        quota: Quota,
        known: _Known,
        refused: _Refused,
    ) -> Ids:
        """Ids of the decoded samples' series; -1 where there is none, with the reason noted."""
        owner, text = (known, decoded.protocol), decoded.text
        if text is not None:
            found = self._repeats.find(owner, text, len(decoded.values))
            if found is not None:
                return found
        cache = known.keys(decoded.protocol)
        ids: list[int | None] = list(map(cache.get, decoded.keys))
        if None in ids:
            unknown = [row for row, number in enumerate(ids) if number is None]
            learned: dict[Hashable, int] = {}
            problems, refused.retry_after = await self._learn(
                tenant, decoded, unknown, quota, learned
            )
            for row in unknown:
                key = decoded.keys[row]
                if key in problems:
                    refused.reasons[row] = problems[key]
                    ids[row] = -1
                else:
                    ids[row] = learned[key]
            known.make_room(learned, quota.series)
            cache.update(learned)
        resolved = np.array(ids, np.int64)
        if text is not None and not refused.reasons:
            self._repeats.keep(owner, text, resolved)
        return resolved

    async def _learn(
        self,
        tenant: str,
        decoded: Decoded,
        rows: Sequence[int],
        quota: Quota,
        learned: dict[Hashable, int],
    ) -> tuple[dict[Hashable, str], float]:
        """Register the series of these rows.

        What is wrong with those that are not in `learned` then, and the seconds until some may be.
        """
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
        answer = await self._registry.register(tenant, list(fresh.values()), quota)
        for (key, series), outcome in zip(fresh.items(), answer.outcomes, strict=True):
            if outcome is Registered.OVER_LIMIT:
                problems[key] = f"a new series, and the tenant has its {quota.series} already"
            elif outcome is Registered.OVER_RATE:
                problems[key] = (
                    f"a new series, over the tenant's {quota.new_series_per_minute} a minute; "
                    f"try again in {ceil(answer.retry_after)} s"
                )
            elif outcome is Registered.COLLISION:
                problems[key] = "its labels hash like those of another series; change one of them"
            else:
                learned[key] = series.id
        return problems, answer.retry_after

    def forget(self, tenant: str) -> None:
        """Look the tenant's series up again."""
        self._known.pop(tenant, None)


class SeriesWriter:
    """Writes what models say, through the log like everything else."""

    def __init__(self, registry: SeriesRegistry, log: LogWriter) -> None:
        self._registry = registry
        self._log = log
        self._known: dict[str, tuple[int, set[int]]] = {}

    async def write(self, tenant: str, samples: Sequence[tuple[Series, Columns]]) -> None:
        """Keep samples of derived series; the last write of a timestamp wins.

        What is said about a series that was deleted meanwhile is left out.
        """
        for left in reversed(range(_ATTEMPTS)):
            try:
                if samples:
                    await self._write(tenant, samples)
            except StaleSeries as error:
                if not left:
                    raise Unavailable("series are being deleted; try again") from error
                del self._known[tenant]
                bases = {series.base.id for series, _ in samples}
                there = await self._registry.lookup(tenant, bases)
                samples = [(s, c) for s, c in samples if s.base.id in there]
            else:
                return

    async def _write(self, tenant: str, samples: Sequence[tuple[Series, Columns]]) -> None:
        if tenant not in self._known:
            self._known[tenant] = (await self._registry.generation(tenant), set())
        generation, known = self._known[tenant]
        fresh = [series for series, _ in samples if series.id not in known]
        if fresh:
            answer = await self._registry.register(tenant, fresh)
            for series, outcome in zip(fresh, answer.outcomes, strict=True):
                if outcome is Registered.COLLISION:
                    raise OffbeatError(f"the id of {series} is taken by another series")
            known.update(series.id for series in fresh)
        batch = Batch(
            np.repeat(
                np.array([s.id for s, _ in samples], np.int64), [len(c.t) for _, c in samples]
            ),
            np.concatenate([c.t for _, c in samples]),
            np.concatenate([c.v for _, c in samples]),
        )
        await self._log.append(tenant, batch, generation=generation)
