"""Empty databases with this program's tables. The migrations run once a process, on each kind.

What they make is what the tests get: the file is copied, the rows are deleted.
"""

import tempfile
from functools import cache
from pathlib import Path

from sqlalchemy import inspect, make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.storage.sql.engine import Database
from service.storage.sql.migrate import latest_revision, migrate
from service.storage.sql.tables import metadata

_VERSION = "alembic_version"
_images: list[bytes] = []


async def migrated(database: Database) -> None:
    """Bring a database to this version's tables; a new SQLite file gets them as a copy."""
    path = make_url(database.url).database if database.is_sqlite else None
    if path is None or Path(path).exists():
        await migrate(database)
        return
    if not _images:
        _images.append(await _migrated_file())
    Path(path).write_bytes(_images[0])


async def _migrated_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "first.db"
        database = Database(f"sqlite:///{path}")
        await migrate(database)
        await database.close()  # with the last connection the log goes into the file
        assert not path.with_name("first.db-wal").exists()
        return path.read_bytes()


@cache
def _latest() -> str:
    return latest_revision()


async def emptied(database: Database) -> None:
    """Bring a PostgreSQL database to this version's tables with nothing in them."""
    names = sorted(table.name for table in metadata.sorted_tables)
    async with database.begin() as connection:
        if await _is_current(connection, names):
            await connection.execute(text(f"TRUNCATE {', '.join(names)} RESTART IDENTITY"))
            return
        await connection.execute(text("DROP SCHEMA public CASCADE"))
        await connection.execute(text("CREATE SCHEMA public"))
    await migrate(database)


async def _is_current(connection: AsyncConnection, names: list[str]) -> bool:
    found = await connection.run_sync(lambda c: inspect(c).get_table_names())
    if sorted(found) != sorted([*names, _VERSION]):
        return False
    revision = await connection.scalar(text(f"SELECT version_num FROM {_VERSION}"))
    return bool(revision == _latest())
