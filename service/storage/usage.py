"""What tenants use, by UTC day: counted in Redis as it happens, kept in SQL for good.

Redis has what the append script counted, for 40 days. `keep` copies it to SQL: absolute figures
that only grow within a day, so doing it twice, or on two schedulers at once, changes nothing. A
reader takes the larger of both, so today is exact at once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any

from redis.asyncio import Redis
from sqlalchemy import Row, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.clock import Clock
from service.domain.notifications import DeliveryState
from service.storage import keys
from service.storage.redis import ask, store_errors
from service.storage.sql.engine import Database
from service.storage.sql.statements import insert_or_raise
from service.storage.sql.tables import outbox, tenants, usage

#: Days that Redis keeps, today included; `append` sets when a day's counts expire.
DAYS_IN_REDIS = 41

#: Rows that share a transaction.
_TOGETHER = 500

_DAY = timedelta(days=1)

# KEYS: the tenant's series, then its counts of each day.  Answers the number of series, then the
# counts of each day.
_READ = """
local answer = {redis.call('HLEN', KEYS[1])}
for i = 2, #KEYS do
  answer[i] = redis.call('HMGET', KEYS[i], 'samples', 'requests', 'refused')
end
return answer
"""


@dataclass(frozen=True, slots=True)
class DayUsage:
    """A UTC day.

    Samples and requests that were kept, requests refused over the quota, the most series that
    were seen, notifications sent.
    """

    day: date
    samples: int = 0
    requests: int = 0
    refused: int = 0
    series: int = 0
    notifications: int = 0

    def at_least(self, other: "DayUsage") -> "DayUsage":
        """The larger of each figure; both are of the same day."""
        return DayUsage(self.day, *map(max, self.figures, other.figures))

    @property
    def figures(self) -> tuple[int, ...]:
        """All but the day, in the order of `FIGURES`."""
        return (self.samples, self.requests, self.refused, self.series, self.notifications)

    @property
    def nothing(self) -> bool:
        """Whether every figure is zero."""
        return not any(self.figures)


FIGURES = tuple(field.name for field in fields(DayUsage))[1:]


class UsageBook:
    """Reads what was used, and keeps it."""

    def __init__(self, redis: Redis, database: Database, clock: Clock, shards: int) -> None:
        self._redis, self._database, self._clock = redis, database, clock
        self._shards = shards
        self._read = redis.register_script(_READ)
        self._kept_all = False

    @property
    def today(self) -> date:
        """The day that it is in UTC."""
        return datetime.fromtimestamp(self._clock.now(), UTC).date()

    async def of(self, tenant: str, first: date, last: date) -> list[DayUsage]:
        """The days from `first` to `last`, both included, on which the tenant used something."""
        today = self.today
        query = select(usage).where(
            usage.c.tenant == tenant, usage.c.day >= first, usage.c.day <= last
        )
        async with self._database.read() as connection:
            found = {row.day: _of_row(row) for row in await connection.execute(query)}
            for day in (today - _DAY, today):
                if first <= day <= last:
                    sent = (await _sent(connection, day, tenant)).get(tenant, 0)
                    _add(found, DayUsage(day, notifications=sent))
        for counted in await self._counted(tenant, _last_days(today, DAYS_IN_REDIS)):
            if first <= counted.day <= last:
                _add(found, counted)
        return sorted((d for d in found.values() if not d.nothing), key=lambda d: d.day)

    async def keep(self) -> int:
        """Bring SQL up to what was counted; how many rows changed.

        Today and yesterday; the first time every day that Redis has, for what happened while no
        scheduler ran.
        """
        today = self.today
        days = _last_days(today, 2 if self._kept_all else DAYS_IN_REDIS)
        async with self._database.read() as connection:
            names = (await connection.scalars(select(tenants.c.id).order_by(tenants.c.id))).all()
            rows = await connection.execute(select(usage).where(usage.c.day >= days[-1]))
            known = {(row.tenant, row.day): _of_row(row) for row in rows}
            sent = {day: await _sent(connection, day) for day in days}
        changed: list[tuple[str, DayUsage]] = []
        for tenant in names:
            for counted in await self._counted(tenant, days):
                day = counted.day
                told = sent[day].get(tenant, 0)
                if counted.nothing and not told:
                    continue
                before = known.get((tenant, day), DayUsage(day))
                after = before.at_least(counted).at_least(DayUsage(day, notifications=told))
                if after != before:
                    changed.append((tenant, after))
        rest = iter(changed)
        while some := list(islice(rest, _TOGETHER)):
            await self._write(some)
        self._kept_all = True
        return len(changed)

    async def forget(self, tenant: str) -> None:
        """Drop what Redis counted of a tenant. Its rows go with the tenant."""
        shard = keys.shard_of(tenant, self._shards)
        days = _last_days(self.today + _DAY, DAYS_IN_REDIS + 2)
        await ask(self._redis, "DEL", *(keys.usage(shard, tenant, _name(day)) for day in days))

    async def _write(self, changed: Sequence[tuple[str, DayUsage]]) -> None:
        async with self._database.begin() as connection:
            # A tenant that is being deleted gets no row any more: the lock waits for its end.
            alive = set(
                await connection.scalars(
                    select(tenants.c.id)
                    .where(tenants.c.id.in_({tenant for tenant, _ in changed}))
                    .order_by(tenants.c.id)
                    .with_for_update(read=True, key_share=True)
                )
            )
            values = [
                {"tenant": tenant, "day": day.day} | {name: getattr(day, name) for name in FIGURES}
                for tenant, day in changed
                if tenant in alive
            ]
            if values:
                await connection.execute(insert_or_raise(connection, usage, FIGURES), values)

    async def _counted(self, tenant: str, days: Sequence[date]) -> list[DayUsage]:
        """What Redis has of these days, and of the first one, which is today, the series too."""
        shard = keys.shard_of(tenant, self._shards)
        names = [keys.registry(shard, tenant, derived=False)]
        names += (keys.usage(shard, tenant, _name(day)) for day in days)
        async with store_errors():
            series, *counts = await self._read(keys=names)
        found = [
            DayUsage(day, *(int(figure or 0) for figure in figures))
            for day, figures in zip(days, counts, strict=True)
        ]
        return [replace(found[0], series=series), *found[1:]]


async def _sent(
    connection: AsyncConnection, day: date, tenant: str | None = None
) -> dict[str, int]:
    """Notifications sent on a day, by tenant."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
    query = (
        select(outbox.c.tenant, func.count())
        .where(
            outbox.c.state == str(DeliveryState.SENT),
            outbox.c.sent_at >= start,
            outbox.c.sent_at < start + _DAY.total_seconds(),
        )
        .group_by(outbox.c.tenant)
    )
    if tenant is not None:
        query = query.where(outbox.c.tenant == tenant)
    return {name: int(count) for name, count in await connection.execute(query)}


def _add(found: dict[date, DayUsage], day: DayUsage) -> None:
    found[day.day] = found.get(day.day, day).at_least(day)


def _last_days(today: date, count: int) -> list[date]:
    """So many days, the newest first."""
    return [today - n * _DAY for n in range(count)]


def _name(day: date) -> str:
    return day.strftime("%Y%m%d")


def _of_row(row: Row[Any]) -> DayUsage:
    return DayUsage(row.day, *(getattr(row, name) for name in FIGURES))


def as_csv(days: Sequence[DayUsage]) -> Iterator[str]:
    """Lines of a table with a heading."""
    yield ",".join(("day", *FIGURES)) + "\r\n"
    for day in days:
        yield ",".join((day.day.isoformat(), *(str(n) for n in day.figures))) + "\r\n"
