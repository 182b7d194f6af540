"""Senders that try again until they are answered, and the book of what became of each request."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count, pairwise

import httpx

from service.settings import Settings
from service.storage import keys
from tests.soak.stamps import HEADERS, PATHS, PROTOCOLS, Stamps
from tests.support.served import Served

#: Samples of the largest request; half of all have fewer than ten.
LARGEST = 5000
#: An acknowledgement is 200 of JSON, 204 of the others; these say "not kept, try again".
_ACKNOWLEDGED, _AGAIN = (200, 204), (503,)
#: Longer than any answer may take; a request without one may have been kept or not.
_TIMEOUT_SECONDS = 30.0


@dataclass
class Sent:
    """One request: samples `first` to `last` of a sender."""

    first: int
    last: int
    attempts: int = 0
    acknowledged: bool = False


@dataclass
class Answered:
    """One attempt as the sender saw it; status 0 if the connection broke or never came to be."""

    sent: float
    seconds: float
    status: int
    samples: int
    retry_after: str = ""


@dataclass
class Book:
    """What was sent and answered. Times are `time.monotonic()`."""

    requests: dict[int, list[Sent]] = field(default_factory=dict)
    answers: list[Answered] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    settled: int = 0

    @property
    def samples(self) -> int:
        """Samples of all requests that were acknowledged."""
        return sum(r.last - r.first for of in self.requests.values() for r in of if r.acknowledged)

    def acknowledged_at(self) -> list[float]:
        """When each acknowledgement came, ascending."""
        return sorted(a.sent + a.seconds for a in self.answers if a.status in _ACKNOWLEDGED)

    def rates(self, start: float, end: float, window: float = 1.0) -> list[float]:
        """Acknowledged samples a second in each window of a span."""
        found = [0.0] * max(1, int((end - start) / window))
        for a in self.answers:
            place = int((a.sent + a.seconds - start) // window)
            if a.status in _ACKNOWLEDGED and 0 <= place < len(found):
                found[place] += a.samples / window
        return found


@dataclass(frozen=True)
class Sender:
    """Who sends what, as which tenant."""

    stamps: Stamps
    tenant: str
    key: str


def tenants_of_every_shard(shards: int) -> list[str]:
    """One tenant for each shard, so that all of them are used."""
    found: dict[int, str] = {}
    for n in count():
        found.setdefault(keys.shard_of(f"soak-{n}", shards), f"soak-{n}")
        if len(found) == shards:
            return [found[shard] for shard in range(shards)]
    raise AssertionError


def senders_of(served: Served, each: int, shards: int) -> list[Sender]:
    """Tenants with keys, made through the API; `each` senders a tenant, in every protocol."""
    start_ms = int(time.time() * 1000) - 1_200_000
    senders: list[Sender] = []
    headers = {"X-API-Key": served.admin_key}
    with httpx.Client(base_url=served.url, headers=headers, timeout=30) as http:
        for tenant in tenants_of_every_shard(shards):
            made = http.post("/tenants", json={"id": tenant, "name": tenant})
            assert made.status_code == 201, made.text
            body = {"role": "writer", "name": "soak"}
            key = http.post(f"/tenants/{tenant}/keys", json=body).json()["key"]
            for _ in range(each):
                number = len(senders)
                stamps = Stamps(number, PROTOCOLS[number % len(PROTOCOLS)], start_ms)
                senders.append(Sender(stamps, tenant, key))
    return senders


#: For what a service needs that is under such a load and killed all the time.
ENVIRONMENT = {
    "SAMPLES_PER_SECOND_MAX": "100000000",
    "REQUESTS_PER_SECOND_MAX": "1000000",
    "WORKER_LEASE_SECONDS": "2",
    "TRAINING_INTERVAL": "86400",
}


def settings_of(served: Served, redis_url: str = "", database_url: str = "") -> Settings:
    """To read the stores of a running service."""
    return Settings(data_dir=served.data_dir, redis_url=redis_url, database_url=database_url)


@asynccontextmanager
async def client_of(served: Served, sender: Sender) -> AsyncIterator[httpx.AsyncClient]:
    """A connection of the sender's own."""
    headers = {"X-API-Key": sender.key, **HEADERS[sender.stamps.protocol]}
    async with httpx.AsyncClient(
        base_url=served.url, headers=headers, timeout=_TIMEOUT_SECONDS, trust_env=False
    ) as http:
        yield http


async def attempt(http: httpx.AsyncClient, sender: Sender, sent: Sent, book: Book) -> bool:
    """Send a request once and write down what was answered; whether it was acknowledged."""
    body = sender.stamps.body(sent.first, sent.last)
    samples = sent.last - sent.first
    sent.attempts += 1
    begun = time.monotonic()
    book.in_flight += 1
    try:
        answer = await http.post(PATHS[sender.stamps.protocol], content=body)
    except httpx.HTTPError as error:
        book.refused[type(error).__name__] += 1
        book.answers.append(Answered(begun, time.monotonic() - begun, 0, samples))
        return False
    finally:
        book.in_flight -= 1
    status, retry_after = answer.status_code, answer.headers.get("retry-after", "")
    book.answers.append(Answered(begun, time.monotonic() - begun, status, samples, retry_after))
    if status in _ACKNOWLEDGED:
        if status == 200:
            assert answer.json() == {"accepted": samples}, answer.text
        sent.acknowledged = True
        return True
    assert status in _AGAIN, f"{status}: {answer.text}"
    book.refused[str(status)] += 1
    return False


async def send_all(
    served: Served,
    sender: Sender,
    total: int,
    book: Book,
    seed: int,
    may_go_on: Callable[[float], bool],
) -> None:
    """Send `total` samples in requests of any size; most are repeated until acknowledged.

    One in ten is given up when it fails, so that not everything sent is acknowledged.
    `may_go_on(part)` holds the sender back when it has sent that part of its samples.
    """
    dice = random.Random(seed)
    requests = book.requests.setdefault(sender.stamps.sender, [])
    first = 0
    async with client_of(served, sender) as http:
        while first < total:
            part = first / total
            await until(lambda part=part: may_go_on(part), 600)
            sent = Sent(first, min(total, first + round(LARGEST ** dice.random() ** 2)))
            requests.append(sent)
            first = sent.last
            patient = dice.random() < 0.9
            while True:
                if await attempt(http, sender, sent, book) or not patient:
                    break
                await asyncio.sleep(dice.uniform(0.02, 0.2))
            book.settled += sent.last - sent.first


async def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until it holds, at most so long; whether it does."""
    deadline = time.monotonic() + seconds
    while True:
        if condition():
            return True
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.002)


def longest_gap(times: Sequence[float]) -> float:
    """Seconds between the two neighbours that lie farthest apart."""
    return max((b - a for a, b in pairwise(times)), default=0.0)
