"""Whether Redis can be reached, looked at once at start: what is wrong, where, what to set."""

import ssl
from collections.abc import Iterator
from typing import Protocol

from redis.asyncio import Redis
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    InvalidResponse,
    NoPermissionError,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.domain.errors import ConfigurationError, OffbeatError, Unavailable
from service.settings import Settings
from service.storage.cluster import ClusterRedis
from service.storage.redis import ask

# https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/
_EXPIRED = 10
_OTHER_NAME = (62, 64)
_NOT_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_EOF", "PACKET_LENGTH")


class _Asked(Protocol):
    async def execute_command(self, *args: str) -> object: ...


async def reach(redis: Redis, settings: Settings) -> None:
    """Ask every node whether it is there.

    `ConfigurationError` if the settings cannot be right, `Unavailable` if it may only be down.
    """
    if not isinstance(redis, ClusterRedis):
        await _greet(redis, settings)
        if await _is_of_a_cluster(redis):
            raise ConfigurationError(
                f"{_where(redis)} is a node of a cluster; set REDIS_CLUSTER=true"
            )
        return
    seeds = redis.seeds()
    failed: OffbeatError | None = None
    for seed in seeds:
        try:
            await _greet(seed, settings)
            break
        except OffbeatError as error:
            failed = failed or error
    else:
        if failed is not None:
            raise failed
    if not await _is_of_a_cluster(seed):
        raise ConfigurationError(f"{_where(seed)} is no cluster; unset REDIS_CLUSTER")
    await ask(redis, "PING")
    for node in await redis.nodes():
        try:
            await _greet(node, settings)
        except Unavailable:
            continue  # the others serve their shards


async def _greet(redis: Redis, settings: Settings) -> None:
    node: _Asked = redis
    try:
        await node.execute_command("PING")
    except (RedisError, OSError) as error:
        raise _explained(error, _where(redis), settings) from error


async def _is_of_a_cluster(redis: Redis) -> bool:
    node: _Asked = redis
    try:
        facts = await node.execute_command("INFO", "cluster")
    except ResponseError:  # not allowed to ask
        return isinstance(redis, ClusterRedis)
    return isinstance(facts, dict) and facts.get("cluster_enabled") == 1


def _where(redis: Redis) -> str:
    place = redis.connection_pool.connection_kwargs
    if "path" in place:
        return f"Redis at {place['path']}"
    return f"Redis at {place.get('host', 'localhost')}:{place.get('port', 6379)}"


def _explained(error: Exception, where: str, settings: Settings) -> OffbeatError:
    by_url = bool(settings.redis_url)
    address = "REDIS_URL" if by_url else "REDIS_HOST"
    password = "the password in REDIS_URL" if by_url else "REDIS_PASSWORD"
    tls = settings.resolved_redis_url.startswith("rediss:")
    no_tls = "write redis:// in REDIS_URL" if by_url else "unset REDIS_SSL"
    with_tls = "write rediss:// in REDIS_URL" if by_url else "set REDIS_SSL=true"
    for cause in _causes(error):
        if isinstance(cause, AuthenticationError | AuthorizationError):
            return ConfigurationError(f"{where} refuses us: {cause}; check {password}")
        if isinstance(cause, NoPermissionError):
            return ConfigurationError(f"{where} refuses us: {cause}; check what the user may do")
        if isinstance(cause, ssl.SSLCertVerificationError):
            return ConfigurationError(_certificate(cause, where, address))
        if isinstance(cause, ssl.SSLError):
            reason = cause.reason or str(cause)
            if any(word in reason for word in _NOT_TLS):
                return ConfigurationError(f"{where} does not speak TLS; {no_tls}")
            if "VERSION" in reason or "PROTOCOL" in reason:
                return ConfigurationError(f"{where} speaks no TLS of 1.2 or later ({reason})")
            return ConfigurationError(
                f"{where} refuses our TLS ({reason}); if it wants a certificate of ours, "
                "set REDIS_CERT_FILE and REDIS_KEY_FILE"
            )
    shaken = "connecting" not in str(error)  # what came before was in order
    closed = isinstance(error, InvalidResponse) or "closed" in str(error) or "reset" in str(error)
    if closed and shaken:
        hint = (
            "wants a certificate of ours, set REDIS_CERT_FILE and REDIS_KEY_FILE"
            if tls
            else f"expects TLS, {with_tls}"
        )
        return ConfigurationError(f"{where} hangs up on us ({error}); if it {hint}")
    silent = isinstance(error, RedisTimeoutError) or not shaken
    hint = f"; if it does not speak TLS, {no_tls}" if tls and silent else ""
    return Unavailable(f"{where} does not answer: {error}; check {address}{hint}")


def _certificate(error: ssl.SSLCertVerificationError, where: str, address: str) -> str:
    said = error.verify_message
    if error.verify_code in _OTHER_NAME:
        return f"{where} shows a certificate for another host: {said}; check {address}"
    if error.verify_code == _EXPIRED:
        return f"{where} shows a certificate that has expired; renew it there"
    return (
        f"{where} shows a certificate that we do not trust: {said}; "
        "set REDIS_CA_FILE to the certificate of who signed it"
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
