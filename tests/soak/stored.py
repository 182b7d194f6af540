"""What the store holds against what was sent and acknowledged."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from service.domain.series import DERIVED
from service.storage import keys
from service.storage.columns import POINT
from service.storage.redis import ask
from service.wiring import Wiring
from tests.soak.load import Book, Sender
from tests.soak.stamps import WIDTH


@dataclass
class Difference:
    """What is wrong, in words; empty if nothing is. The counts are of raw records."""

    wrong: list[str] = field(default_factory=list)
    records: int = 0
    repeated: int = 0

    def say(self, text: str) -> None:
        """Note one wrong thing; the first hundred are enough."""
        if len(self.wrong) < 100:
            self.wrong.append(text)


async def drained(parts: Wiring, seconds: float) -> None:
    """Return when every entry of every shard's log is applied."""
    deadline = time.monotonic() + seconds
    while waiting := await waiting_entries(parts):
        assert time.monotonic() < deadline, f"entries that wait, by shard: {waiting}"
        await asyncio.sleep(0.1)


async def waiting_entries(parts: Wiring) -> dict[int, str]:
    """The shards whose log is not applied to its end, with the last entry of the log."""
    found = {}
    for shard in range(parts.settings.log_shards):
        newest = await last_entry(parts, shard)
        if order(newest) > order(await parts.log.position(shard)):
            found[shard] = newest.decode()
    return found


async def last_entry(parts: Wiring, shard: int) -> bytes:
    """The id of the newest entry of a shard's log."""
    newest = await ask(parts.redis, "XREVRANGE", keys.log(shard), "+", "-", "COUNT", 1)
    entry: bytes = newest[0][0] if newest else b"0-0"
    return entry


def order(entry: bytes) -> tuple[int, int]:
    """An entry's id, to compare."""
    a, _, b = entry.partition(b"-")
    return int(a), int(b)


async def difference(parts: Wiring, senders: Sequence[Sender], book: Book) -> Difference:
    """Compare every series of every sender; nothing else may be stored."""
    found = Difference()
    expected: set[bytes] = set()
    own: set[bytes] = set()
    for sender in senders:
        requests = book.requests[sender.stamps.sender]
        count = requests[-1].last if requests else 0
        attempts = np.zeros(count, np.int64)
        acknowledged = np.zeros(count, bool)
        for request in requests:
            attempts[request.first : request.last] = request.attempts
            acknowledged[request.first : request.last] = request.acknowledged
        kept = np.zeros(count, np.int64)
        for n in range(min(WIDTH, count)):
            series = sender.stamps.series(n)
            i, t, v = sender.stamps.of_series(n, count)
            names, raw = await _raw(parts, sender.tenant, series.id, int(t[0]), int(t[-1]))
            expected |= names
            own |= {series.derived(suffix).hex.encode() for suffix in DERIVED}
            kept[i] += _times_kept(raw, t, v, f"{sender.tenant} {series}", found)
            read = (await parts.chunks.read(sender.tenant, [series.id], t[0], t[-1]))[series.id]
            _check_read(read.t, read.v, t, v, kept[i], f"{sender.tenant} {series}", found)
        _check_kept(kept, attempts, acknowledged, f"sender {sender.stamps.sender}", found)
        for request in requests:
            part = kept[request.first : request.last] > 0
            if part.any() != part.all():
                found.say(f"sender {sender.stamps.sender}: half of {request} is kept")
        found.records += int(kept.sum())
        found.repeated += int(np.maximum(kept - 1, 0).sum())
    async for name in parts.redis.scan_iter(match="*:chunk:*", count=1000):
        # what the service says of the series is its own
        if name not in expected and name.split(b":")[3] not in own:
            found.say(f"{name!r} was never sent")
    return found


async def _raw(
    parts: Wiring, tenant: str, series: int, first_ms: int, last_ms: int
) -> tuple[set[bytes], np.ndarray]:
    """The chunks of a series, and their records as they lie there: fresh ones are not sealed."""
    shard = keys.shard_of(tenant, parts.settings.log_shards)
    buckets = range(first_ms // parts.bucket_ms, last_ms // parts.bucket_ms + 1)
    names = [keys.chunk(shard, tenant, series, bucket).encode() for bucket in buckets]
    values: list[bytes | None] = await ask(parts.redis, "MGET", *names)
    return set(names), np.frombuffer(b"".join(v or b"" for v in values), POINT)


def _times_kept(
    raw: np.ndarray, t: np.ndarray, v: np.ndarray, name: str, found: Difference
) -> np.ndarray:
    """How often each sample stands there, (n,)."""
    place = np.searchsorted(t, raw["t"])
    inside = np.minimum(place, len(t) - 1)
    same = (t[inside] == raw["t"]) & (v[inside].view(np.int64) == raw["v"].view(np.int64))
    for row in np.flatnonzero(~same)[:10].tolist():
        found.say(f"{name}: {raw[row]} was never sent")
    return np.bincount(place[same], minlength=len(t))


def _check_read(
    t: np.ndarray,
    v: np.ndarray,
    sent_t: np.ndarray,
    sent_v: np.ndarray,
    kept: np.ndarray,
    name: str,
    found: Difference,
) -> None:
    """A reader gets what is kept, each sample once."""
    there = kept > 0
    if not (np.array_equal(t, sent_t[there]) and v.tobytes() == sent_v[there].tobytes()):
        found.say(f"{name}: readers get {len(t)} samples, {int(there.sum())} are kept")


def _check_kept(
    kept: np.ndarray, attempts: np.ndarray, acknowledged: np.ndarray, name: str, found: Difference
) -> None:
    for text, wrong in (
        ("acknowledged and not kept", acknowledged & (kept == 0)),
        ("kept more often than sent", kept > attempts),
    ):
        for first, last in _spans(wrong):
            found.say(f"{name}: samples {first} to {last} are {text}")


def _spans(wrong: np.ndarray) -> Iterator[tuple[int, int]]:
    rows = np.flatnonzero(wrong)
    if len(rows):
        cuts = np.flatnonzero(np.diff(rows) > 1)
        yield from zip(rows[np.r_[0, cuts + 1]], rows[np.r_[cuts, len(rows) - 1]], strict=True)
