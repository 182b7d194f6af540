"""Where series stand: the state of their models, and how sure one may be of what they say."""

from collections import Counter
from collections.abc import Mapping

from sqlalchemy import RowMapping, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.detection.standing import Standing, standing
from service.domain.series import MetricType, Series, parse_series_id
from service.insights.records import models_of
from service.storage.sql.tables import models

_Metric = tuple[str, MetricType]


async def standings_of(
    connection: AsyncConnection,
    tenant: str,
    rows: Mapping[int, int],
    known: Mapping[int, Series],
) -> dict[int, Standing]:
    """Of these series by id, each with its number of recent rows; `known` are the tenant's."""
    own = [known[i] for i in rows if i in known and not known[i].is_derived]
    found = await models_of(connection, tenant, [series.hex for series in own])
    records: dict[int, RowMapping] = {int(name, 16): row for name, row in found.items()}
    untrained = {s.id for s in own if s.id not in records or not records[s.id]["version"]}
    peers = await _trained(connection, tenant, known) if untrained else Counter[_Metric]()
    return {
        s.id: standing(records.get(s.id), rows[s.id], peers[_metric(s)] if s.id in untrained else 0)
        for s in own
    }


def _metric(series: Series) -> _Metric:
    """What peers have in common; a counter, judged by its rate, lends nothing to a gauge."""
    return series.name, series.metric_type


async def _trained(
    connection: AsyncConnection, tenant: str, known: Mapping[int, Series]
) -> Counter[_Metric]:
    """How many series of each metric have models."""
    trained = await connection.scalars(
        select(models.c.series_id).where(models.c.tenant == tenant, models.c.version > 0)
    )
    ids = (parse_series_id(text) for text in trained)
    return Counter(_metric(known[i]) for i in ids if i is not None and i in known)
