"""Calls to addresses that users configure: they reach public addresses only.

The check happens where the connection is made: the client resolves the name itself, judges every
address it got, and connects to exactly the one it judged, so that a name that changes its mind
between check and connect gains nothing. TLS still verifies the name. Redirects are not followed,
the environment's proxies are not used.
"""

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import cache
from typing import Any

import certifi
import httpcore
import httpx

from service.domain.errors import InvalidInput

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

#: An answer is read up to here; what a receiver says beyond it helps nobody.
ANSWER_MAX_BYTES = 64 << 10

#: The roots of what httpcore raises.
_HTTPCORE_ERRORS = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
    httpcore.ConnectionNotAvailable,
)
_HOST = re.compile(rb"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?")
_SCHEMES = ("https", "http")
_URL_MAX = 2048

# What a private network is; everything else that is not public is refused in any case.
_PRIVATE = [
    ipaddress.ip_network(net)
    for net in (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "::1/128",
        "fc00::/7",
    )
]
_NOT_PUBLIC_V4 = [
    ipaddress.ip_network(net)
    for net in (
        "0.0.0.0/8",
        "169.254.0.0/16",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # the relay of 6to4
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
    )
]
# Of IPv6 only this is public; mapped, NAT64, link-local, unique local and the rest lie outside.
_PUBLIC_V6 = ipaddress.ip_network("2000::/3")
_NOT_PUBLIC_V6 = [
    ipaddress.ip_network(net)
    for net in (
        "2001::/23",  # Teredo and other assignments of the IETF
        "2001:db8::/32",
        "2002::/16",  # 6to4 carries an IPv4 address
        "3fff::/20",
    )
]
#: Answer with credentials to whoever asks from inside, some of them on addresses that look public.
_METADATA = {
    ipaddress.ip_address(text)
    for text in ("169.254.169.254", "168.63.129.16", "100.100.100.200", "fd00:ec2::254")
}
_INSIDE = (".localhost", ".local", ".internal", ".intranet", ".lan", ".home.arpa")


class Refused(httpx.TransportError):
    """The receiver's address is one that this client must not reach."""


def refusal(address: Address, *, allow_private: bool) -> str | None:
    """Why `address` must not be reached, None if it may."""
    if address in _METADATA:
        return "a cloud provider's metadata service"
    inside = any(address in net for net in _PRIVATE)
    if inside and allow_private:
        return None
    if inside:
        return "a loopback address" if address.is_loopback else "a private address"
    if isinstance(address, ipaddress.IPv4Address):
        public = not any(address in net for net in _NOT_PUBLIC_V4)
    else:
        public = address in _PUBLIC_V6 and not any(address in net for net in _NOT_PUBLIC_V6)
    return None if public else "not a public address"


def check_url(url: str, *, allow_private: bool = False, where: str = "url") -> None:
    """Refuse early, at configuration time, what the client would refuse when it sends.

    Names are not resolved here: that answer may differ by the time of sending. Raises
    `InvalidInput` with a sentence for the person who typed the URL.
    """
    if len(url) > _URL_MAX:
        raise InvalidInput(f"the URL is longer than {_URL_MAX} characters", where=where)
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError, UnicodeError) as error:
        raise InvalidInput(f"this is not a URL: {error}", where=where) from error
    reason = _wrong(parsed)
    if reason is None and not allow_private:
        reason = _leads_inside(parsed.host)
    elif reason is None and (address := _literal(parsed.host)) is not None:
        why = refusal(address, allow_private=True)
        reason = f"{parsed.host} is {why}" if why else None
    if reason is not None:
        raise InvalidInput(reason, where=where)


def client(
    allow_private: bool,
    *,
    connect_timeout: float = 3.0,
    total: float = 15.0,
    resolve: Resolve | None = None,
) -> httpx.AsyncClient:
    """A client for addresses that users configure. Timeouts in seconds; `total` bounds a call.

    `allow_private` lets it reach loopback and private addresses, never metadata services,
    link-local or multicast ones. A refused address raises `Refused`, all else is httpx's own.
    """
    transport = _Transport(_Backend(allow_private, resolve or _resolve))
    return _Client(
        total,
        transport=transport,
        trust_env=False,
        follow_redirects=False,
        timeout=httpx.Timeout(total, connect=connect_timeout),
        headers={"Accept-Encoding": "identity"},
    )


class _Client(httpx.AsyncClient):
    """httpx's timeouts are per read; a receiver that drips would hold a call for ever."""

    def __init__(self, total: float, **options: Any) -> None:
        super().__init__(**options)
        self._total = total

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        try:
            async with asyncio.timeout(self._total):
                return await super().send(request, **options)
        except TimeoutError as error:
            raise httpx.ReadTimeout(
                f"no complete answer within {self._total:g} s", request=request
            ) from error


