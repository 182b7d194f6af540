"""What SQL knows about each series' model: tables `models` and `model_versions`."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    RowMapping,
    Table,
    delete,
    false,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from service.detection.packs import Place, Refusal
from service.domain.errors import Conflict, NotFound
from service.storage.sql.engine import Database
from service.storage.sql.tables import alerts, model_versions, models

#: Versions before the one in use that are kept.
KEPT = 2


class Places(NamedTuple):
    """Where versions lie, by series, and when the newest change of them was made."""

    until: float
    found: dict[int, list[Place]]


class Placed(NamedTuple):
    """A version of a series' model (16 hex digits), and where it lies."""

    tenant: str
    series: str
    place: Place


class ModelState(StrEnum):
    """Where a series stands."""

    COLD = "cold"  # too few samples yet
    PEERS = "peers"  # the same, judged beside peers that have models; never stored
    READY = "ready"
    FAILED = "failed"  # the last training; an older model, if there is one, stays in use


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """One row. Times are Unix seconds, `seconds` CPU time of the training.

    `version` is in use, `newest` counts all trainings; `trained_at` is of the last training, also
    if it failed, None where the series is to be trained anew. A `pinned` version is not replaced.
    """

    tenant: str
    series_id: str
    state: ModelState
    version: int = 0
    newest: int = 0
    pinned: bool = False
    trained_at: float | None = None
    trained_from: float | None = None
    trained_to: float | None = None
    rows: int = 0
    seconds: float = 0.0
    quality: dict[str, Any] = field(default_factory=dict)
    drift: float | None = None
    error: str | None = None
    changed_at: float | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a series' model that is kept; `refused` says why it is not used."""

    version: int
    place: Place
    trained_at: float
    trained_from: float
    trained_to: float
    rows: int
    seconds: float
    quality: dict[str, Any]
    refused: str | None = None


