"""What is served before the framework, message by message, as the framework would do it."""

from collections.abc import Callable

import pytest
from starlette.types import ASGIApp, Message
from structlog.testing import capture_logs

from service.app import create_api, create_app
from service.domain.tenants import Role
from service.wiring import Wiring
from tests.support.whole import key_of

PATH = "/analytics/metrics"
BODY = b'[{"name":"plays","value":1},{"name":"skips","value":2}]'

makers = pytest.mark.parametrize("make", [create_app, create_api])


async def post(
    app: ASGIApp, headers: list[tuple[bytes, bytes]], messages: list[Message]
) -> list[Message]:
    """What is answered to a request of these messages."""
    left = iter(messages)
    answered: list[Message] = []

    async def receive() -> Message:
        return next(left)

    async def send(message: Message) -> None:
        answered.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": PATH,
        "query_string": b"",
        "headers": headers,
        "http_version": "1.1",
        "scheme": "http",
    }
    await app(scope, receive, send)
    return answered


@makers
async def test_a_body_may_come_in_pieces_and_the_first_header_of_a_name_counts(
    parts: Wiring, make: Callable[[Wiring], ASGIApp]
) -> None:
    key = (await key_of(parts, "acme", Role.WRITER)).encode()
    other = (await key_of(parts, "other", Role.READER)).encode()
    pieces: list[Message] = [
        {"type": "http.request", "body": BODY[:9], "more_body": True},
        {"type": "http.request", "more_body": True},
        {"type": "http.request", "body": BODY[9:]},
    ]
    headers = [(b"x-api-key", key), (b"x-api-key", other), (b"x-request-id", b"one")]
    start, body = await post(make(parts), [*headers, (b"x-request-id", b"two")], pieces)
    assert (start["status"], body["body"]) == (200, b'{"accepted":2}')
    assert dict(start["headers"])[b"x-request-id"] == b"one"


@makers
async def test_who_hangs_up_in_the_middle_of_a_body_is_no_error(
    parts: Wiring, make: Callable[[Wiring], ASGIApp]
) -> None:
    key = (await key_of(parts, "acme", Role.WRITER)).encode()
    pieces: list[Message] = [
        {"type": "http.request", "body": BODY[:9], "more_body": True},
        {"type": "http.disconnect"},
    ]
    with capture_logs() as logs:
        assert await post(make(parts), [(b"x-api-key", key)], pieces) == []
    assert [line for line in logs if line["log_level"] == "error"] == []
