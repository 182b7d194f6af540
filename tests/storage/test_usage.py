"""What tenants used: counted in Redis, kept in SQL, the same however often it is kept."""

import asyncio
from datetime import UTC, date, datetime, timedelta

import pytest
from redis.asyncio import Redis
from sqlalchemy import insert, select

from service.domain.clock import ManualClock
from service.domain.series import Series
from service.security.tenants import TenantStore
from service.settings import Settings
from service.storage import keys
from service.storage.redis import ask
from service.storage.registry import SeriesRegistry
from service.storage.sql.engine import Database
from service.storage.sql.tables import outbox, tenants, usage
from service.storage.usage import DAYS_IN_REDIS, DayUsage, UsageBook, as_csv

TODAY = date(2023, 11, 14)
DAY = timedelta(days=1)


@pytest.fixture
async def book(redis: Redis, database: Database, clock: ManualClock) -> UsageBook:
    clock.set(datetime(2023, 11, 14, 12, tzinfo=UTC).timestamp())
    async with database.begin() as connection:
        for name in ("acme", "other"):
            await connection.execute(insert(tenants).values(id=name, name=name, created_at=1.0))
    return UsageBook(redis, database, clock, 4)


async def count(redis: Redis, tenant: str, day: date, **figures: int) -> None:
    """As the append script does."""
    key = keys.usage(keys.shard_of(tenant, 4), tenant, day.strftime("%Y%m%d"))
    for name, figure in figures.items():
        await ask(redis, "HINCRBY", key, name, figure)


async def send(database: Database, tenant: str, at: datetime, state: str = "sent") -> None:
    async with database.begin() as connection:
        await connection.execute(
            insert(outbox).values(
                id=f"{tenant}{at.timestamp():.0f}{state}",
                tenant=tenant,
                kind="firing",
                step=0,
                channel="slack",
                payload={},
                state=state,
                attempts=1,
                created_at=at.timestamp(),
                due_at=at.timestamp(),
                sent_at=at.timestamp(),
            )
        )


async def rows(database: Database) -> list[tuple[str, DayUsage]]:
    async with database.read() as connection:
        found = await connection.execute(select(usage).order_by(usage.c.tenant, usage.c.day))
        return [(row.tenant, DayUsage(*row[1:])) for row in found]


async def test_what_was_used_is_exact_at_once_and_kept_once(
    book: UsageBook, redis: Redis, database: Database
) -> None:
    registry = SeriesRegistry(redis, 4)
    series = [Series.of("plays", {"user": str(i)}) for i in range(3)]
    await registry.register("acme", [*series, series[0].derived(":anomaly_score")])
    await count(redis, "acme", TODAY, samples=10, requests=2, refused=1)
    await count(redis, "acme", TODAY - DAY, samples=7, requests=7)
    midnight = datetime(2023, 11, 14, tzinfo=UTC)
    await send(database, "acme", midnight)
    await send(database, "acme", midnight - timedelta(seconds=1))
    await send(database, "acme", midnight + timedelta(hours=1), state="summarised")
    await send(database, "other", midnight + timedelta(hours=1))
    expected = [DayUsage(TODAY - DAY, 7, 7, 0, 0, 1), DayUsage(TODAY, 10, 2, 1, 3, 1)]
    assert await book.of("acme", TODAY - DAY, TODAY) == expected
    assert await book.of("acme", TODAY, TODAY) == expected[1:]
    assert await book.of("acme", TODAY + DAY, TODAY + DAY) == []
    assert await rows(database) == []
    assert await book.keep() == 3
    assert await book.keep() == 0
    kept = [("acme", day) for day in expected]
    assert await rows(database) == [*kept, ("other", DayUsage(TODAY, notifications=1))]
    assert await book.of("acme", TODAY - DAY, TODAY) == expected
    await count(redis, "acme", TODAY, samples=5)
    assert (await book.of("acme", TODAY, TODAY))[0].samples == 15


async def test_figures_never_shrink_whoever_keeps_them(
    book: UsageBook, redis: Redis, database: Database, clock: ManualClock
) -> None:
    registry = SeriesRegistry(redis, 4)
    await registry.register("acme", [Series.of("plays")])
    await count(redis, "acme", TODAY, samples=10, requests=2)
    replica = UsageBook(redis, database, clock, 4)
    await asyncio.gather(book.keep(), replica.keep())
    await redis.flushall()  # the store was lost
    await count(redis, "acme", TODAY, samples=1, requests=3)
    await asyncio.gather(book.keep(), replica.keep())
    assert await rows(database) == [("acme", DayUsage(TODAY, 10, 3, 0, 1, 0))]
    assert await book.of("acme", TODAY, TODAY) == [DayUsage(TODAY, 10, 3, 0, 1, 0)]


async def test_a_scheduler_that_was_away_catches_up(
    book: UsageBook, redis: Redis, database: Database, clock: ManualClock
) -> None:
    oldest = TODAY - (DAYS_IN_REDIS - 1) * DAY
    await count(redis, "acme", oldest, requests=1)
    await count(redis, "acme", TODAY, requests=2)
    assert await book.keep() == 2
    await count(redis, "acme", TODAY, requests=1)
    await clock.advance(86_400)  # what came before midnight is kept after it
    assert await book.keep() == 1
    days = [(day.day, day.requests) for _, day in await rows(database)]
    assert days == [(oldest, 1), (TODAY, 3)]


async def test_a_deleted_tenant_has_used_nothing(
    book: UsageBook, redis: Redis, database: Database, clock: ManualClock
) -> None:
    for tenant in ("acme", "other"):
        await count(redis, tenant, TODAY, requests=1)
        await count(redis, tenant, TODAY - 39 * DAY, requests=1)
    store = TenantStore(database, clock, book.forget, Settings())
    await asyncio.gather(store.delete("acme", "test"), book.keep(), book.keep())
    await book.keep()
    assert {tenant for tenant, _ in await rows(database)} == {"other"}
    assert await book.of("acme", TODAY - 50 * DAY, TODAY) == []
    assert len(await book.of("other", TODAY - 50 * DAY, TODAY)) == 2


async def test_more_rows_than_one_transaction_takes(
    book: UsageBook, redis: Redis, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.storage.usage._TOGETHER", 3)
    for n in range(10):
        await count(redis, "acme", TODAY - n * DAY, samples=n + 1)
    assert await book.keep() == 10
    assert [day.samples for _, day in await rows(database)] == list(range(10, 0, -1))


def test_a_table_for_the_accountants() -> None:
    lines = list(as_csv([DayUsage(TODAY, 1, 2, 3, 4, 5)]))
    assert lines == [
        "day,samples,requests,refused,series,notifications\r\n",
        "2023-11-14,1,2,3,4,5\r\n",
    ]
