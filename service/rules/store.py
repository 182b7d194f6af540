"""The rules that tenants make through the API, in SQL."""

import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import RowMapping, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.clock import Clock
from service.domain.errors import Conflict, NotFound, OverLimit
from service.domain.quotas import QuotaOf
from service.domain.rules import Rule, RuleBook
from service.rules.form import RuleError
from service.rules.schema import parse_rule, rule_form
from service.security import audit
from service.storage.sql.engine import Database
from service.storage.sql.statements import lock_tenant
from service.storage.sql.tables import rules

log = structlog.get_logger(__name__)

_PARSED_MAX, _LISTED_MAX = 50_000, 1000


@dataclass(frozen=True, slots=True)
class StoredRule:
    """A rule of a tenant with its history in short. Times are Unix seconds."""

    rule: Rule
    version: int
    created_at: float
    updated_at: float


class RuleStore:
    """Makes, changes, removes and reads rules. `cooldown_seconds` serves rules that name none.

    `quota` says how many a tenant may make; those of the rules file do not count.
    """

    def __init__(
        self, database: Database, clock: Clock, cooldown_seconds: float, quota: QuotaOf
    ) -> None:
        self._database, self._clock = database, clock
        self._cooldown_seconds, self._quota = cooldown_seconds, quota
        self._parsed: dict[str, tuple[int, Rule]] = {}
        self._listed: dict[str, tuple[tuple[Any, ...], list[StoredRule]]] = {}

    def parse(self, tenant: str, rule_id: str, body: object) -> Rule:
        """The rule that a body writes; `RuleError` with every problem."""
        return parse_rule(
            body, rule_id=rule_id, tenant=tenant, cooldown_seconds=self._cooldown_seconds
        )

    async def create(self, tenant: str, body: Mapping[str, Any], actor: str) -> StoredRule:
        """A new rule.

        Raises `RuleError`, `Conflict` if the tenant has one of that name, and `OverLimit` if it
        has as many as its quota allows.
        """
        rule = self.parse(tenant, uuid.uuid4().hex, body)
        most = (await self._quota(tenant)).rules
        now = self._clock.now()
        async with self._database.begin() as connection:
            await lock_tenant(connection, tenant)
            count = await connection.scalar(
                select(func.count()).select_from(rules).where(rules.c.tenant == tenant)
            )
            if (count or 0) >= most:
                raise OverLimit(
                    f"the tenant has {count} rules and may have {most}; delete one first",
                    retry_after=math.inf,  # no waiting helps
                )
            await self._check_name(connection, tenant, rule)
            await connection.execute(
                insert(rules).values(
                    id=rule.id,
                    tenant=tenant,
                    name=rule.name,
                    body=_kept(body),
                    enabled=rule.enabled,
                    version=1,
                    created_at=now,
                    updated_at=now,
                )
            )
            await self._audit(connection, "rule.created", rule, actor, now)
        return StoredRule(rule, 1, now, now)

    async def update(
        self, tenant: str, rule_id: str, body: Mapping[str, Any], actor: str
    ) -> StoredRule:
        """Put a rule in the place of another; the same once more changes nothing.

        Raises `RuleError`, `NotFound`, and `Conflict` for the name of another rule.
        """
        rule = self.parse(tenant, rule_id, body)
        now = self._clock.now()
        async with self._database.begin() as connection:
            await lock_tenant(connection, tenant)
            row = await _row(connection, tenant, rule_id)
            if row["body"] == _kept(body):
                return self._stored(row, rule)
            await self._check_name(connection, tenant, rule)
            await connection.execute(
                update(rules)
                .where(rules.c.tenant == tenant, rules.c.id == rule_id)
                .values(
                    name=rule.name,
                    body=_kept(body),
                    enabled=rule.enabled,
                    version=row["version"] + 1,
                    updated_at=now,
                )
            )
            await self._audit(connection, "rule.updated", rule, actor, now)
        return StoredRule(rule, row["version"] + 1, row["created_at"], now)

    async def delete(self, tenant: str, rule_id: str, actor: str) -> None:
        """Remove a rule; `NotFound`. The engine resolves what it has open."""
        async with self._database.begin() as connection:
            await lock_tenant(connection, tenant)
            row = await _row(connection, tenant, rule_id)
            await connection.execute(
                delete(rules).where(rules.c.tenant == tenant, rules.c.id == rule_id)
            )
            await audit.record(
                connection,
                tenant=tenant,
                actor=actor,
                action="rule.deleted",
                subject=rule_id,
                detail={"name": row["name"]},
                at=self._clock.now(),
            )
        self._parsed.pop(rule_id, None)

    async def get(self, tenant: str, rule_id: str) -> StoredRule:
        """One rule; `NotFound`."""
        async with self._database.read() as connection:
            row = await _row(connection, tenant, rule_id)
        return self._stored(row, self._rule(row))

    async def all_for(self, tenant: str, book: RuleBook) -> list[Rule]:
        """The rules of the file that hold for the tenant, then its own; disabled ones too."""
        return [*book.rules_for(tenant), *(stored.rule for stored in await self.list(tenant))]

    def _stored(self, row: RowMapping, rule: Rule) -> StoredRule:
        return StoredRule(rule, row["version"], row["created_at"], row["updated_at"])

    def _rule(self, row: RowMapping) -> Rule:
        known = self._parsed.get(row["id"])
        if known is not None and known[0] == row["version"]:
            return known[1]
        rule = self.parse(row["tenant"], row["id"], row["body"])
        if len(self._parsed) >= _PARSED_MAX:
            self._parsed.clear()
        self._parsed[row["id"]] = row["version"], rule
        return rule

    async def _check_name(self, connection: AsyncConnection, tenant: str, rule: Rule) -> None:
        other = await connection.scalar(
            select(rules.c.id).where(
                rules.c.tenant == tenant, rules.c.name == rule.name, rules.c.id != rule.id
            )
        )
        if other is not None:
            raise Conflict(f"there is a rule {rule.name!r} already; its id is {other}")

    async def _audit(
        self, connection: AsyncConnection, action: str, rule: Rule, actor: str, now: float
    ) -> None:
        await audit.record(
            connection,
            tenant=rule.tenant or "",
            actor=actor,
            action=action,
            subject=rule.id,
            detail={"rule": rule_form(rule)},
            at=now,
        )

    async def list(self, tenant: str) -> list[StoredRule]:
        """Every rule of the tenant, by name; read again only when one of them has changed."""
        mine = rules.c.tenant == tenant
        # Not by times: replicas have clocks of their own.
        mark = select(func.sum(rules.c.version), func.aggregate_strings(rules.c.id, ""))
        async with self._database.read() as connection:
            now = tuple((await connection.execute(mark.where(mine))).one())
            known = self._listed.get(tenant)
            if known is not None and known[0] == now:
                return list(known[1])
            query = select(rules).where(mine).order_by(rules.c.name)
            rows = (await connection.execute(query)).mappings().all()
        found: list[StoredRule] = []
        for row in rows:
            try:
                found.append(self._stored(row, self._rule(row)))
            except RuleError as error:
                # Written by a newer program; the tenant's other rules still count.
                log.error("rule unreadable", tenant=tenant, rule=row["id"], reason=str(error))
        if len(self._listed) >= _LISTED_MAX:
            self._listed.clear()
        self._listed[tenant] = now, found
        return list(found)


async def _row(connection: AsyncConnection, tenant: str, rule_id: str) -> RowMapping:
    query = select(rules).where(rules.c.tenant == tenant, rules.c.id == rule_id)
    row = (await connection.execute(query)).mappings().first()
    if row is None:
        raise NotFound(f"there is no rule {rule_id[:64]!r}")
    return row


def _kept(body: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if value is not None}
