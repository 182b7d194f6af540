"""A database that takes connections and says nothing."""

import asyncio
import time

import pytest

from service.domain.clock import ManualClock
from service.domain.errors import Unavailable
from service.security import remembered
from service.security.remembered import Remembered
from service.storage.sql.engine import Database


async def test_who_asks_hears_within_two_seconds() -> None:
    connections: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(
        lambda _, writer: connections.append(writer), "127.0.0.1", 0
    )
    port = server.sockets[0].getsockname()[1]
    database = Database(f"postgresql://u:p@127.0.0.1:{port}/d")
    try:
        begun = time.monotonic()
        with pytest.raises(Unavailable, match="the database does not answer"):
            await database.ping()
        assert time.monotonic() - begun < 2
    finally:
        await database.close()
        for writer in connections:
            writer.close()
        server.close()
        await server.wait_closed()
    with pytest.raises(Unavailable):  # now it is refused
        await database.ping()


async def test_all_who_wait_for_one_answer_hear_that_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remembered, "_ANSWER_SECONDS", 0.05)
    known: Remembered[str, int] = Remembered(ManualClock(), 2.0)

    async def silent() -> int:
        await asyncio.Event().wait()
        return 1

    async def answers() -> int:
        return 2

    waiting = [asyncio.create_task(known.get("key", silent)) for _ in range(3)]
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(error) for error in found] == [Unavailable] * 3
    await asyncio.sleep(0)
    assert await known.get("key", answers) == 2
