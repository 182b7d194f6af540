"""Redis over TLS with a password: what works, and what is said of what does not."""

import asyncio
import contextlib
import re
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from service.domain.clock import SystemClock
from service.domain.errors import ConfigurationError, OffbeatError
from service.domain.tenants import Role
from service.settings import Settings
from service.storage import keys
from service.storage.embedded import die_with_parent, find_server
from service.storage.reach import reach
from service.storage.redis import ask, connect, connect_as_set
from service.wiring import prepare
from service.worker import Worker
from tests.support.redis_cluster import Cluster
from tests.support.roles import wait_until
from tests.support.tls import Authority, Dial, door
from tests.support.whole import calling, headers_of, made

PASSWORD = "s3cret/+@,"
QUOTED = "s3cret%2F%2B%40%2C"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, short_tmp: Path) -> Iterator[Path]:
    """The socket of a server that asks for a password."""
    path = short_tmp / "guarded.sock"
    server = subprocess.Popen(
        [
            find_server(),
            *("--port", "0", "--unixsocket", str(path), "--save", ""),
            *("--requirepass", PASSWORD),
        ],
        cwd=tmp_path_factory.mktemp("guarded"),
        stdout=subprocess.DEVNULL,
        preexec_fn=die_with_parent,
    )
    wait_until(path.exists, 10, "the server does not start")
    yield path
    server.kill()
    server.wait()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def dial(guarded: Path) -> Dial:
    return lambda: asyncio.open_unix_connection(guarded)


@pytest.fixture
async def port(dial: Dial, authority: Authority) -> AsyncIterator[int]:
    """A door with a good certificate for localhost."""
    async with door(dial, authority.context("localhost", "127.0.0.1")) as port:
        yield port


async def reached(**given: object) -> object:
    settings = Settings.model_validate(given)
    client = connect_as_set(settings)
    try:
        await reach(client, settings)
        return await ask(client, "ECHO", "hello")
    finally:
        await client.aclose()


async def said(**given: object) -> str:
    with pytest.raises(OffbeatError) as caught:
        await reached(**given)
    return str(caught.value)


async def test_by_url_and_by_host(port: int, authority: Authority) -> None:
    ca = str(authority.file)
    url = f"rediss://:{QUOTED}@localhost:{port}/0"
    assert await reached(redis_url=url, redis_ca_file=ca) == b"hello"
    by_host: dict[str, object] = {
        "redis_host": "127.0.0.1",
        "redis_port": port,
        "redis_password": PASSWORD,
        "redis_ssl": True,
        "redis_ca_file": ca,
    }
    assert await reached(**by_host) == b"hello"
    assert await reached(**by_host | {"redis_user": "default"}) == b"hello"


async def test_a_certificate_that_is_wrong_is_named(
    port: int, authority: Authority, dial: Dial, tmp_path: Path
) -> None:
    here = f"Redis at localhost:{port}"
    url = f"rediss://:{QUOTED}@localhost:{port}"
    stranger = Authority(tmp_path, "stranger")
    for trusted in ("", str(stranger.file)):
        assert re.fullmatch(
            rf"{here} shows a certificate that we do not trust: .*certificate.*; "
            "set REDIS_CA_FILE to the certificate of who signed it",
            await said(redis_url=url, redis_ca_file=trusted),
        )
    ca = str(authority.file)
    async with (
        door(dial, authority.context("redis.example")) as other,
        door(dial, authority.context("localhost", lasts=timedelta(days=-1))) as expired,
    ):
        assert await said(redis_url=f"rediss://localhost:{other}", redis_ca_file=ca) == (
            f"Redis at localhost:{other} shows a certificate for another host: Hostname mismatch, "
            "certificate is not valid for 'localhost'.; check REDIS_URL"
        )
        assert "certificate for another host: IP address mismatch" in await said(
            redis_host="127.0.0.1", redis_port=other, redis_ssl=True, redis_ca_file=ca
        )
        assert "has expired" in await said(
            redis_host="localhost", redis_port=expired, redis_ssl=True, redis_ca_file=ca
        )


async def test_a_password_that_is_wrong_is_named(port: int, authority: Authority) -> None:
    ca = str(authority.file)
    wrong = f"rediss://:guess@localhost:{port}"
    assert await said(redis_url=wrong, redis_ca_file=ca) == (
        f"Redis at localhost:{port} refuses us: invalid username-password pair or user is "
        "disabled.; check the password in REDIS_URL"
    )
    none = await said(redis_host="localhost", redis_port=port, redis_ssl=True, redis_ca_file=ca)
    assert none == (
        f"Redis at localhost:{port} refuses us: Authentication required.; check REDIS_PASSWORD"
    )


async def test_tls_where_there_is_none_and_the_other_way_round(port: int, dial: Dial) -> None:
    assert re.fullmatch(
        rf"Redis at localhost:{port} hangs up on us \(.*\); if it expects TLS, "
        "write rediss:// in REDIS_URL",
        await said(redis_url=f"redis://:{QUOTED}@localhost:{port}"),
    )
    assert "if it expects TLS, set REDIS_SSL=true" in await said(
        redis_host="localhost", redis_port=port
    )
    async with door(dial, None) as plain:
        settings = Settings(redis_host="localhost", redis_port=plain, redis_ssl=True)
        client = connect(settings.resolved_redis_url, timeout=0.3)
        with pytest.raises(OffbeatError) as caught:  # Redis waits for more of such a command
            await reach(client, settings)
        await client.aclose()
    assert str(caught.value) == (
        f"Redis at localhost:{plain} does not answer: Timeout connecting to server; "
        "check REDIS_HOST; if it does not speak TLS, unset REDIS_SSL"
    )


