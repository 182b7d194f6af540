"""Whatever a user types as a URL: nothing on loopback or a private network is ever connected to."""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import httpx
import pytest

from service.domain.errors import InvalidInput
from service.security.outgoing import ANSWER_MAX_BYTES, Refused, check_url, client, refusal
from tests.support.receivers import http_receiver

REFUSED_ADDRESSES = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.1.2.3",
    "169.254.169.254",
    "169.254.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "168.63.129.16",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:8.8.8.8",
    "::ffff:0:127.0.0.1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::7f00:1",
    "100::1",
    "2001::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:808:808::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fd12:3456::1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]

PUBLIC_ADDRESSES = [
    "8.8.8.8",
    "1.1.1.1",
    "172.32.0.1",
    "100.128.0.1",
    "2606:4700::1111",
    "2a00:1450::1",
]

# Each of these means loopback to some resolver, parser or library.
LOOPBACK_HOSTS = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "127.127.127.127",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0x7f.1",
    "0x7F.0x0.0x0.0x1",
    "0177.0.0.1",
    "0177.0.0.01",
    "017700000001",
    "00000177.0.0.1",
    "127.0.0.1.",
    "0",
    "0.0.0.0",
    "0x0",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[0000::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::ffff:0:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "[fe80::1%25lo]",
    "①②⑦.⓪.⓪.①",
    "１２７.０.０.１",
    "127。0。0。1",
    "127%2e0%2e0%2e1",
    "ⓛocalhost",
]


@dataclass
class Sink:
    """Counts connections on every local address."""

    port: int = 0
    connects: int = 0

    def took(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connects += 1
        writer.close()


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    found = Sink()
    server = await asyncio.start_server(found.took, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    servers = [server]
    for host in ("::1", "127.127.127.127"):
        try:
            servers.append(await asyncio.start_server(found.took, host, found.port))
        except OSError:
            continue  # a machine without that address
    yield found
    for each in servers:
        each.close()
        await each.wait_closed()


@pytest.mark.parametrize("text", REFUSED_ADDRESSES)
def test_addresses_that_are_not_public_are_refused(text: str) -> None:
    assert refusal(ipaddress.ip_address(text), allow_private=False)


@pytest.mark.parametrize("text", PUBLIC_ADDRESSES)
def test_public_addresses_are_not_refused(text: str) -> None:
    assert refusal(ipaddress.ip_address(text), allow_private=False) is None


@pytest.mark.parametrize("text", ["127.0.0.1", "10.1.2.3", "192.168.1.1", "::1", "fd12::1"])
def test_operators_may_reach_their_own_networks(text: str) -> None:
    assert refusal(ipaddress.ip_address(text), allow_private=True) is None


@pytest.mark.parametrize(
    "text", ["169.254.169.254", "fd00:ec2::254", "100.100.100.200", "0.0.0.0", "ff02::1", "fe80::1"]
)
def test_metadata_and_worse_are_refused_even_to_operators(text: str) -> None:
    assert refusal(ipaddress.ip_address(text), allow_private=True)


@pytest.mark.parametrize("host", LOOPBACK_HOSTS)
async def test_no_spelling_of_loopback_is_connected_to(sink: Sink, host: str) -> None:
    async with client(False, total=5.0) as http:
        # The URL is refused, or its address is, or it does not resolve: all end before a connect.
        with pytest.raises((httpx.HTTPError, httpx.InvalidURL)):
            await http.post(f"http://{host}:{sink.port}/", content=b"x")
    assert sink.connects == 0


@pytest.mark.parametrize("host", LOOPBACK_HOSTS)
def test_no_spelling_of_loopback_can_be_configured(host: str) -> None:
    with pytest.raises(InvalidInput):
        check_url(f"https://{host}/hook")


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["::1"],
        ["8.8.8.8", "127.0.0.1"],
        ["127.0.0.1", "8.8.8.8"],
        ["10.0.0.7"],
        ["169.254.169.254"],
        ["::ffff:127.0.0.1"],
    ],
)
async def test_a_name_that_resolves_inside_is_not_connected_to(
    sink: Sink, addresses: list[str]
) -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        assert host == "innocent.example.com"
        return addresses

    async with client(False, resolve=resolve) as http:
        with pytest.raises(Refused, match="innocent"):
            await http.get(f"http://innocent.example.com:{sink.port}/")
    assert sink.connects == 0


