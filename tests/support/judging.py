"""A rule and what a worker holds in memory, for tests that judge the one by the other."""

from typing import Any

import numpy as np

from service.domain.rules import Condition, Rule, Severity
from service.domain.series import Series
from service.query.selector import parse_selector
from service.storage.columns import Columns
from service.storage.head import Head

TENANT = "acme"
NOW = 1_700_000_000.0


def rule_on(query: str, condition: Condition, **fields: Any) -> Rule:
    """A rule of the tenant without a threshold, unless `fields` have one."""
    return Rule(
        **{
            "id": "r1",
            "tenant": TENANT,
            "name": "Odd",
            "query": parse_selector(query),
            "condition": condition,
            "threshold": None,
            "severity": Severity.HIGH,
            **fields,
        }
    )


def put(head: Head, series: Series, v: Any, *, step: float = 60.0, until: float = NOW) -> None:
    """Samples `v` (n,) every `step` seconds, the last of them at `until`."""
    v = np.asarray(v, np.float64)
    t = np.round((until - step * np.arange(len(v))[::-1]) * 1000).astype(np.int64)
    head.add_series(TENANT, {series.id: series})
    head.put(TENANT, series.id, Columns(t, v))