async def test_a_server_that_wants_our_certificate(authority: Authority, dial: Dial) -> None:
    context = authority.context("localhost")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.file)
    certificate, key = authority.issue("offbeat")
    async with door(dial, context) as port:
        given: dict[str, object] = {
            "redis_url": f"rediss://:{QUOTED}@localhost:{port}",
            "redis_ca_file": str(authority.file),
        }
        assert "set REDIS_CERT_FILE and REDIS_KEY_FILE" in await said(**given)
        given |= {"redis_cert_file": str(certificate), "redis_key_file": str(key)}
        assert await reached(**given) == b"hello"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_tls_older_than_1_2_is_refused(authority: Authority) -> None:
    context = authority.context("localhost")
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_server(("127.0.0.1", 0)) as old:

        def greet() -> None:
            connection, _ = old.accept()
            with contextlib.suppress(OSError), connection:
                context.wrap_socket(connection, server_side=True)

        greeting = asyncio.create_task(asyncio.to_thread(greet))
        port = old.getsockname()[1]
        told = await said(redis_url=f"rediss://localhost:{port}", redis_ca_file=str(authority.file))
        await greeting
    assert "speaks no TLS of 1.2 or later" in told


async def test_files_and_settings_that_cannot_be_right(
    authority: Authority, tmp_path: Path
) -> None:
    url = "rediss://localhost:1"
    missing = str(tmp_path / "none.pem")
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("hello")
    certificate, key = map(str, authority.issue("offbeat"))
    _, other = map(str, authority.issue("another"))
    for given, expected in (
        (
            {"redis_ca_file": missing},
            f"REDIS_CA_FILE: {missing} holds no certificate: No such file",
        ),
        ({"redis_ca_file": str(garbage)}, f"REDIS_CA_FILE: {garbage} holds no certificate"),
        ({"redis_cert_file": missing}, f"REDIS_CERT_FILE, REDIS_KEY_FILE: there is no {missing}"),
        ({"redis_key_file": key}, "REDIS_KEY_FILE is set without REDIS_CERT_FILE"),
        ({"redis_cert_file": certificate, "redis_key_file": other}, "no certificate and its key"),
        (
            {"redis_url": "redis://localhost", "redis_ca_file": str(authority.file)},
            "REDIS_CA_FILE is set, and Redis is not reached over TLS; write rediss://",
        ),
        ({"redis_url": "redis://localhost", "redis_ssl": True}, "REDIS_SSL is set, and Redis"),
    ):
        with pytest.raises(ConfigurationError, match=re.escape(expected)):
            connect_as_set(Settings.model_validate({"redis_url": url} | given))


async def test_nothing_starts_that_cannot_reach_redis(port: int, tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path,
        redis_url=f"rediss://:{QUOTED}@localhost:{port}",
        database_url=f"sqlite:///{tmp_path / 'offbeat.db'}",
    )
    with pytest.raises(ConfigurationError, match="set REDIS_CA_FILE") as caught:
        await prepare(settings)  # the command line prints it as it is
    assert QUOTED not in str(caught.value)


async def test_a_node_of_a_cluster_is_reached_over_tls(
    cluster: Cluster, authority: Authority
) -> None:
    node = cluster.nodes[0]
    shard = next(s for s in range(64) if cluster.owner(keys.log(s)) is node)
    context = authority.context("127.0.0.1")
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(
            door(lambda: asyncio.open_connection("127.0.0.1", node.port), context)
        )
        node.ask("CONFIG", "SET", "cluster-announce-port", port)
        stack.push_async_callback(asyncio.to_thread, cluster.wait)
        stack.callback(node.ask, "CONFIG", "SET", "cluster-announce-port", 0)
        settings = Settings(
            redis_url=f"rediss://127.0.0.1:{port}",
            redis_ca_file=str(authority.file),
            redis_cluster=True,
        )
        client = connect_as_set(settings)
        stack.push_async_callback(client.aclose)
        await ask(client, "SET", keys.position(shard), "1-0")
    assert node.ask("GET", keys.position(shard)) == b"1-0"


async def test_a_sample_is_recorded_and_read_over_tls(
    port: int, authority: Authority, tmp_path: Path
) -> None:
    settings = Settings(
        data_dir=tmp_path,
        redis_url=f"rediss://:{QUOTED}@localhost:{port}",
        redis_ca_file=str(authority.file),
        database_url=f"sqlite:///{tmp_path / 'offbeat.db'}",
        alert_rules=tmp_path / "alert_rules.yaml",
    )
    async with made(settings, SystemClock()) as parts:
        stop = asyncio.Event()
        running = asyncio.create_task(Worker(parts).run(stop))
        try:
            async with calling(parts, await headers_of(parts, Role.OPERATOR)) as http:
                assert (await http.get("/readyz")).json()["redis"] == "ok"
                item = {"name": "plays", "value": 5}
                assert (await http.post("/analytics/metrics", json=item)).status_code == 200
                (series,) = (await parts.registry.all("acme")).values()
                async with asyncio.timeout(20):
                    values = None
                    while values != [5]:
                        read = await http.get(f"/analytics/series/{series.hex}/samples")
                        values = read.json().get("v")
        finally:
            stop.set()
            await asyncio.wait_for(running, 10)
        await parts.redis.flushall()
