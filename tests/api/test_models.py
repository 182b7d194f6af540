"""A model's card, versions and their return, through the API, with a worker that notices."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import numpy as np
import pytest

from models.synthetic import daily, times
from service.detection.fitting import FitOptions, Trained, train_series
from service.domain.series import SCORE, Series
from service.domain.tenants import Role
from service.settings import Settings
from service.storage.columns import Columns
from service.wiring import Wiring, wired
from service.worker import Worker
from tests.support.models import put_model
from tests.support.seed import Seed
from tests.support.whole import headers_of, record, until_true, working

STEP, ROWS = 300_000, 600
CPU = Series.of("cpu", {"host": "a"})
PATH = f"/analytics/series/{CPU.hex}/model"


@pytest.fixture
def t(parts: Wiring) -> np.ndarray:
    now_ms = round(parts.clock.now() * 1000)
    return times(ROWS, STEP, now_ms - (ROWS + 1) * STEP)


@pytest.fixture
async def trained(parts: Wiring, t: np.ndarray) -> Trained:
    """Five versions of a model, of which the newest three are kept."""
    values = daily(ROWS, seed=3)
    seed = Seed(parts.redis, parts.database, parts.clock.now(), shards=parts.settings.log_shards)
    await seed.put(CPU, t / 1000, values)
    found = await asyncio.to_thread(train_series, t, values, FitOptions())
    for version in range(1, 6):
        told = {"version": version, "trained_at": 0.0, "trained_to_ms": found.to_ms}
        manifest = told | {"judged_until_ms": found.to_ms}
        await put_model(parts, CPU, found, manifest, before=version - 1)
    return found


@pytest.fixture
async def reader(parts: Wiring) -> dict[str, str]:
    return await headers_of(parts, Role.READER)


@pytest.fixture
async def elsewhere(parts: Wiring, settings: Settings) -> AsyncIterator[tuple[Wiring, Worker]]:
    """The parts of another process, with a worker at work."""
    async with wired(settings, parts.clock) as other, working(other) as worker:
        yield other, worker


async def test_the_card_tells_all(
    client: httpx.AsyncClient, reader: dict[str, str], trained: Trained, parts: Wiring
) -> None:
    answer = await client.get(PATH, headers=reader)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert [(v["version"], v["current"]) for v in told["versions"]] == [
        (5, True),
        (4, False),
        (3, False),
    ]
    newest = told["versions"][0]
    assert (newest["rows"], newest["coverage"]) == (trained.rows, trained.quality["coverage"])
    assert newest["forecaster"] in told["forecast_weights"]
    assert sum(told["forecast_weights"].values()) == pytest.approx(1.0)
    assert told["age_seconds"] == pytest.approx(parts.clock.now() - trained.to_ms / 1000)
    assert told["confidence"] > 0
    assert told["members"]
    assert told["features"]
    assert (told["version"], told["pinned"], told["drift"]) == (5, False, None)
    assert (told["alerts_last_week"], told["failures"], told["error"]) == (0, 0, None)
    other = await headers_of(parts, Role.READER, "other")
    assert (await client.get(PATH, headers=other)).status_code == 404


async def test_a_worker_uses_a_version_of_before(
    client: httpx.AsyncClient,
    parts: Wiring,
    operator: dict[str, str],
    trained: Trained,
    elsewhere: tuple[Wiring, Worker],
    t: np.ndarray,
) -> None:
    other, worker = elsewhere
    moments = iter(range(1, 100))

    async def scored_by(version: int) -> None:
        n = next(moments)
        await record(parts, CPU, t[-1:] + n * STEP, np.array([50.0]))

        def scored() -> bool:
            known = worker.head.columns("acme", CPU.derived(SCORE).id).t
            used = other.scorer.state("acme", CPU).version
            return len(known) > 0 and known[-1] == t[-1] + n * STEP and used == version

        await until_true(scored)

    await scored_by(5)
    answer = await client.post(f"{PATH}/rollback", json={"version": 3}, headers=operator)
    assert answer.status_code == 200, answer.text
    assert answer.json()["version"] == 3
    await scored_by(3)
    # what comes after is of a new number; what was left is forgotten
    manifest = {"version": 6, "trained_at": 0.0, "trained_to_ms": trained.to_ms}
    await put_model(parts, CPU, trained, manifest | {"judged_until_ms": 0}, before=3)
    await parts.wake.publish("models", f"acme/{CPU.hex}")
    await scored_by(6)
    card = (await client.get(PATH, headers=operator)).json()
    assert [v["version"] for v in card["versions"]] == [6, 3]


async def test_a_pinned_version_stays_until_it_is_not(
    client: httpx.AsyncClient, parts: Wiring, operator: dict[str, str], trained: Trained
) -> None:
    pin = {"version": 4, "pin": True}
    assert (await client.post(f"{PATH}/rollback", json=pin, headers=operator)).json()["pinned"]
    manifest = {"version": 6, "trained_at": 0.0, "trained_to_ms": 0, "judged_until_ms": 0}
    with pytest.raises(AssertionError):
        await put_model(parts, CPU, trained, manifest, before=4)
    loose = (await client.post(f"{PATH}/rollback", json={"version": 4}, headers=operator)).json()
    assert (loose["version"], loose["pinned"]) == (4, False)
    await put_model(parts, CPU, trained, manifest, before=4)
    said = (await client.get("/audit", headers=operator)).json()["items"]
    assert [one["detail"]["pin"] for one in said if one["action"] == "model.rolled_back"] == [
        False,
        True,
    ]


async def test_a_forgotten_model_is_gone_and_its_history_stays_judged(
    client: httpx.AsyncClient, parts: Wiring, operator: dict[str, str], trained: Trained
) -> None:
    before = (await parts.model_records.all("acme"))[CPU.hex]
    assert (await client.delete(PATH, headers=operator)).status_code == 204
    after = (await parts.model_records.all("acme"))[CPU.hex]
    assert (after.version, after.newest, after.trained_at) == (0, before.newest, None)
    await parts.catalogue.look_up("acme", CPU.hex)
    assert parts.models.load("acme", CPU.hex) is None
    told = (await client.get(PATH, headers=operator)).json()
    assert (told["version"], told["versions"]) == (0, [])
    said = (await client.get("/audit", headers=operator)).json()["items"]
    assert said[0]["action"] == "model.deleted"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"version": 2}, 404),
        ({"version": 99}, 404),
        ({"version": 0}, 422),
        ({"version": "4"}, 422),
        ({"version": 2**31}, 422),
        ({}, 422),
        ({"version": 4, "hold": True}, 422),
    ],
)
async def test_what_cannot_be_used_is_said(
    client: httpx.AsyncClient, operator: dict[str, str], trained: Trained, body: object, status: int
) -> None:
    answer = await client.post(f"{PATH}/rollback", json=body, headers=operator)
    assert answer.status_code == status, answer.text


async def test_a_changed_version_is_refused_and_the_one_before_stands_in(
    client: httpx.AsyncClient, parts: Wiring, operator: dict[str, str], trained: Trained, t
) -> None:
    newest, before = (await parts.model_records.places("acme")).found[CPU.id][:2]
    path = parts.settings.data_dir / "models" / newest.segment
    raw = bytearray(path.read_bytes())
    raw[newest.offset + 1000] ^= 1
    path.write_bytes(raw)
    assert await parts.catalogue.fresh("acme") == [CPU.id]
    samples = Columns(t, daily(ROWS, seed=3))
    assert await asyncio.to_thread(parts.scorer.score, "acme", CPU, samples, int(t[-2])) == []
    assert parts.models.version("acme", CPU.id) == before.version
    await parts.catalogue.settle()
    card = (await client.get(PATH, headers=operator)).json()
    assert card["version"] == before.version
    assert "refused" in card["error"]
    assert card["last_training"] is None  # it is due
    assert "signature" in card["versions"][0]["refused"]
    answer = await client.post(f"{PATH}/rollback", json={"version": 5}, headers=operator)
    assert answer.status_code == 409


async def test_there_is_no_card_before_there_is_a_model(
    client: httpx.AsyncClient, parts: Wiring, operator: dict[str, str]
) -> None:
    seed = Seed(parts.redis, parts.database, parts.clock.now(), shards=parts.settings.log_shards)
    await seed.put(CPU, np.array([parts.clock.now() - 5.0]), np.array([1.0]))
    assert (await client.get(PATH, headers=operator)).status_code == 404
    assert (await client.delete(PATH, headers=operator)).status_code == 404
    body = {"version": 1}
    assert (await client.post(f"{PATH}/rollback", json=body, headers=operator)).status_code == 404
