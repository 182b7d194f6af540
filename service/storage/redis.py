"""The connection to Redis, and the one place where its faults become ours."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import SplitResult, urlsplit, urlunsplit

from hiredis import pack_command
from redis.asyncio import (
    Connection,
    ConnectionPool,
    Redis,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.connection import AbstractConnection, RedisSSLContext, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    ClusterError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.domain.errors import ConfigurationError, Unavailable
from service.settings import Settings
from service.storage.cluster import Address, ClusterRedis

_PORT = 6379
#: Of one node. A worker waits for each of its shards on a connection of its own.
_CONNECTIONS = 4096


class TLSFiles(NamedTuple):
    """Paths of PEM files: whom we trust besides the system's, and who we are."""

    ca: str = ""
    certificate: str = ""
    key: str = ""


def connect(
    url: str, timeout: float = 2.0, *, cluster: bool = False, tls: TLSFiles | None = None
) -> Redis:
    """A client of bytes. Nothing is sent before its first command; none waits over `timeout`.

    For a cluster the URL may name several nodes: `redis://:password@one:6379,two:6379`.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "health_check_interval": 15,
        "max_connections": _CONNECTIONS,
        # A command that failed midway may have been done; who calls decides about a second try.
        "retry": Retry(NoBackoff(), 0),
    }
    if url.startswith("rediss:"):
        files = tls or TLSFiles()
        options["shared"] = []
        options["ssl_min_version"] = ssl.TLSVersion.TLSv1_2
        options["ssl_ca_certs"] = files.ca or None
        options["ssl_certfile"] = files.certificate or None
        options["ssl_keyfile"] = files.key or None
    if not cluster:
        return _client(url, options)
    parts = urlsplit(url)
    return ClusterRedis(
        addresses(parts), lambda host, port: _client(_at(parts, host, port), options)
    )


class _Packing(AbstractConnection):
    """Packs commands in C: a batch of samples is a command of ten thousands of arguments."""

    def pack_command(self, *args: Any) -> list[bytes]:
        """The bytes of one command, whose name may be two words."""
        return [pack_command((*args[0].split(), *args[1:]))]


class _TCPConnection(_Packing, Connection):
    pass


class _UnixConnection(_Packing, UnixDomainSocketConnection):
    pass


class _TLSConnection(_Packing, SSLConnection):
    """Connections of a client share a context: reading the system's certificates takes long."""

    def __init__(self, *, shared: list[RedisSSLContext], **options: Any) -> None:
        super().__init__(**options)
        if not shared:
            shared.append(self.ssl_context)
        self.ssl_context = shared[0]


_CONNECTION_OF = {"redis": _TCPConnection, "rediss": _TLSConnection, "unix": _UnixConnection}


def _client(url: str, options: dict[str, Any]) -> Redis:
    fields: dict[str, Any] = {**options, **parse_url(url)}
    fields["connection_class"] = _CONNECTION_OF[urlsplit(url).scheme]
    return Redis.from_pool(ConnectionPool(**fields))


def connect_as_set(settings: Settings, timeout: float = 2.0) -> Redis:
    """The client that the settings describe; `ConfigurationError` where they contradict."""
    url = settings.resolved_redis_url
    parts = urlsplit(url)
    files = TLSFiles(settings.redis_ca_file, settings.redis_cert_file, settings.redis_key_file)
    named = "REDIS_URL" if settings.redis_url else "REDIS_HOST"
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ConfigurationError(
            f"{named} must begin with redis://, rediss:// or unix://, not {parts.scheme!r}"
        )
    if parts.scheme != "rediss":
        on = "REDIS_SSL" if settings.redis_ssl else "REDIS_CA_FILE" if files.ca else ""
        if on or any(files):
            raise ConfigurationError(
                f"{on or 'REDIS_CERT_FILE'} is set, and Redis is not reached over TLS; "
                "write rediss:// in REDIS_URL, or set REDIS_HOST and REDIS_SSL=true"
            )
    _check_files(files)
    if settings.redis_cluster:
        if parts.scheme == "unix":
            raise ConfigurationError(
                "REDIS_CLUSTER needs REDIS_HOST or a REDIS_URL that names a node's host"
            )
        if parts.path not in ("", "/", "/0"):
            raise ConfigurationError(
                f"REDIS_URL: a cluster has no databases but 0, and this names {parts.path[1:]}"
            )
    elif "," in parts.netloc.rpartition("@")[2]:
        raise ConfigurationError(
            f"{named} names several nodes; that is for a cluster: set REDIS_CLUSTER=true"
        )
    try:
        return connect(url, timeout, cluster=settings.redis_cluster, tls=files)
    except ValueError as error:
        raise ConfigurationError(f"{named}: {error}") from error


def addresses(parts: SplitResult) -> list[Address]:
    """The nodes that a URL names; `ValueError` for a port that is none."""
    found = []
    for node in parts.netloc.rpartition("@")[2].split(","):
        one = urlsplit(f"//{node.strip()}")
        found.append((one.hostname or "localhost", one.port or _PORT))
    return found


def _at(parts: SplitResult, host: str, port: int) -> str:
    """The same URL for another node."""
    login, at, _ = parts.netloc.rpartition("@")
    name = f"[{host}]" if ":" in host else host
    return urlunsplit(parts._replace(netloc=f"{login}{at}{name}:{port}"))


def _check_files(files: TLSFiles) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if files.ca:
        try:
            context.load_verify_locations(files.ca)
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"REDIS_CA_FILE: {files.ca} holds no certificate: {_said(error)}"
            ) from error
    if files.key and not files.certificate:
        raise ConfigurationError("REDIS_KEY_FILE is set without REDIS_CERT_FILE")
    if files.certificate:
        for path in (files.certificate, files.key or files.certificate):
            if not Path(path).is_file():
                raise ConfigurationError(f"REDIS_CERT_FILE, REDIS_KEY_FILE: there is no {path}")
        try:
            context.load_cert_chain(files.certificate, files.key or None, password="")
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                "REDIS_CERT_FILE and REDIS_KEY_FILE are no certificate and its key, in PEM and "
                f"without a passphrase: {_said(error)}"
            ) from error


def _said(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


class _Sends(Protocol):
    async def execute_command(self, *args: Any) -> Any: ...


async def ask(redis: _Sends, *command: str | bytes | int) -> Any:
    """Send one command; its answer in bytes, where redis-py's methods say text or bytes."""
    async with store_errors():
        return await redis.execute_command(*command)


@asynccontextmanager
async def store_errors() -> AsyncIterator[None]:
    """Map a store that is down, loading, full or read-only to `Unavailable`."""
    try:
        yield
    except AuthenticationError as error:
        raise Unavailable(f"the store refuses us: {error}; check REDIS_PASSWORD") from error
    except (BusyLoadingError, OutOfMemoryError, ReadOnlyError) as error:
        raise Unavailable("the store takes no writes at present; try again") from error
    except (RedisConnectionError, RedisTimeoutError, OSError) as error:
        raise Unavailable("the store does not answer; try again") from error
    except (ClusterDownError, ClusterError, TryAgainError) as error:
        raise Unavailable("a part of the store is down or on the move; try again") from error
    except AskError as error:
        raise Unavailable("the store is one node of a cluster; set REDIS_CLUSTER=true") from error
    except ResponseError as error:
        if str(error).startswith(("MISCONF", "NOREPLICAS", "UNBLOCKED")):
            raise Unavailable("the store takes no writes at present; try again") from error
        raise
