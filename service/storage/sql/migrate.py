"""Bring a database to this program's tables.

Alembic is loaded when it is used: of all processes only the one that starts the others migrates.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text

from service.storage.sql.engine import Database

if TYPE_CHECKING:
    from alembic.config import Config

#: Any number; the same in every replica, so that only one migrates at a time.
_ADVISORY_LOCK = 7_013_556_201


def alembic_config(connection: Connection) -> "Config":
    """Alembic set up for our folder and this connection; no ini file."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


def _upgrade(connection: Connection) -> str:
    from alembic import command
    from alembic.runtime.migration import MigrationContext

    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:id)"), {"id": _ADVISORY_LOCK})
    config = alembic_config(connection)
    command.upgrade(config, "head")
    revision = MigrationContext.configure(connection).get_current_revision()
    return revision or ""


async def migrate(database: Database) -> str:
    """Apply what is missing, in one transaction; returns the revision reached."""
    async with database.begin() as connection:
        return await connection.run_sync(_upgrade)


def latest_revision() -> str:
    """The revision that this program's code needs."""
    from alembic.script import ScriptDirectory

    folder = Path(__file__).parent / "migrations"
    return ScriptDirectory(str(folder)).get_current_head() or ""
