"""Bodies in, log entries out: every bad item is named and every good one kept."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from service.domain.clock import ManualClock
from service.domain.errors import InvalidInput
from service.domain.quotas import Quota
from service.domain.series import Series
from service.ingest.answer import Answer
from service.ingest.intake import Intake, Limits, SeriesWriter
from service.ingest.json import decode
from service.storage.append import LogWriter
from service.storage.columns import Batch, Columns
from service.storage.log import START, LogReader
from service.storage.registry import SeriesRegistry

NOW = 1_700_000_000.0
QUOTA = Quota(1e6, 1e6, 100, 1000, 10, 10, 3600)


class Recorder:
    """An intake on a real store, and what it wrote."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.registry = SeriesRegistry(redis, 1)
        log = LogWriter(redis, 1, 1000)
        self.intake = Intake(self.registry, log, ManualClock(NOW))
        self.writer = SeriesWriter(self.registry, log)

    async def send(self, body: Any, **limits: Any) -> Answer:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        quota = replace(QUOTA, **limits)
        answer = Answer()
        decoded = decode(raw, "acme", answer)
        return await self.intake.record("acme", decoded, Limits(quota, 600), answer)

    async def entries(self) -> list[Batch]:
        found = await LogReader(self.redis).read(0, START, count=1000, block_ms=10)
        return [e.batch for e in found]

    async def samples(self) -> list[tuple[str, int, float]]:
        known = await self.registry.all("acme")
        whole = Batch.join(await self.entries())
        return [
            (str(known[i]), t, v)
            for i, t, v in zip(whole.id.tolist(), whole.t.tolist(), whole.v.tolist(), strict=True)
        ]


@pytest.fixture
def recorder(redis: Redis) -> Recorder:
    return Recorder(redis)


async def test_one_metric(recorder: Recorder) -> None:
    answer = await recorder.send({"name": "plays", "value": 3})
    assert (answer.accepted, answer.rejected) == (1, 0)
    assert await recorder.samples() == [("plays", int(NOW * 1000), 3.0)]


async def test_a_batch_is_one_entry_of_the_log(recorder: Recorder) -> None:
    answer = await recorder.send(
        [
            {"name": "plays", "value": 1, "timestamp": NOW - 1.5, "labels": {"b": "2", "a": "1"}},
            {"name": "plays", "value": 2, "timestamp": "2023-11-14T23:13:19+01:00"},
            {"name": "plays", "value": 4, "timestamp": NOW, "labels": {"a": "1", "b": "2"}},
            {"name": "skips", "value": -0.5, "timestamp": NOW, "metric_type": "counter"},
        ]
    )
    assert answer.accepted == 4
    assert len(await recorder.entries()) == 1
    assert await recorder.samples() == [
        ('plays{a="1",b="2"}', int(NOW * 1000) - 1500, 1.0),
        ("plays", int(NOW * 1000) - 1000, 2.0),
        ('plays{a="1",b="2"}', int(NOW * 1000), 4.0),
        ("skips", int(NOW * 1000), -0.5),
    ]


GOOD = {"name": "plays", "value": 1}

BAD = [
    ({"value": 1}, "missing required field name"),
    ({"name": "plays"}, "missing required field value"),
    ({"name": "plays", "value": "3"}, "Expected float, got str, at $.value"),
    ({"name": "plays", "value": None}, "Expected float, got null, at $.value"),
    ({"name": "plays", "value": True}, "Expected float, got bool, at $.value"),
    ({"name": "", "value": 1}, "name is empty"),
    ({"name": "play rate", "value": 1}, "try 'play_rate'"),
    ({"name": "x" * 129, "value": 1}, "name has 129 characters; 128 are allowed"),
    ({"name": "plays:anomaly_score", "value": 1}, "what only models write"),
    (GOOD | {"timestamp": NOW - 3601}, "too old; the oldest taken is 2023-11-14T21:13:20Z"),
    (GOOD | {"timestamp": NOW + 601}, "in the future; the latest is 2023-11-14T22:23:20Z"),
    (GOOD | {"timestamp": NOW * 1000}, "are these milliseconds?"),
    (GOOD | {"timestamp": 1e300}, "is no time"),
    (GOOD | {"timestamp": "2023-11-14T22:13:20"}, "has no zone; add Z"),
    (GOOD | {"timestamp": "yesterday"}, "neither Unix seconds nor ISO 8601"),
    (GOOD | {"metric_type": "meter"}, "Invalid enum value 'meter', at $.metric_type"),
    (GOOD | {"labels": {"a": 1}}, "labels: Expected str, got int"),
    (GOOD | {"labels": [1]}, "labels: Expected object, got array"),
    (GOOD | {"labels": {"a-b": "1"}}, "label name 'a-b' may hold"),
    (GOOD | {"labels": {"__name__": "x"}}, "reserved"),
    (GOOD | {"labels": {"a": "x" * 1025}}, "label a has a value of over 1024 bytes"),
    (GOOD | {"labels": {"a": "\0"}}, "label a holds a NUL"),
    (GOOD | {"labels": {f"l{i}": "x" for i in range(31)}}, "31 labels; 30 are allowed"),
    (GOOD | {"tenant_id": "blue"}, "tenant_id is not the tenant of the key"),
    ("plays", "Expected object, got str"),
    (17, "Expected object, got int"),
]


