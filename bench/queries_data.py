"""What queries are measured on: two hours of machines and requests, thirty days of a few levels."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter

import cramjam
import numpy as np

from bench.bodies import varint
from service.domain.series import LabelPairs, canonical
from service.storage.columns import Times, Values

MODES = ("idle", "user", "system", "iowait", "irq", "nice", "steal", "softirq")
ROLES = ("web", "database", "cache", "queue", "search")
INSTANCES = 250
ROUTES = 100
LEVELS = 20
DAYS = 30
#: Seconds between samples, and between those of the levels.
STEP_S, LEVEL_STEP_S = 15, 60
#: Samples lie between the times of queries, so that it is all one whether ranges are open.
_ASIDE_MS = 7_000
_BOUNDS = ("0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "+Inf")
#: Prometheus takes nothing that is an hour older than the newest.
_SLICE_MS = 150_000
_LEVEL_SLICE_MS = 3_000_000


@dataclass(frozen=True)
class Block:
    """Series (n,) with samples at the same times: `t` (samples,) and `v` (n, samples)."""

    labels: list[LabelPairs]
    t: Times
    v: Values

    def since(self, start_ms: int) -> "Block":
        """The samples from then on."""
        first = int(np.searchsorted(self.t, start_ms))
        return Block(self.labels, self.t[first:], self.v[:, first:])


def recent(end_ms: int, hours: float = 2.0) -> list[Block]:
    """Every fifteen seconds, to the end: counters and gauges of machines, latencies of routes."""
    random = np.random.default_rng(1)
    count = round(hours * 3600 / STEP_S)
    t = _times(end_ms, count, STEP_S)
    cores = [
        {"instance": f"10.0.0.{i}:9100", "mode": mode, "rack": f"r{i % 12}"}
        for i in range(INSTANCES)
        for mode in MODES
    ]
    spent = np.cumsum(random.integers(0, 1500, (len(cores), count)) / 100, axis=1)
    walk = random.uniform(20, 80, (len(cores), 1)) + np.cumsum(
        random.normal(0, 0.5, (len(cores), count)), axis=1
    )
    machines = [
        canonical("machine_info", {"instance": f"10.0.0.{i}:9100", "role": ROLES[i % len(ROLES)]})
        for i in range(INSTANCES)
    ]
    buckets = [
        canonical("request_seconds_bucket", {"route": f"/r/{route}", "le": bound})
        for route in range(ROUTES)
        for bound in _BOUNDS
    ]
    each = random.integers(0, 20, (ROUTES, len(_BOUNDS), count))
    requests = np.cumsum(np.cumsum(each, axis=1), axis=2).reshape(len(buckets), count)
    return [
        Block([canonical("cpu_seconds_total", labels) for labels in cores], t, spent),
        Block([canonical("load", labels) for labels in cores], t, np.round(walk, 3)),
        Block(machines, t, np.ones((len(machines), count))),
        Block(buckets, t, requests.astype(np.float64)),
    ]


def levels(end_ms: int) -> Block:
    """A sample a minute for thirty days, to the end."""
    count = DAYS * 86_400 // LEVEL_STEP_S
    random = np.random.default_rng(2)
    names = [
        canonical("level", {"tank": f"t{i}", "mode": MODES[i % len(MODES)]}) for i in range(LEVELS)
    ]
    values = 50 + np.cumsum(random.normal(0, 0.05, (LEVELS, count)), axis=1)
    return Block(names, _times(end_ms, count, LEVEL_STEP_S), np.round(values, 2))


def requests(blocks: Sequence[Block]) -> Iterator[bytes]:
    """Bodies of remote_write of all samples, in order of time."""
    parts = (_requests(block) for block in blocks)
    return (body for _, body in heapq.merge(*parts, key=itemgetter(0)))


def _requests(block: Block) -> Iterator[tuple[int, bytes]]:
    span = _LEVEL_SLICE_MS if len(block.labels) == LEVELS else _SLICE_MS
    heads = [_head(labels) for labels in block.labels]
    edges = np.arange(block.t[0], block.t[-1] + span, span)
    bounds = np.searchsorted(block.t, edges)
    for first, last in zip(bounds, np.append(bounds[1:], len(block.t)), strict=True):
        if first < last:
            body = _request(heads, block.t[first:last], block.v[:, first:last])
            yield int(block.t[first]), body


def _times(end_ms: int, count: int, step_s: int) -> Times:
    step = step_s * 1000
    return end_ms - _ASIDE_MS - step * np.arange(count, dtype=np.int64)[::-1]


def _head(labels: LabelPairs) -> bytes:
    return b"".join(
        _field(0x0A, _field(0x0A, name.encode()) + _field(0x12, value.encode()))
        for name, value in labels
    )


def _request(heads: Sequence[bytes], t: Times, v: Values) -> bytes:
    """Each sample is a field of a double and of a time, which are equally long for all."""
    stamps = np.array([list(varint(time)) for time in t.tolist()], np.uint8)
    width = stamps.shape[1]
    samples = np.empty((len(heads), len(t), 12 + width), np.uint8)
    samples[:, :, :3] = (0x12, 10 + width, 0x09)
    samples[:, :, 3:11] = np.ascontiguousarray(v, "<f8").view(np.uint8).reshape(*v.shape, 8)
    samples[:, :, 11] = 0x10
    samples[:, :, 12:] = stamps
    message = b"".join(_field(0x0A, head + samples[i].tobytes()) for i, head in enumerate(heads))
    return bytes(cramjam.snappy.compress_raw(message))


def _field(tag: int, body: bytes) -> bytes:
    return bytes([tag]) + varint(len(body)) + body
