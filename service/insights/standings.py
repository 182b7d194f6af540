"""Where series stand: the state of their models, and how sure one may be of what they say."""

from collections import Counter
from collections.abc import Mapping

from sqlalchemy import RowMapping, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.detection.standing import Standing, standing
from service.domain.series import Series, parse_series_id
from service.insights.records import models_of
from service.storage.sql.tables import models


async def standings_of(
    connection: AsyncConnection,
    tenant: str,
    rows: Mapping[int, int],
    known: Mapping[int, Series],
) -> dict[int, Standing]:
    """Of these series by id, each with its number of recent rows; `known` are the tenant's."""
    found = await models_of(connection, tenant, [known[i].hex for i in rows if i in known])
    records: dict[int, RowMapping] = {int(name, 16): row for name, row in found.items()}
    untrained = {i for i in rows if i not in records or not records[i]["version"]}
    peers = await _trained_by_name(connection, tenant, known) if untrained else Counter[str]()
    return {
        i: standing(records.get(i), count, peers[known[i].name] if i in untrained else 0)
        for i, count in rows.items()
        if i in known and not known[i].is_derived
    }


async def _trained_by_name(
    connection: AsyncConnection, tenant: str, known: Mapping[int, Series]
) -> Counter[str]:
    """How many series of each metric have models."""
    trained = await connection.scalars(
        select(models.c.series_id).where(models.c.tenant == tenant, models.c.version > 0)
    )
    ids = (parse_series_id(text) for text in trained)
    return Counter(known[i].name for i in ids if i is not None and i in known)