class ModelRecords:
    """Reads and writes the rows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self, tenant: str) -> dict[str, ModelRecord]:
        """The tenant's records by series id in hex."""
        async with self._database.read() as connection:
            rows = await connection.execute(select(models).where(models.c.tenant == tenant))
        records = [_record_of(row) for row in rows.mappings()]
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
        """Remove the records of these series (ids in hex), and their models."""
        async with self._database.begin() as connection:
            for table in (model_versions, models):
                for series_id in series_ids:
                    own = (table.c.tenant == tenant) & (table.c.series_id == series_id)
                    await connection.execute(delete(table).where(own))

    async def put(self, records: list[ModelRecord]) -> None:
        """Insert or replace."""
        if not records:
            return
        async with self._database.begin() as connection:
            await connection.execute(self._upsert(), [asdict(record) for record in records])

    async def replace(self, record: ModelRecord, version_before: int) -> bool:
        """Store a record in place of the one of that version (0: there is none, or no model yet).

        False, and nothing is stored, if the series has another version by now. What trainings do
        not decide stays: whether it is pinned, its drift.
        """
        kept = ("newest", "pinned", "drift", "changed_at")
        statement = self._upsert(kept, models.c.version == version_before)
        statement = statement.values(asdict(record))
        async with self._database.begin() as connection:
            return (await connection.execute(statement)).rowcount > 0

    def _upsert(
        self, kept: Collection[str] = (), where: ColumnElement[bool] | None = None
    ) -> sqlite.Insert | postgresql.Insert:
        """Insert or replace; `kept` columns of a known row stay, all of it unless `where`."""
        insert = sqlite.insert if self._database.is_sqlite else postgresql.insert
        statement = insert(models)
        return statement.on_conflict_do_update(
            index_elements=["tenant", "series_id"],
            set_={
                column.name: statement.excluded[column.name]
                for column in models.columns
                if not column.primary_key and column.name not in kept
            },
            where=where,
        )

    async def one(self, tenant: str, series_id: str) -> ModelRecord | None:
        """The record of a series."""
        query = select(models).where(_own(models, tenant, series_id))
        async with self._database.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        return None if row is None else _record_of(row)

    # versions

    async def publish(self, made: Sequence[tuple[ModelRecord, Place, int]]) -> list[bool]:
        """Take new versions into use: record, place, and the version that was in use before.

        All in one transaction; False, and nothing is changed, where another version is in use by
        now or the series is pinned. Those that it
        replaces are kept, `KEPT` of them; what was rolled back is not.
        """
        done = []
        async with self._database.begin() as connection:
            for record, place, before in made:
                own = _own(models, record.tenant, record.series_id)
                query = select(models.c.version, models.c.pinned).where(own).with_for_update()
                row = (await connection.execute(query)).first()
                as_it_was = row.version == before and not row.pinned if row else before == 0
                done.append(as_it_was)
                if not as_it_was:
                    continue
                await connection.execute(self._upsert(), [asdict(record)])
                await connection.execute(insert(model_versions), [_version_row(record, place)])
                versions = _own(model_versions, record.tenant, record.series_id)
                kept = (
                    select(model_versions.c.version)
                    .where(versions, model_versions.c.refused.is_(None))
                    .where(~model_versions.c.version.between(before + 1, record.version - 1))
                    .order_by(model_versions.c.version.desc())
                    .limit(KEPT + 1)
                )
                known = (await connection.execute(kept)).scalars().all()
                v = model_versions.c.version
                old = (v < min(known)) | ((v > before) & (v < record.version))
                await connection.execute(delete(model_versions).where(versions, old))
        return done

    async def places(
        self, tenant: str, since: float | None = None, series_id: str | None = None
    ) -> Places:
        """Where the versions of series lie, the one in use first, by series.

        Of those that changed `since` (Unix seconds), or of one series; empty where none is usable.
        """
        own = models.c.tenant == tenant
        if since is not None:
            own &= models.c.changed_at >= since
        if series_id is not None:
            own &= models.c.series_id == series_id
        v = model_versions.c
        same = (models.c.tenant == v.tenant) & (models.c.series_id == v.series_id)
        usable = same & (v.version <= models.c.version) & v.refused.is_(None)
        query = (
            select(
                models.c.series_id, models.c.changed_at, v.version, v.segment, v.offset, v.length
            )
            .select_from(models.outerjoin(model_versions, usable))
            .where(own)
            .order_by(models.c.series_id, v.version.desc())
        )
        found: dict[int, list[Place]] = {}
        until = 0.0
        async with self._database.read() as connection:
            for series, changed, *lies in await connection.execute(query):
                until = max(until, changed or 0.0)
                places = found.setdefault(int(series, 16), [])
                if lies[0] is not None:
                    places.append(Place(*lies))
        return Places(until, found)

    async def refuse(self, refused: Sequence[Refusal], now: float) -> None:
        """Use the versions before these, if any is kept, and have the series trained anew."""
        async with self._database.begin() as connection:
            for one in refused:
                own = _own(models, one.tenant, one.series)
                own &= models.c.version == one.place.version
                why = f"version {one.place.version} was refused: {one.reason}"[:500]
                anew = update(models).where(own).values(trained_at=None, error=why)
                if one.lost:  # it may come back; nothing else is known to be wrong with it
                    await connection.execute(anew)
                    continue
                versions = _own(model_versions, one.tenant, one.series)
                bad = versions & (model_versions.c.version == one.place.version)
                mark = update(model_versions).where(bad).values(refused=one.reason[:500])
                await connection.execute(mark)
                before = (
                    select(func.max(model_versions.c.version))
                    .where(
                        versions,
                        model_versions.c.version < one.place.version,
                        model_versions.c.refused.is_(None),
                    )
                    .scalar_subquery()
                )
                version = func.coalesce(before, models.c.version)
                await connection.execute(
                    anew.values(version=version, pinned=false(), changed_at=now)
                )

    async def roll_back(
        self,
        connection: AsyncConnection,
        tenant: str,
        series_id: str,
        version: int,
        *,
        pin: bool,
        now: float,
    ) -> int:
        """Use a version that is kept; which one was in use before.

        NotFound for one that is not, Conflict for one that was refused.
        """
        own = _own(models, tenant, series_id)
        row = (await connection.execute(select(models.c.version).where(own))).first()
        versions = _own(model_versions, tenant, series_id) & (model_versions.c.version == version)
        query = select(model_versions).where(versions)
        kept = (await connection.execute(query)).mappings().first()
        if row is None or kept is None:
            raise NotFound(f"version {version} of the model of series {series_id} is not kept")
        if kept["refused"] is not None:
            raise Conflict(f"version {version} cannot be trusted: {kept['refused']}")
        told = ("version", "trained_from", "trained_to", "rows", "seconds", "quality")
        values: dict[str, Any] = {name: kept[name] for name in told}
        values |= {"state": ModelState.READY, "pinned": pin, "error": None, "changed_at": now}
        if row.version != version:
            values["drift"] = None
        await connection.execute(update(models).where(own).values(values))
        return int(row.version)

    async def forget(
        self, connection: AsyncConnection, tenant: str, series_id: str, now: float
    ) -> int:
        """Have a series trained anew, with no model until then; the version that was in use.

        NotFound before its first training. Up to when its past was judged stays known.
        """
        own = _own(models, tenant, series_id)
        query = select(models.c.version, models.c.newest, models.c.quality).where(own)
        row = (await connection.execute(query)).first()
        if row is None or row.newest == 0:
            raise NotFound(f"series {series_id} has no model yet")
        judged = {k: v for k, v in row.quality.items() if k == "judged_until_ms"}
        nothing: dict[str, Any] = {
            "state": ModelState.COLD,
            "version": 0,
            "pinned": False,
            "trained_at": None,
            "trained_from": None,
            "trained_to": None,
            "seconds": 0.0,
            "quality": judged,
            "drift": None,
            "error": None,
            "changed_at": now,
        }
        await connection.execute(update(models).where(own).values(nothing))
        gone = delete(model_versions).where(_own(model_versions, tenant, series_id))
        await connection.execute(gone)
        return int(row.version)

    async def versions(self, tenant: str, series_id: str) -> list[Version]:
        """The versions of a series that are kept, the newest first."""
        query = (
            select(model_versions)
            .where(_own(model_versions, tenant, series_id))
            .order_by(model_versions.c.version.desc())
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [_version_of(row) for row in rows]

    async def drifted(self, tenant: str, drifts: Mapping[str, float]) -> None:
        """Note how far models have drifted, by series."""
        if not drifts:
            return
        async with self._database.begin() as connection:
            for series_id, value in sorted(drifts.items()):
                own = _own(models, tenant, series_id)
                await connection.execute(update(models).where(own).values(drift=value))

    async def alerts_of_rules(self, tenant: str, rules: Collection[str], now: float) -> int:
        """Alerts of these rules that fired in the last week."""
        if not rules:
            return 0
        query = select(func.count()).where(
            alerts.c.tenant == tenant,
            alerts.c.rule_id.in_(list(rules)),
            alerts.c.fired_at >= now - 7 * 86_400.0,
        )
        async with self._database.read() as connection:
            return int((await connection.execute(query)).scalar_one())

    # segments

    async def placed(self, prefix: str) -> list[Placed]:
        """The versions that lie in segments whose names begin so, in the order of their places."""
        v = model_versions.c
        query = (
            select(v.tenant, v.series_id, v.version, v.segment, v.offset, v.length)
            .where(v.segment.startswith(prefix, autoescape=True))
            .order_by(v.segment, v.offset)
        )
        async with self._database.read() as connection:
            rows = await connection.execute(query)
            return [Placed(tenant, series, Place(*lies)) for tenant, series, *lies in rows]

    async def move(self, moved: Sequence[tuple[Placed, Place]], now: float) -> None:
        """These versions lie elsewhere now; those that have changed meanwhile stay."""
        async with self._database.begin() as connection:
            for (tenant, series_id, old), place in moved:
                v = model_versions.c
                there = _own(model_versions, tenant, series_id) & (v.version == old.version)
                there &= v.segment == old.segment
                new = {"segment": place.segment, "offset": place.offset, "length": place.length}
                await connection.execute(update(model_versions).where(there).values(new))
                own = _own(models, tenant, series_id)
                await connection.execute(update(models).where(own).values(changed_at=now))

    async def segments(self) -> set[str]:
        """Every segment that a version lies in."""
        query = select(model_versions.c.segment).distinct()
        async with self._database.read() as connection:
            return set((await connection.execute(query)).scalars())

    async def ids(self, tenant: str) -> list[str]:
        """The series (16 hex digits) that versions are kept of."""
        query = select(model_versions.c.series_id).where(model_versions.c.tenant == tenant)
        async with self._database.read() as connection:
            return list((await connection.execute(query.distinct())).scalars())


def _own(table: Table, tenant: str, series_id: str) -> ColumnElement[bool]:
    return (table.c.tenant == tenant) & (table.c.series_id == series_id)


def _record_of(row: RowMapping) -> ModelRecord:
    return ModelRecord(**{**row, "state": ModelState(row["state"])})


def _version_row(record: ModelRecord, place: Place) -> dict[str, Any]:
    known = asdict(record)
    both = {c.name: known[c.name] for c in model_versions.columns if c.name in known}
    return {**both, **place._asdict()}


def _version_of(row: RowMapping) -> Version:
    place = Place(row["version"], row["segment"], row["offset"], row["length"])
    own = {f.name: row[f.name] for f in fields(Version) if f.name != "place"}
    return Version(place=place, **own)
