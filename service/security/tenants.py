"""Tenants and their limits."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.clock import Clock
from service.domain.errors import Conflict, InvalidInput, NotFound, Unprocessable
from service.domain.quotas import NAMES, Quota, in_force
from service.domain.tenants import PLATFORM, TENANT_ID, Tenant
from service.security import audit
from service.security.names import checked_name
from service.security.remembered import Remembered
from service.settings import Settings
from service.storage.sql.engine import Database
from service.storage.sql.tables import api_keys, metadata, tenants

#: The limits that a quota sets, with the largest value each takes.
QUOTAS: dict[str, float] = {
    "samples_per_second": 100_000_000,
    "requests_per_second": 1_000_000,
    "series": 100_000_000,
    "new_series_per_minute": 100_000_000,
    "rules": 10_000,
    "active_alerts": 1_000_000,
    "sample_age_seconds": 10 * 365 * 86400.0,
}

#: Shorter than the two seconds in which a change holds, by what a replica may refuse on its own.
REMEMBER_SECONDS = 1.5


class TenantStore:
    """The tenants in SQL. `forget` removes what is kept of a tenant elsewhere (its samples).

    The settings say which limits hold for a tenant that has none of its own.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        forget: Callable[[str], Awaitable[None]],
        settings: Settings,
    ) -> None:
        self._database, self._clock, self._forget = database, clock, forget
        self._shipped, self._retention = settings.shipped_quota, settings.retention_seconds
        self._limits: Remembered[str, tuple[Tenant, Quota]] = Remembered(clock, REMEMBER_SECONDS)

    async def create(self, tenant_id: str, name: str, actor: str) -> Tenant:
        """A new tenant; `Unprocessable` for an id that does not fit, `Conflict` if it exists."""
        if not TENANT_ID.fullmatch(tenant_id):
            raise Unprocessable(
                "a tenant's id is 1 to 64 of a-z, 0-9, _ and -, beginning and ending with a "
                "letter or digit",
                where="id",
            )
        tenant = Tenant(tenant_id, checked_name(name), self._clock.now())
        try:
            async with self._database.begin() as connection:
                await connection.execute(
                    insert(tenants).values(
                        id=tenant.id, name=tenant.name, created_at=tenant.created_at
                    )
                )
                await self._audit(
                    connection, PLATFORM, actor, "tenant.created", tenant.id, {"name": tenant.name}
                )
        except IntegrityError as error:
            raise Conflict(f"there is a tenant {tenant_id!r} already") from error
        return tenant

    async def get(self, tenant_id: str) -> Tenant:
        """The tenant, by the database itself; `NotFound`."""
        missing = NotFound(f"there is no tenant {tenant_id[:64]!r}")
        if not TENANT_ID.fullmatch(tenant_id):
            raise missing
        async with self._database.read() as connection:
            row = (
                await connection.execute(select(tenants).where(tenants.c.id == tenant_id))
            ).first()
        if row is None:
            raise missing
        return _tenant(row)

    async def list(
        self, cursor: str | None = None, limit: int = 100
    ) -> tuple[list[Tenant], str | None]:
        """Tenants by id, and the cursor of the page that follows, if one does."""
        query = select(tenants).order_by(tenants.c.id).limit(limit + 1)
        if cursor is not None:
            if not TENANT_ID.fullmatch(cursor):
                raise InvalidInput("cursor is none that this list gave", where="cursor")
            query = query.where(tenants.c.id > cursor)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        found = [_tenant(row) for row in rows[:limit]]
        return found, found[-1].id if len(rows) > limit else None

    async def every(self) -> Sequence[Tenant]:
        """All tenants, by id."""
        async with self._database.read() as connection:
            rows = await connection.execute(select(tenants).order_by(tenants.c.id))
            return [_tenant(row) for row in rows]

    async def rename(self, tenant_id: str, name: str, actor: str) -> Tenant:
        """Give the tenant another name; `NotFound`."""
        return await self._update(tenant_id, {"name": checked_name(name)}, "tenant.renamed", actor)

    async def set_quota(
        self, tenant_id: str, quota: Mapping[str, float | None], actor: str
    ) -> Tenant:
        """Set the limits in `quota` (names of `QUOTAS`); None returns one to the shipped default.

        Raises `Unprocessable`, which names the limits there are, and `NotFound`.
        """
        for name, value in quota.items():
            if name not in QUOTAS:
                raise Unprocessable(
                    f"{name} is no limit that a quota sets; there are {', '.join(QUOTAS)}",
                    where=name,
                )
            if value is not None and not 1 <= value <= QUOTAS[name]:
                raise Unprocessable(f"{name} lies between 1 and {QUOTAS[name]:.0f}", where=name)
        if not quota:
            raise Unprocessable(f"set at least one of {', '.join(QUOTAS)}")
        return await self._update(tenant_id, dict(quota), "tenant.quota_set", actor)

    async def delete(self, tenant_id: str, actor: str) -> None:
        """Remove the tenant with all its data; `NotFound`.

        Its keys go first, so that nothing new arrives; then what `forget` removes; then its rows.
        Interrupted, it can be asked for again. The platform's audit keeps that it happened.
        """
        await self.get(tenant_id)
        async with self._database.begin() as connection:
            await connection.execute(delete(api_keys).where(api_keys.c.tenant == tenant_id))
        await self._forget(tenant_id)
        async with self._database.begin() as connection:
            # Whoever writes of the tenant while holding its row is done before, or finds it gone.
            await connection.execute(
                select(tenants.c.id).where(tenants.c.id == tenant_id).with_for_update()
            )
            removed = {}
            for table in metadata.sorted_tables:
                if "tenant" in table.c:
                    done = await connection.execute(
                        delete(table).where(table.c.tenant == tenant_id)
                    )
                    removed[table.name] = done.rowcount
            await connection.execute(delete(tenants).where(tenants.c.id == tenant_id))
            counts = {name: count for name, count in removed.items() if count}
            await self._audit(
                connection, PLATFORM, actor, "tenant.deleted", tenant_id, {"rows": counts}
            )
        self._limits.forget(lambda tenant, _: tenant == tenant_id)

    async def limits(self, tenant_id: str) -> Tenant:
        """The tenant with its own limits, at most `REMEMBER_SECONDS` old; `NotFound`."""
        return (await self._remembered(tenant_id))[0]

    async def quota(self, tenant_id: str) -> Quota:
        """The limits in force for the tenant, at most `REMEMBER_SECONDS` old; `NotFound`."""
        return (await self._remembered(tenant_id))[1]

    def quota_of(self, tenant: Tenant) -> Quota:
        """The limits in force for this tenant."""
        return in_force(tenant, self._shipped, self._retention)

    async def _remembered(self, tenant_id: str) -> tuple[Tenant, Quota]:
        async def ask() -> tuple[Tenant, Quota]:
            tenant = await self.get(tenant_id)
            return tenant, self.quota_of(tenant)

        return await self._limits.get(tenant_id, ask)

    async def _update(
        self, tenant_id: str, values: dict[str, Any], action: str, actor: str
    ) -> Tenant:
        query = update(tenants).where(tenants.c.id == tenant_id).values(**values)
        async with self._database.begin() as connection:
            row = (await connection.execute(query.returning(*tenants.c))).first()
            if row is None:
                raise NotFound(f"there is no tenant {tenant_id!r}")
            await self._audit(connection, tenant_id, actor, action, tenant_id, values)
        self._limits.forget(lambda tenant, _: tenant == tenant_id)
        return _tenant(row)

    async def _audit(
        self,
        connection: AsyncConnection,
        tenant: str,
        actor: str,
        action: str,
        subject: str,
        detail: Mapping[str, Any],
    ) -> None:
        await audit.record(
            connection,
            tenant=tenant,
            actor=actor,
            action=action,
            subject=subject,
            detail=detail,
            at=self._clock.now(),
        )


def _tenant(row: Row[Any]) -> Tenant:
    limits = {name: getattr(row, name) for name in NAMES}
    return Tenant(row.id, row.name, row.created_at, **limits)
