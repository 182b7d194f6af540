"""What SQL knows about each series' model: table `models`."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import RowMapping, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from service.storage.sql.engine import Database
from service.storage.sql.tables import models


class ModelState(StrEnum):
    """Where a series stands."""

    COLD = "cold"  # too few samples yet
    PEERS = "peers"  # the same, judged beside peers that have models; never stored
    READY = "ready"
    FAILED = "failed"  # the last training; an older model, if there is one, stays in use


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """One row. Times are Unix seconds, `seconds` CPU time of the training."""

    tenant: str
    series_id: str
    state: ModelState
    version: int = 0
    trained_at: float | None = None
    trained_from: float | None = None
    trained_to: float | None = None
    rows: int = 0
    seconds: float = 0.0
    quality: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


class ModelRecords:
    """Reads and writes the rows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self, tenant: str) -> dict[str, ModelRecord]:
        """The tenant's records by series id in hex."""
        async with self._database.read() as connection:
            rows = await connection.execute(select(models).where(models.c.tenant == tenant))
        records = (ModelRecord(**{**row._mapping, "state": ModelState(row.state)}) for row in rows)
        return {record.series_id: record for record in records}

    async def trained_since(self, tenant: str, since: float) -> Sequence[tuple[str, float]]:
        """Series that have a model and were trained from then on, and when that was."""
        query = select(models.c.series_id, models.c.trained_at).where(
            models.c.tenant == tenant, models.c.version > 0, models.c.trained_at >= since
        )
        async with self._database.read() as connection:
            return [(row[0], row[1]) for row in (await connection.execute(query)).all()]

    async def told(self, tenant: str, series_ids: Collection[str]) -> Sequence[RowMapping]:
        """Of some series that have a model: what confidence rests on."""
        wanted = (models.c.series_id, models.c.state, models.c.version)
        query = select(*wanted, models.c.rows, models.c.quality).where(
            models.c.tenant == tenant, models.c.version > 0, models.c.series_id.in_(series_ids)
        )
        async with self._database.read() as connection:
            return (await connection.execute(query)).mappings().all()

    async def delete(self, tenant: str, series_ids: Collection[str]) -> None:
        """Remove the records of these series (ids in hex)."""
        async with self._database.begin() as connection:
            for series_id in series_ids:
                await connection.execute(
                    delete(models).where(models.c.tenant == tenant, models.c.series_id == series_id)
                )

    async def put(self, records: list[ModelRecord]) -> None:
        """Insert or replace."""
        if not records:
            return
        insert = sqlite.insert if self._database.is_sqlite else postgresql.insert
        statement = insert(models)
        statement = statement.on_conflict_do_update(
            index_elements=["tenant", "series_id"],
            set_={
                column.name: statement.excluded[column.name]
                for column in models.columns
                if not column.primary_key
            },
        )
        async with self._database.begin() as connection:
            await connection.execute(statement, [asdict(record) for record in records])