@pytest.mark.parametrize(("item", "reason"), BAD)
async def test_a_bad_item_is_named_and_its_neighbours_are_kept(
    recorder: Recorder, item: object, reason: str
) -> None:
    answer = await recorder.send([GOOD, item, GOOD | {"name": "skips"}])
    assert answer.accepted == 2
    assert [i.index for i in answer.items] == [1]
    assert reason in answer.items[0].reason
    assert len(await recorder.samples()) == 2


@pytest.mark.parametrize(
    "raw",
    [
        b'[{"name":"plays","value":1},{"name":"x","value":1e400}]',
        b'[{"name":"plays","value":1},{"name":"x","value":NaN}]',
        b'[{"name":"plays","value":1},{"name":"\\ud800","value":1}]',
        b'[{"name":"plays","value":1},{"name":"x","value":1,"labels":' + b"[" * 5000 + b"]}]",
        b"[1,",
        b"",
        b"\xff\xfe",
        b"null",
        b'"x"',
        b"[" * 100_000,
        b'{"name":"plays","value":1}{"name":"plays","value":1}',
    ],
)
async def test_no_body_is_too_broken_for_a_reason(recorder: Recorder, raw: bytes) -> None:
    try:
        answer = await recorder.send(raw)
    except InvalidInput:
        assert await recorder.entries() == []
    else:
        assert answer.accepted == 1
        assert answer.rejected == 1
        assert answer.items[0].reason


async def test_over_its_series_a_tenant_keeps_the_old_ones(recorder: Recorder) -> None:
    await recorder.send([GOOD, GOOD | {"name": "skips"}], series=2)
    answer = await recorder.send([GOOD, GOOD | {"name": "new"}], series=2)
    assert answer.accepted == 1
    assert "the tenant has its 2 already" in answer.items[0].reason


async def test_over_its_new_series_a_minute_a_tenant_hears_when_to_try_again(
    recorder: Recorder,
) -> None:
    answer = await recorder.send([GOOD, GOOD | {"name": "new"}], new_series_per_minute=1)
    assert answer.accepted == 1
    reason = "a new series, over the tenant's 1 a minute; try again in 60 s"
    assert [item.reason for item in answer.items] == [reason]
    assert (await recorder.send(GOOD, new_series_per_minute=1)).accepted == 1


async def test_models_write_through_the_same_log_and_count_in_no_quota(recorder: Recorder) -> None:
    plays = Series.of("plays")
    one = Columns(np.array([1000]), np.array([0.5]))
    await recorder.writer.write("acme", [(plays.derived(":anomaly_score"), one)])
    await recorder.writer.write("acme", [(plays.derived(":anomaly_score"), one)])
    assert await recorder.samples() == [("plays:anomaly_score", 1000, 0.5)] * 2
    assert (await recorder.send(GOOD, series=1)).accepted == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
ITEM = st.fixed_dictionaries(
    {"name": st.sampled_from(["plays", "", "a b"]) | JSON, "value": st.floats() | JSON},
    optional={"timestamp": JSON, "labels": JSON, "metric_type": JSON, "tenant_id": JSON},
)


@settings(max_examples=300, deadline=None)
@given(st.lists(ITEM | JSON, max_size=6))
def test_each_item_is_either_decoded_or_named(items: list[object]) -> None:
    """Whatever JSON comes: item by item decoding finds what whole decoding finds."""
    answer = Answer()
    raw = json.dumps(items, allow_nan=False) if _finite(items) else None
    if raw is None:
        return
    decoded = decode(raw.encode("utf-8", "replace"), "acme", answer)
    seen = sorted(list(decoded.index) + [i.index for i in answer.items])
    assert seen == list(range(len(items)))
    for index in decoded.index:
        alone = Answer()
        assert len(decode(json.dumps(items[index]).encode(), "acme", alone).index) == 1


def _finite(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True
