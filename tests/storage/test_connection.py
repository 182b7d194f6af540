"""REDIS_HOST, REDIS_PORT and REDIS_PASSWORD reach a Redis that asks for a password."""

import subprocess
import time
from pathlib import Path

import pytest
from pydantic import SecretStr

from service.domain.errors import ConfigurationError, Unavailable
from service.settings import Settings, load_settings
from service.storage.embedded import EmbeddedStore, die_with_parent, find_server
from service.storage.redis import ask, connect
from service.supervisor import free_port


async def test_host_port_and_password(tmp_path: Path) -> None:
    port = free_port("127.0.0.1")
    server = subprocess.Popen(  # noqa: ASYNC220 # it starts at once
        [find_server(), "--port", str(port), "--requirepass", "s3cret/+", "--save", ""],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        preexec_fn=die_with_parent,
    )
    try:
        settings = Settings(
            redis_host="127.0.0.1", redis_port=port, redis_password=SecretStr("s3cret/+")
        )
        assert not settings.embedded_redis
        client = connect(settings.resolved_redis_url)
        deadline = time.monotonic() + 10
        while True:
            try:
                assert await ask(client, "PING")
                break
            except Unavailable:
                assert time.monotonic() < deadline
        await client.aclose()
        wrong = connect(Settings(redis_host="127.0.0.1", redis_port=port).resolved_redis_url)
        with pytest.raises(Unavailable, match=r"refuses us: .* check REDIS_PASSWORD"):
            await ask(wrong, "PING")
        await wrong.aclose()
    finally:
        server.kill()
        server.wait()


def test_a_second_store_on_a_folder_is_refused(store: EmbeddedStore) -> None:
    with pytest.raises(ConfigurationError, match="another store already serves"):
        EmbeddedStore(store.folder).start()


def test_a_folder_too_deep_for_a_socket_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="too long for a unix socket"):
        EmbeddedStore(tmp_path / ("deep" * 30)).start()


def test_settings_name_the_variable_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_ALERTS_PER_HOUR", "many")
    monkeypatch.setenv("ALERT_COOLDOWN_PERIOD", "15m")
    with pytest.raises(ConfigurationError, match=r"MAX_ALERTS_PER_HOUR: .*'many'"):
        load_settings()
    monkeypatch.setenv("MAX_ALERTS_PER_HOUR", "5")
    assert load_settings().alert_cooldown_period == 900
    monkeypatch.setenv("CACHE_TTL", "5")  # a variable of somebody else is no error
    load_settings()
