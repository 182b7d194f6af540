"""Tenants, roles and what each role may do."""

import re
from dataclasses import dataclass
from enum import StrEnum

TENANT_ID = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?")

#: Where things live that belong to the platform and to no tenant.
PLATFORM = "-"


class Role(StrEnum):
    """What a key may do; see `ALLOWED`."""

    ADMIN = "admin"
    OPERATOR = "operator"
    RESPONDER = "responder"
    WRITER = "writer"
    READER = "reader"


class Permission(StrEnum):
    """One kind of action."""

    RECORD = "record"  # send metrics
    READ = "read"  # series, dashboards, insights, alerts, rules
    RESPOND = "respond"  # acknowledge
    CONFIGURE = "configure"  # rules, channels, keys of the own tenant, its audit
    ADMINISTER = "administer"  # tenants, quotas, every tenant's keys


ALLOWED: dict[Role, frozenset[Permission]] = {
    Role.ADMIN: frozenset(Permission),
    Role.OPERATOR: frozenset(Permission) - {Permission.ADMINISTER},
    Role.RESPONDER: frozenset({Permission.READ, Permission.RESPOND}),
    Role.WRITER: frozenset({Permission.RECORD}),
    Role.READER: frozenset({Permission.READ}),
}


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant and the limits it has of its own; None means the shipped default.

    `service.domain.quotas.in_force` gives the limits that hold.
    """

    id: str
    name: str
    created_at: float
    samples_per_second: float | None = None
    requests_per_second: float | None = None
    series: int | None = None
    new_series_per_minute: int | None = None
    rules: int | None = None
    active_alerts: int | None = None
    sample_age_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking: the key's id and name, its role, and the tenant it acts for.

    `tenant` is None for an admin key that has not named one.
    """

    key_id: str
    name: str
    role: Role
    tenant: str | None

    def may(self, permission: Permission) -> bool:
        """Whether the role allows it."""
        return permission in ALLOWED[self.role]

    @property
    def actor(self) -> str:
        """How the audit log names it."""
        return f"{self.role}:{self.name}"
