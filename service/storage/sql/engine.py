"""The door to SQL: SQLite (WAL) or PostgreSQL through the same few methods."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from service.domain.errors import ConfigurationError, Unavailable

_READ_ONLY = "offbeat_read_only"
_AWAY = "the database does not answer; nothing was changed, try again"
#: A database that gives no connection for so long is down: senders hear of it within two seconds.
_CONNECT_SECONDS = 1.5


def async_url(url: str) -> str:
    """`postgresql://…` and `sqlite:///…` with the asynchronous driver named."""
    for plain, driven in (
        ("postgres://", "postgresql+asyncpg://"),
        ("postgresql://", "postgresql+asyncpg://"),
        ("sqlite://", "sqlite+aiosqlite://"),
    ):
        if url.startswith(plain):
            return driven + url[len(plain) :]
    if url.startswith(("postgresql+asyncpg://", "sqlite+aiosqlite://")):
        return url
    scheme = url.split(":", 1)[0]
    raise ConfigurationError(
        f"DATABASE_URL: {scheme!r} is not a database we know; use sqlite:///… or postgresql://…"
    )


class Database:
    """A pool of connections. `begin()` for changes, `read()` for looking."""

    def __init__(self, url: str) -> None:
        self.url = async_url(url)
        self.is_sqlite = self.url.startswith("sqlite")
        options: dict[str, Any] = {"pool_pre_ping": not self.is_sqlite}
        self.engine = create_async_engine(self.url, **options)
        if self.is_sqlite:
            event.listen(self.engine.sync_engine, "connect", _configure_sqlite)
            event.listen(self.engine.sync_engine, "begin", _begin_sqlite)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """One transaction that may write; commits at the end, rolls back on an exception."""
        async with self._connected() as connection, connection.begin():
            yield connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """One transaction that only looks; never waits for a writer."""
        async with self._connected() as connection:
            connection = await connection.execution_options(**{_READ_ONLY: True})
            async with connection.begin():
                yield connection

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        """A connection that answers; `Unavailable` if there is none, or when it breaks."""
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                connection = await self.engine.connect()
        except Exception as error:  # each driver has a tree of its own
            raise Unavailable(_AWAY) from error
        try:
            yield connection
        except DBAPIError as error:
            if error.connection_invalidated:
                raise Unavailable(_AWAY) from error
            raise
        finally:
            # As SQLAlchemy's own context manager does: whoever is cancelled still gives it back.
            await asyncio.shield(asyncio.create_task(connection.close()))

    async def ping(self) -> None:
        """Raise unless the database answers."""
        async with self.read() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Give every connection back."""
        await self.engine.dispose()


def _configure_sqlite(connection: Any, _record: Any) -> None:
    # SQLAlchemy's own BEGIN below decides about transactions, not the driver's guess.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "busy_timeout=10000",
        "foreign_keys=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction that turns into a writer fails at once when another writes;
    # an immediate one waits for its turn.
    deferred = connection.get_execution_options().get(_READ_ONLY)
    connection.exec_driver_sql("BEGIN" if deferred else "BEGIN IMMEDIATE")
