"""The HTTP side on real stores, with every router there is."""

import importlib
import pkgutil
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from redis.asyncio import Redis

import service.api
from service.api import audit, health, keys, middleware, problems, reference, tenants
from service.domain.clock import ManualClock
from service.domain.tenants import PLATFORM, Role
from service.security.keys import KeyRing
from service.security.sessions import Sessions
from service.security.tenants import TenantStore
from service.settings import Settings
from service.storage.sql.engine import Database


@dataclass
class House:
    """What `service.wiring` hands to the routes of this folder, as far as they use it."""

    settings: Settings
    clock: ManualClock
    database: Database
    redis: Redis
    forgotten: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.keys = KeyRing(self.database, self.clock)
        self.tenants = TenantStore(self.database, self.clock, self._forget)
        self.sessions = Sessions(b"k" * 32, self.clock, self.redis)

    async def _forget(self, tenant: str) -> None:
        self.forgotten.append(tenant)

    async def key(self, tenant: str, role: Role) -> str:
        """A live key."""
        _, key = await self.keys.create(tenant, role, f"{role} of {tenant}", "test")
        return key


def make_app(house: House, routers: Iterable[APIRouter]) -> FastAPI:
    """An application of these routers."""
    app = FastAPI(docs_url=None, redoc_url=None, responses=problems.RESPONSES)
    app.state.wiring = house
    problems.install(app)
    middleware.install(app, house.settings)
    for router in routers:
        app.include_router(router)
    return app


@pytest.fixture
async def house(settings: Settings, clock: ManualClock, sqlite: Database, redis: Redis) -> House:
    """Real parts, two tenants."""
    house = House(settings, clock, sqlite, redis)
    await house.tenants.create("acme", "Acme", "test")
    await house.tenants.create("other", "Other", "test")
    return house


@pytest.fixture
def app(house: House) -> FastAPI:
    """Tenants, keys, audit, health and the reference page."""
    topics = (tenants, keys, audit, health, reference)
    return make_app(house, [topic.router for topic in topics])


@pytest.fixture
def whole(house: House) -> FastAPI:
    """Every route of the API, those to come included."""
    found = []
    for info in pkgutil.iter_modules(service.api.__path__):
        module = importlib.import_module(f"service.api.{info.name}")
        if isinstance(getattr(module, "router", None), APIRouter):
            found.append(module.router)
    return make_app(house, found)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Calls `app` without a key."""
    async with calling(app) as client:
        yield client


def calling(app: FastAPI) -> httpx.AsyncClient:
    """A client of an application in this process."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://offbeat.test")


@pytest.fixture
async def whole_client(whole: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Calls `whole` without a key."""
    async with calling(whole) as client:
        yield client


@pytest.fixture
async def admin(house: House) -> dict[str, str]:
    """Headers of an admin."""
    return {"X-API-Key": await house.key(PLATFORM, Role.ADMIN)}


@pytest.fixture
async def operator(house: House) -> dict[str, str]:
    """Headers of acme's operator."""
    return {"Authorization": f"Bearer {await house.key('acme', Role.OPERATOR)}"}
