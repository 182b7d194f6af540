"""No more notifications an hour than the limit; what is over it is told in a summary."""

import asyncio
from collections.abc import Callable

import pytest
from sqlalchemy import text

from service.domain.notifications import DeliveryState
from service.domain.rules import Severity
from service.storage.sql.engine import Database
from service.storage.sql.tables import outbox, timers
from tests.support.alerting import START, Bench, judged

LIMIT = 10


@pytest.fixture
def limited(database: Database, make_bench: Callable[..., Bench]) -> Bench:
    return make_bench(database, max_alerts_per_hour=LIMIT)


def regions(count: int, first: int = 0) -> list[str]:
    return [f"r{i:03}" for i in range(first, first + count)]


async def goes_out(bench: Bench) -> int:
    """Notifications that are or will be sent, summaries apart."""
    held = (DeliveryState.SUMMARISED, DeliveryState.CANCELLED)
    rows = await bench.rows(outbox)
    return sum(1 for row in rows if row.state not in held and row.kind != "summary")


async def summaries(bench: Bench) -> list[dict[str, object]]:
    rows = sorted(await bench.rows(outbox), key=lambda r: (r.created_at, r.channel))
    return [{**row.payload, "channel": row.channel} for row in rows if row.kind == "summary"]


async def run(bench: Bench, seconds: float) -> None:
    await bench.clock.advance(seconds)
    await bench.escalator.run_due(bench.clock.now())


async def test_what_is_over_the_limit_is_told_in_one_message_per_channel(limited: Bench) -> None:
    limited.use(channels=("slack", "email"))
    await limited.judge(True, *regions(8))
    assert await goes_out(limited) == LIMIT
    (timer,) = await limited.rows(timers)
    assert (timer.kind, timer.due_at, timer.alert_id) == ("summary", START + 300, None)
    await run(limited, 299)
    assert await summaries(limited) == []
    await run(limited, 1)
    first, second = await summaries(limited)
    assert (first["channel"], second["channel"]) == ("email", "slack")
    assert (first["count"], first["since"]) == (3, START)
    (item, *_) = first["alerts"]
    assert set(item) == {"rule_name", "severity", "labels", "kind", "at"}
    assert (item["kind"], item["at"], item["severity"]) == ("firing", START, "high")
    assert await goes_out(limited) == LIMIT
    assert await limited.timer_kinds() == []


async def test_later_ones_are_told_once_an_hour(limited: Bench) -> None:
    await limited.judge(True, *regions(12))
    await run(limited, 300)
    await limited.clock.advance(60)
    await limited.judge(True, *regions(13))
    (timer,) = await limited.rows(timers)
    assert timer.due_at == START + 300 + 3600
    await run(limited, 3540)
    assert [summary["count"] for summary in await summaries(limited)] == [2, 1]


async def test_the_end_of_what_was_held_back_is_held_back_with_it(limited: Bench) -> None:
    await limited.judge(True, *regions(12))
    await limited.clock.advance(60)
    async with limited.database.begin() as connection:
        await connection.execute(text("DELETE FROM outbox WHERE state = 'pending'"))
    await limited.judge(False, *regions(12))
    assert await goes_out(limited) == 0  # ten have lost their rows, two wait for the summary
    await run(limited, 240)
    (summary,) = await summaries(limited)
    kinds = [item["kind"] for item in summary["alerts"]]
    assert sorted(kinds) == ["firing", "firing", "resolved", "resolved"]


async def test_the_end_of_what_a_summary_has_told_goes_out_as_ever(limited: Bench) -> None:
    await limited.judge(True, *regions(11))
    await run(limited, 4000)
    await limited.judge(False, *regions(11))
    rows = await limited.rows(outbox)
    resolved = [row.state for row in rows if row.kind == "resolved"]
    assert sorted(resolved) == ["pending"] * 10 + ["summarised"]


async def test_an_hour_later_there_is_room_again(limited: Bench) -> None:
    await limited.judge(True, *regions(10))
    await limited.clock.advance(3599)
    await limited.judge(True, *regions(11))
    assert await goes_out(limited) == LIMIT
    await limited.clock.advance(1)
    await limited.judge(True, *regions(12))
    assert await goes_out(limited) == LIMIT + 1


async def test_replicas_together_stay_within_it(limited: Bench) -> None:
    engines = [limited.replica() for _ in range(4)]
    await asyncio.gather(
        *(limited.judge(True, *regions(5, 5 * i), engine=e) for i, e in enumerate(engines))
    )
    assert await goes_out(limited) == LIMIT
    states = [row.state for row in await limited.rows(outbox)]
    assert states.count("summarised") == 10
    assert await limited.timer_kinds() == ["summary"]


async def test_another_tenant_has_its_own(limited: Bench) -> None:
    await limited.judge(True, *regions(15))
    await limited.engine.apply("other", limited.rule, [judged(True)], limited.clock.now())
    mine = [row for row in await limited.rows(outbox) if row.tenant == "other"]
    assert [row.state for row in mine] == ["pending"]


async def test_a_summary_names_twenty_the_worst_first_and_counts_all(limited: Bench) -> None:
    await limited.judge(True, *regions(35))
    limited.use(id="r2", severity=Severity.CRITICAL)
    await limited.judge(True, "eu")
    await run(limited, 300)
    (summary,) = await summaries(limited)
    listed = summary["alerts"]
    assert isinstance(listed, list)
    assert (summary["count"], len(listed), listed[0]["severity"]) == (26, 20, "critical")