async def test_the_address_that_was_judged_is_the_one_connected_to(sink: Sink) -> None:
    answers = iter([["127.0.0.1"], ["127.0.0.1"]])

    async def resolve(host: str, port: int) -> Sequence[str]:
        return next(answers)

    # No second look-up: were the name resolved again by a library, it would not exist.
    async with client(True, resolve=resolve) as http:
        with pytest.raises(httpx.RemoteProtocolError):
            await http.get(f"http://rebinding.invalid:{sink.port}/")
    assert sink.connects == 1
    assert len(list(answers)) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(sink: Sink, status: int) -> None:
    async with http_receiver() as receiver, client(True) as http:
        receiver.answer(status, headers={"Location": f"http://127.0.0.1:{sink.port}/"})
        assert (await http.post(receiver.url, content=b"x")).status_code == status
    assert sink.connects == 0


async def test_proxies_of_the_environment_are_not_used(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{sink.port}")
    async with http_receiver() as receiver, client(True) as http:
        assert (await http.get(receiver.url)).status_code == 200
    assert sink.connects == 0


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "https://",
        "https:///path",
        "example.com/hook",
        "//example.com",
        "https://user@example.com/",
        "https://user:pass@example.com/",
        "https://example.com@127.0.0.1/",
        "https://localhost/",
        "https://db.internal/",
        "https://intranet/",
        "https://printer.local/",
        "https://metadata.google.internal/",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://ex ample.com/",
        "https://example.com:99999/",
        "https://" + "a" * 3000 + ".com/",
        "",
        "\x00",
        "https://[::1",
    ],
)
def test_bad_urls_are_refused_when_configured(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_url(url, where="webhook_url")
    assert caught.value.where == "webhook_url"
    assert len(str(caught.value)) > 20


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.slack.com/services/T01234567/B01234567/secret",
        "https://example.com:8443/hook?token=1",
        "http://example.com/",
        "https://münchen.example.com/",
        "https://8.8.8.8/",
    ],
)
def test_good_urls_can_be_configured(url: str) -> None:
    check_url(url)


def test_an_operator_may_configure_private_hosts_but_no_metadata() -> None:
    check_url("http://alerts.internal:9000/", allow_private=True)
    check_url("http://127.0.0.1:9000/", allow_private=True)
    with pytest.raises(InvalidInput, match="metadata"):
        check_url("http://169.254.169.254/", allow_private=True)


@pytest.mark.parametrize("url", ["https://user:pw@127.0.0.1/", "ftp://127.0.0.1/"])
async def test_the_client_refuses_what_configuration_would(url: str) -> None:
    async with client(True) as http:
        with pytest.raises((Refused, httpx.UnsupportedProtocol)):
            await http.get(url)


async def test_an_endless_answer_is_cut() -> None:
    async with http_receiver() as receiver, client(True) as http:
        receiver.script = [(200, {"Content-Encoding": "gzip"}, b"x" * (ANSWER_MAX_BYTES * 3))]
        answer = await http.get(receiver.url)
        assert len(answer.content) == ANSWER_MAX_BYTES
        # The connection with the unread rest is not used again.
        receiver.script = [(200, {}, b"fine")]
        assert (await http.get(receiver.url)).text == "fine"


async def test_nobody_listening_is_a_connect_error() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        async with client(True) as http:
            with pytest.raises(httpx.ConnectError):
                await http.get(f"http://127.0.0.1:{probe.getsockname()[1]}/")
