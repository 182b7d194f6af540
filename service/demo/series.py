"""The demo's real series, shifted so that the story ends at a given time."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd
from ruamel.yaml import YAML

from service.storage.columns import Times, Values

_FOLDER = resources.files("service.demo") / "data"


@dataclass(frozen=True, slots=True)
class StorySeries:
    """One series: where it goes, and its samples with `t` (n,) in seconds before the end (≤ 0)."""

    tenant: str
    metric: str
    metric_type: str
    labels: dict[str, str]
    t: "np.ndarray[Any, np.dtype[np.float64]]"
    v: Values

    def metrics(self, end: float, since: float, until: float) -> list[dict[str, object]]:
        """Bodies of the samples with `since < t <= until`, the story ending at `end`."""
        rows = np.flatnonzero((self.t + end > since) & (self.t + end <= until))
        return [
            {
                "name": self.metric,
                "value": float(self.v[row]),
                "timestamp": round(float(self.t[row] + end), 3),
                "metric_type": self.metric_type,
                "labels": self.labels,
            }
            for row in rows
        ]


@dataclass(frozen=True, slots=True)
class Story:
    """Tenants (id, name) and their series."""

    tenants: Sequence[tuple[str, str]]
    series: Sequence[StorySeries]


def load_story() -> Story:
    """The story as `data/story.yaml` tells it."""
    told = YAML(typ="safe").load((_FOLDER / "story.yaml").read_text())
    return Story(
        [(t["id"], t["name"]) for t in told["tenants"]],
        [_series(item) for item in told["series"]],
    )


def _series(item: dict[str, Any]) -> StorySeries:
    with (_FOLDER / item["file"]).open() as file:
        frame = pd.read_csv(file, parse_dates=["timestamp"]).iloc[: item["end_row"] + 1]
    times: Times = frame["timestamp"].astype("datetime64[ms]").to_numpy().astype(np.int64)
    seconds = (times - times[-1]) / 1000
    return StorySeries(
        item["tenant"],
        item["metric"],
        item["metric_type"],
        dict(item["labels"]),
        seconds,
        frame["value"].to_numpy(np.float64),
    )
