"""What the routes of rules and alerts take from the wiring, and an application of them."""

from collections.abc import Iterable
from dataclasses import dataclass

import httpx
from fastapi import APIRouter, FastAPI
from redis.asyncio import Redis

from service.alerts.store import AlertStore
from service.api import problems
from service.domain.clock import ManualClock
from service.domain.tenants import PLATFORM, Role
from service.rules.health import RuleHealth
from service.rules.loader import RulesFile
from service.rules.store import RuleStore
from service.security.keys import KeyRing
from service.security.tenants import TenantStore
from service.settings import Settings
from service.storage.sql.engine import Database
from service.storage.wake import WakeUps


@dataclass
class Parts:
    """Real parts on real stores."""

    settings: Settings
    clock: ManualClock
    database: Database
    redis: Redis

    def __post_init__(self) -> None:
        async def forget(_tenant: str) -> None:
            return None

        cooldown = self.settings.alert_cooldown_period
        self.keys = KeyRing(self.database, self.clock)
        self.tenants = TenantStore(self.database, self.clock, forget)
        self.wake = WakeUps(self.redis)
        self.rules = RuleStore(self.database, self.clock, cooldown)
        self.rules_file = RulesFile(self.settings.alert_rules, cooldown, self.clock)
        self.rule_health = RuleHealth(self.redis)
        self.alerts = AlertStore(self.database)

    async def headers(self, role: Role, tenant: str = "acme") -> dict[str, str]:
        """Of somebody with that role."""
        owner = PLATFORM if role is Role.ADMIN else tenant
        _, key = await self.keys.create(owner, role, f"{role} of {owner}", "test")
        return {"Authorization": f"Bearer {key}"}


async def client_of(parts: Parts, routers: Iterable[APIRouter]) -> httpx.AsyncClient:
    """Calls an application of these routers; the tenants acme and other exist."""
    for tenant in ("acme", "other"):
        await parts.tenants.create(tenant, tenant.title(), "test")
    app = FastAPI(responses=problems.RESPONSES)
    app.state.wiring = parts
    problems.install(app)
    for router in routers:
        app.include_router(router)
    transport = httpx.ASGITransport(app)
    return httpx.AsyncClient(transport=transport, base_url="http://offbeat.test")
