"""Large bodies of JSON: read at once as one by one, and known again when they name the same."""

import json
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from service.domain.clock import ManualClock
from service.domain.quotas import Quota
from service.ingest.answer import Answer
from service.ingest.decoded import Decoded
from service.ingest.intake import Intake, Limits
from service.ingest.json import decode
from service.ingest.repeats import Repeats
from service.storage.append import LogWriter
from service.storage.columns import Batch
from service.storage.deletion import Deletion
from service.storage.log import START, LogReader
from service.storage.registry import SeriesRegistry

NOW = 1_700_000_000.0
LIMITS = Limits(Quota(1e6, 1e6, 1000, 1000, 10, 10, 3600), 600)
#: Makes any body large enough to be read at once.
LARGE = b" " * 2000

values = st.floats(allow_nan=False, allow_infinity=False)
times = st.one_of(values, st.floats(1e9, 2e9), st.none(), st.just("2023-11-14T23:13:19Z"))
items = st.fixed_dictionaries(
    {"name": st.sampled_from(["plays", "skips", "no name", "\n"]), "value": st.one_of(values)},
    optional={
        "timestamp": times,
        "labels": st.dictionaries(st.sampled_from("ab"), st.text(max_size=3), max_size=2),
        "tenant_id": st.sampled_from(["acme", "acme", "other"]),
        "metric_type": st.just("counter"),
    },
)


def read(body: bytes) -> tuple[list[object], Answer]:
    """All that a decoder says of a body."""
    answer = Answer()
    found = decode(body, "acme", answer)
    rows = [
        (found.index[row], found.keys[row], str(found.series(row)), found.name(row))
        for row in range(len(found.keys))
    ]
    return [*rows, found.t_ms.tolist(), found.values.tolist()], answer


@given(st.lists(items, max_size=4), st.sampled_from([None, 1]))
def test_a_body_is_read_alike_at_once_and_one_by_one(
    body: list[dict[str, Any]], indent: int | None
) -> None:
    raw = json.dumps(body, indent=indent).encode()
    assert read(raw + LARGE) == read(raw)


def text_of(raw: bytes) -> tuple[bytes | None, int]:
    found = decode(raw + LARGE, "acme", Answer())
    return found.text, len(found.keys)


def test_texts_differ_where_keys_do() -> None:
    item = b'{"name":"%s","value":1,"timestamp":1,"labels":%s}'
    bodies = [
        [(b"a", b"{}")],
        [(b"b", b"{}")],
        [(b"a", b"{}"), (b"a", b"{}")],
        [(b"a", b'{"x":"1"}'), (b"b", b"{}")],
        [(b"b", b'{"x":"1"}'), (b"a", b"{}")],
        [(b'a\\",\\"b', b'{"x":"1"}'), (b"", b"{}")],
    ]
    texts = {text_of(b"[" + b",".join(item % pair for pair in body) + b"]") for body in bodies}
    assert len(texts) == len(bodies)
    assert all(text is not None for text, _ in texts)
    # Two lines in one value could be taken for two values.
    assert text_of(b"[" + item % (b"a", b'{"x":\n"1"}') + b"]")[0] is None


def test_the_least_used_are_forgotten() -> None:
    ids = np.arange(2)
    repeats = Repeats(bytes_max=3 * (300 + ids.nbytes))
    texts = [letter * 300 for letter in (b"a", b"b", b"c", b"d")]
    for text in texts[:3]:
        repeats.keep("acme", text, ids)
    assert repeats.find("acme", texts[0], 2) is ids
    repeats.keep("acme", texts[3], ids)
    repeats.keep("acme", texts[3], ids)
    repeats.keep("acme", b"x" * 2000, ids)
    known = [repeats.find("acme", text, 2) is not None for text in [*texts, b"x" * 2000]]
    assert known == [True, False, True, True, False]
    alike = b"a" * 100 + b"b" + b"a" * 199
    for owner, text, count in (("other", texts[0], 2), ("acme", texts[0], 1), ("acme", alike, 2)):
        assert repeats.find(owner, text, count) is None


class Sender:
    """Sends large bodies to an intake on a real store."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.registry = SeriesRegistry(redis, 1)
        self.intake = Intake(self.registry, LogWriter(redis, 1, 1000), ManualClock(NOW))
        self.at = NOW - 100

    async def send(self, *names: str) -> tuple[Decoded, Answer]:
        """One sample of each series, at a new time."""
        self.at += 1
        body = [{"name": name, "value": 1, "timestamp": self.at} for name in names]
        answer = Answer()
        decoded = decode(json.dumps(body).encode() + LARGE, "acme", answer)
        return decoded, await self.intake.record("acme", decoded, LIMITS, answer)

    async def kept(self) -> list[tuple[float, str]]:
        """Seconds after the first, and the series."""
        known = await self.registry.all("acme")
        found = await LogReader(self.redis).read(0, START, count=100, block_ms=None)
        whole = Batch.join([entry.batch for entry in found if entry.erased is None])
        first = (NOW - 99) * 1000
        times = ((whole.t - first) / 1000).tolist()
        return [(t, known[i].name) for t, i in zip(times, whole.id.tolist(), strict=True)]


async def test_what_is_known_again_is_kept_as_before(redis: Redis) -> None:
    sender = Sender(redis)
    for names in (["a", "b"], ["a", "b"], ["b", "a"], ["a", "b"], ["a", "c"]):
        _, answer = await sender.send(*names)
        assert (answer.accepted, answer.rejected) == (2, 0)
    order = "ababbaabac"
    assert await sender.kept() == [(at // 2, name) for at, name in enumerate(order)]


async def test_what_is_refused_is_refused_again(redis: Redis) -> None:
    sender = Sender(redis)
    for _ in range(2):
        _, answer = await sender.send("a", "no name")
        assert (answer.accepted, [item.name for item in answer.items]) == (1, ["no name"])
    assert [name for _, name in await sender.kept()] == ["a", "a"]


async def test_series_that_were_deleted_are_looked_up_anew(redis: Redis) -> None:
    sender = Sender(redis)
    await sender.send("a", "b")
    _, first = await sender.send("a", "b")
    assert first.accepted == 2
    series = next(s for s in (await sender.registry.all("acme")).values() if s.name == "a")
    assert await Deletion(redis, 1).series("acme", series)
    assert {s.name for s in (await sender.registry.all("acme")).values()} == {"b"}
    _, again = await sender.send("a", "b")
    assert again.accepted == 2
    assert {s.name for s in (await sender.registry.all("acme")).values()} == {"a", "b"}
