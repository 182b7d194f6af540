"""Sessions and login tickets on a clock moved by hand."""

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jwt.warnings import InsecureKeyLengthWarning
from redis.asyncio import Redis

from service.domain.clock import ManualClock
from service.domain.errors import Unauthenticated
from service.domain.tenants import Principal, Role
from service.security.crypto import derive
from service.security.sessions import TICKET_SECONDS, Sessions
from service.storage.redis import connect

ANN = Principal("abcd1234", "ann", Role.RESPONDER, "acme")
KEY = b"k" * 32


@pytest.fixture
def sessions(clock: ManualClock, redis: Redis) -> Sessions:
    return Sessions(KEY, clock, redis)


async def test_a_session_ends_by_our_clock(sessions: Sessions, clock: ManualClock) -> None:
    token = sessions.issue(ANN, 60)
    assert sessions.verify(token) == ANN
    await clock.advance(59.9)
    assert sessions.verify(token) == ANN
    await clock.advance(0.1)
    with pytest.raises(Unauthenticated, match="expired"):
        sessions.verify(token)


@pytest.mark.parametrize("year", [1971, 2090])
def test_a_session_of_any_time_is_judged_by_our_clock_alone(redis: Redis, year: int) -> None:
    clock = ManualClock((year - 1970) * 31_556_952.0)
    sessions = Sessions(KEY, clock, redis)
    assert sessions.verify(sessions.issue(ANN, 60)) == ANN


async def test_a_ticket_logs_in_once_on_any_replica(
    sessions: Sessions, clock: ManualClock, redis: Redis
) -> None:
    ticket = sessions.issue_ticket(ANN)
    assert await Sessions(KEY, clock, redis).redeem(ticket) == ANN
    with pytest.raises(Unauthenticated, match="used already"):
        await sessions.redeem(ticket)


async def test_a_ticket_expires(sessions: Sessions, clock: ManualClock, redis: Redis) -> None:
    late, in_time = sessions.issue_ticket(ANN), sessions.issue_ticket(ANN)
    await clock.advance(TICKET_SECONDS - 1)
    assert await sessions.redeem(in_time) == ANN
    await clock.advance(1)
    with pytest.raises(Unauthenticated, match="expired"):
        await sessions.redeem(late)
    ttl = await redis.ttl((await redis.keys("offbeat:ticket:*"))[0])
    assert ttl > TICKET_SECONDS


async def test_a_ticket_is_no_session_and_a_session_no_ticket(sessions: Sessions) -> None:
    with pytest.raises(Unauthenticated):
        sessions.verify(sessions.issue_ticket(ANN))
    with pytest.raises(Unauthenticated):
        await sessions.redeem(sessions.issue(ANN, 60))


def test_an_admin_without_a_tenant_comes_back_so(sessions: Sessions) -> None:
    admin = Principal("abcd1234", "root", Role.ADMIN, None)
    assert sessions.verify(sessions.issue(admin, 60)) == admin


def _claims(clock: ManualClock) -> dict[str, object]:
    return {
        "aud": "offbeat-session",
        "exp": clock.now() + 60,
        "jti": "x",
        "sub": "abcd1234",
        "name": "ann",
        "role": "admin",
        "tenant": None,
    }


def test_forged_tokens_are_refused(sessions: Sessions, clock: ManualClock) -> None:
    claims = _claims(clock)
    with pytest.warns(InsecureKeyLengthWarning):
        other_algorithm = jwt.encode(claims, derive(KEY, "sessions"), algorithm="HS512")
    forged = [
        other_algorithm,
        jwt.encode(claims, "z" * 32, algorithm="HS256"),
        jwt.encode(claims, KEY, algorithm="HS256"),  # the service's secret, not the derived key
        jwt.encode(claims, None, algorithm="none"),
        jwt.encode({**claims, "aud": "x"}, derive(KEY, "sessions"), algorithm="HS256"),
        jwt.encode(
            {k: v for k, v in claims.items() if k != "exp"}, derive(KEY, "sessions"), "HS256"
        ),
    ]
    for token in forged:
        with pytest.raises(Unauthenticated):
            sessions.verify(token)
    assert sessions.verify(jwt.encode(claims, derive(KEY, "sessions"), "HS256")).role == "admin"


@given(text=st.text(max_size=200))
def test_any_text_is_refused(text: str) -> None:
    sessions = Sessions(KEY, ManualClock(), connect("redis://127.0.0.1:1"))
    with pytest.raises(Unauthenticated):
        sessions.verify(text)