class _Backend(httpcore.AsyncNetworkBackend):
    """Resolves, judges, and connects to what it judged."""

    def __init__(self, allow_private: bool, resolve: Resolve) -> None:
        self._allow_private = allow_private
        self._resolve = resolve
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (the signature is httpcore's)
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._judged(host, port)
                return await self._first(addresses, port, timeout, local_address, socket_options)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"{host} did not answer within {timeout:g} s") from error

    async def _judged(self, host: str, port: int) -> list[str]:
        try:
            found = await self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"the name {host!r} does not resolve: {error}") from error
        for text in found:
            # One bad address among good ones is a trick or a mistake; neither deserves a call.
            why = refusal(ipaddress.ip_address(text), allow_private=self._allow_private)
            if why:
                raise Refused(f"{host} resolves to {text}, {why}; it is not called")
        if not found:
            raise httpcore.ConnectError(f"the name {host!r} has no address")
        return list(dict.fromkeys(found))

    async def _first(
        self,
        addresses: list[str],
        port: int,
        timeout: float | None,  # noqa: ASYNC109 (as above)
        local_address: str | None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None,
    ) -> httpcore.AsyncNetworkStream:
        share = timeout / len(addresses) if timeout else None
        failure: Exception | None = None
        for address in addresses:
            try:
                return await self._network.connect_tcp(
                    address, port, share, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        assert failure is not None  # noqa: S101 (there is at least one address)
        raise failure

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 (as above)
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise Refused("unix sockets are not called")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Transport(httpx.AsyncBaseTransport):
    """Our own, not httpx's with its pool exchanged: if httpx changes inside, this still checks."""

    def __init__(self, backend: httpcore.AsyncNetworkBackend) -> None:
        # No limit here: a shared limit would let one dead receiver make others wait. Whoever
        # sends bounds what is in flight.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=_tls(),
            max_connections=None,
            max_keepalive_connections=20,
            keepalive_expiry=30.0,
            network_backend=backend,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        reason = _wrong(request.url)
        if reason:
            raise Refused(reason, request=request)
        assert isinstance(request.stream, httpx.AsyncByteStream)  # noqa: S101 (an async client's)
        sent = httpcore.Request(
            method=request.method,
            url=httpcore.URL(
                scheme=request.url.raw_scheme,
                host=request.url.raw_host,
                port=request.url.port,
                target=request.url.raw_path,
            ),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        try:
            answer = await self._pool.handle_async_request(sent)
        except _HTTPCORE_ERRORS as error:
            raise _translated(error, request) from error
        # Without the encoding nobody inflates what a receiver sends unasked.
        headers = [(k, v) for k, v in answer.headers if k.lower() != b"content-encoding"]
        return httpx.Response(
            answer.status, headers=headers, stream=_Answer(answer, request), request=request
        )

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Answer(httpx.AsyncByteStream):
    """The body of an answer, cut at `ANSWER_MAX_BYTES`."""

    def __init__(self, answer: httpcore.Response, request: httpx.Request) -> None:
        self._answer, self._request = answer, request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = ANSWER_MAX_BYTES
        try:
            async for part in self._answer.aiter_stream():
                yield part[:left]
                left -= len(part)
                if left <= 0:
                    return
        except _HTTPCORE_ERRORS as error:
            raise _translated(error, self._request) from error

    async def aclose(self) -> None:
        await self._answer.aclose()


def _translated(error: Exception, request: httpx.Request) -> httpx.TransportError:
    kind = getattr(httpx, type(error).__name__, httpx.TransportError)
    found: httpx.TransportError = kind(str(error) or type(error).__name__, request=request)
    return found


@cache
def _tls() -> ssl.SSLContext:
    """Shared, for loading the authorities takes a while. 1.2 is the floor, 1.3 is preferred."""
    context = ssl.create_default_context(cafile=certifi.where())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


async def _resolve(host: str, port: int) -> list[str]:
    """Every address of a name, as the system resolves it (which reads 0x7f.1 as 127.0.0.1)."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(item[4][0]).partition("%")[0] for item in found]


def _wrong(url: httpx.URL) -> str | None:
    """What is wrong with the URL itself, whatever its host resolves to."""
    if url.scheme not in _SCHEMES:
        return "a URL starts with https:// or http://"
    if not url.host:
        return "the URL names no host"
    if _literal(url.host) is None and not _HOST.fullmatch(url.raw_host):
        return f"{url.host!r} is not the name of a host"
    if url.port is not None and not 0 < url.port < 65536:
        return f"the port is between 1 and 65535, not {url.port}"
    if url.userinfo:
        return "the URL contains a user name or password; leave them out"
    return None


def _literal(host: str) -> Address | None:
    """The address that `host` spells in any of the forms a resolver takes, None for a name."""
    host = host.rstrip(".")
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:  # 2130706433, 0x7f.1, 0177.0.0.1
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None


def _leads_inside(host: str) -> str | None:
    address = _literal(host)
    if address is not None:
        why = refusal(address, allow_private=False)
        return f"{host} is {why}; only public addresses are called" if why else None
    name = host.rstrip(".").lower()
    if "." not in name or name.endswith(_INSIDE):
        return f"{host!r} is a name of a private network; only public addresses are called"
    return None
