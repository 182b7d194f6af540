"""Whatever the OpenAPI document allows and does not allow is sent; nothing may answer 5xx."""

import asyncio
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import booleans
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

from service.domain.tenants import Role
from service.settings import Settings
from service.storage.embedded import EmbeddedStore
from service.wiring import prepare, wired
from tests.support.roles import end, environment_of, start_role, wait_ready

schemathesis.serializer.alias("application/x-protobuf", "application/octet-stream")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200), pytest.mark.xdist_group("schemathesis")]


@pytest.fixture(scope="module")
def api(
    store: EmbeddedStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str, Path]]:
    """A running API, an operator's key, and the API's log."""
    folder = tmp_path_factory.mktemp("schemathesis")
    database = f"sqlite:///{folder / 'offbeat.db'}"

    async def make() -> str:
        options = Settings(data_dir=folder, redis_url=store.url, database_url=database)
        await prepare(options)
        async with wired(options) as parts:
            await parts.tenants.create("acme", "Acme", "test")
            _, key = await parts.keys.create("acme", Role.OPERATOR, "test", "test")
        return key

    key = asyncio.run(make())
    environment = environment_of(folder, store.url, database)
    log = folder / "log.txt"
    url = f"http://127.0.0.1:{environment['OFFBEAT_PORT']}"
    process = start_role("api", environment, log)
    try:
        wait_ready(url, process, log)
        yield url, key, log
    finally:
        end(process, signal.SIGKILL)


def test_nothing_answers_5xx(api: tuple[str, str, Path]) -> None:
    url, key, log = api
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) > 25
    seen: Counter[int] = Counter()
    for operation in operations:
        _send(operation, key, seen)
        assert "Traceback" not in log.read_text(), operation.label
    assert {200, 201, 400, 404, 422} <= set(seen), seen  # it came past the front door


def _send(operation: "schemathesis.schemas.APIOperation", key: str, seen: Counter[int]) -> None:
    valid = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    invalid = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)

    @seed(1)
    @settings(
        max_examples=25,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(case=valid | invalid, at_home=booleans())
    def send(case: schemathesis.Case, at_home: bool) -> None:
        if at_home:  # the own tenant, asked for properly
            for header in ("Authorization", "X-API-Key", "X-Tenant-ID"):
                case.headers.pop(header, None)
            if "tenant_id" in case.path_parameters:
                case.path_parameters["tenant_id"] = "acme"
        answer = case.call(headers={"X-API-Key": key}, timeout=20)
        seen[answer.status_code] += 1
        case.validate_response(
            answer,
            checks=[not_a_server_error, content_type_conformance, status_code_conformance],
        )
        if answer.status_code >= 400 and case.method != "HEAD":
            told = answer.json()
            assert told.get("detail") or told["error"], "a refusal says why"

    send()
