"""A series whose sender said that it ended is unknown, and unknown is not well."""

import struct

import numpy as np

from service.domain.series import Series
from service.rules.evaluator import evaluate
from service.rules.schema import parse_rule
from service.storage.columns import Columns
from service.storage.head import Head

NOW = 1_700_000_000.0
STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]


def test_a_stale_marker_is_no_value_and_another_nan_is_no_match() -> None:
    rule = parse_rule(
        {"name": "Many", "query": "plays", "condition": "gt", "threshold": 5, "severity": "low"},
        rule_id="r1",
        tenant="acme",
        cooldown_seconds=900,
    )
    plays = Series.of("plays")
    for value, active in ((9.0, True), (STALE, None), (float("nan"), False), (1.0, False)):
        head = Head(64)
        head.add_series("acme", {plays.id: plays})
        times = np.array([NOW * 1000 - 1000, NOW * 1000], np.int64)
        head.put("acme", plays.id, Columns(times, np.array([9.0, value])))
        (judgement,) = evaluate(rule, "acme", head, NOW)
        assert judgement.active is active
