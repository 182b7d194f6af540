"""Both servers are sent what is said to be sent, and a difference in their answers is seen."""

import itertools
import math

import numpy as np
import pytest

from bench import queries_data as data
from bench.queries import SHAPES, Cost, Queries, Row, Shape, difference
from service.ingest import remote_write
from service.ingest.answer import Answer
from service.query.promql.parse import parse

END_MS = 1_760_000_400_000


def test_requests_hold_all_samples_in_order_of_time() -> None:
    blocks = data.recent(END_MS, hours=0.04)
    sent: dict[str, list[tuple[int, float]]] = {}
    newest = 0
    for body in data.requests(blocks):
        decoded = remote_write.decode(remote_write.inflate(body), Answer())
        times = decoded.t_ms.tolist()
        assert min(times) > newest - 600_000
        newest = max(newest, *times)
        for row, (t, v) in enumerate(zip(times, decoded.values.tolist(), strict=True)):
            sent.setdefault(str(decoded.series(row)), []).append((t, v))
    assert len(sent) == sum(len(block.labels) for block in blocks) == 5250
    for block in blocks:
        for i in (0, len(block.labels) - 1):
            name = dict(block.labels[i])["__name__"]
            tags = ",".join(f'{k}="{v}"' for k, v in block.labels[i] if k != "__name__")
            expected = list(zip(block.t.tolist(), block.v[i].tolist(), strict=True))
            assert sent[f"{name}{{{tags}}}"] == expected


def test_no_sample_lies_where_a_window_may_end() -> None:
    for block in (*data.recent(END_MS, hours=0.04), data.levels(END_MS)):
        assert (block.t % (data.STEP_S * 1000) != 0).all()
        assert block.t[-1] < END_MS
        assert (np.diff(block.t) == block.t[1] - block.t[0]).all()
        assert (block.since(END_MS - 60_000).t >= END_MS - 60_000).all()


@pytest.mark.parametrize("shape", SHAPES, ids=[shape.what for shape in SHAPES])
def test_every_query_is_one(shape: Shape) -> None:
    assert parse(shape.expr)


def test_what_differs_between_answers() -> None:
    answer = {"{}": ((0.0, 1.0), (15.0, math.nan))}
    assert difference(answer, {"{}": ((0.0, 1.0 + 1e-12), (15.0, math.nan))}) == ""
    others = [
        {"a": answer["{}"]},
        {"{}": ((0.0, 1.1), (15.0, math.nan))},
        {"{}": ((0.0, 1.0), (30.0, math.nan))},
        {"{}": ((0.0, 1.0),)},
    ]
    said = [difference(answer, other) for other in others]
    assert all(said)
    assert all(a != b for a, b in itertools.pairwise(said[:3]))


def test_ratios_are_of_what_was_measured() -> None:
    alone = Row("a", "a", 1, 1, Cost(10, 5))
    beside = Row("a", "a", 1, 1, Cost(10, 5), Cost(20, 0))
    assert (alone.ratio, alone.cpu_ratio) == (None, None)
    assert (beside.ratio, beside.cpu_ratio) == (0.5, None)
    rows = Queries(1, "2.42", [beside]).plain()["rows"]
    assert isinstance(rows, list)
    assert rows[0]["ratio"] == 0.5
