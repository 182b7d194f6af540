"""The HTTP side on real stores, with every router there is."""

import importlib
import pkgutil
from collections.abc import AsyncIterator, Iterable

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from redis.asyncio import Redis

import service.api
from service.api import audit, health, keys, middleware, problems, reference, tenants
from service.domain.clock import ManualClock
from service.domain.tenants import PLATFORM, Role
from service.settings import Settings
from service.wiring import Wiring
from tests.support.whole import key_of, made


def make_app(house: Wiring, routers: Iterable[APIRouter]) -> FastAPI:
    """An application of these routers."""
    app = FastAPI(docs_url=None, redoc_url=None, responses=problems.RESPONSES)
    app.state.wiring = house
    problems.install(app)
    middleware.install(app, house.settings)
    for router in routers:
        app.include_router(router)
    return app


@pytest.fixture
async def house(settings: Settings, clock: ManualClock, redis: Redis) -> AsyncIterator[Wiring]:
    """Every part; the tenants acme and other exist."""
    async with made(settings, clock) as parts:
        yield parts


@pytest.fixture
def app(house: Wiring) -> FastAPI:
    """Tenants, keys, audit, health and the reference page."""
    topics = (tenants, keys, audit, health, reference)
    return make_app(house, [topic.router for topic in topics])


@pytest.fixture
def whole(house: Wiring) -> FastAPI:
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
async def admin(house: Wiring) -> dict[str, str]:
    """Headers of an admin."""
    return {"X-API-Key": await key_of(house, PLATFORM, Role.ADMIN)}


@pytest.fixture
async def operator(house: Wiring) -> dict[str, str]:
    """Headers of acme's operator."""
    return {"Authorization": f"Bearer {await key_of(house, 'acme', Role.OPERATOR)}"}
