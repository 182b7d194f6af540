"""Scores of real metrics at times when nothing is known to have gone wrong."""

import csv
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from scipy.stats import kstest

from models.ensemble import Detector

ROOT = Path(__file__).parents[2]
WINDOWS = json.loads((ROOT / "bench" / "windows.json").read_text())
SERIES = (
    "Twitter_volume_GOOG",
    "ec2_cpu_utilization_825cc2",
    "ec2_cpu_utilization_c6585a",
    "elb_request_count_8c0756",
    "nyc_taxi",
    "rds_cpu_utilization_cc0c53",
)
#: Rows after which calibrations have something to stand on, days until an anomaly is forgotten.
FIRST, AFTER = 1500, 2


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def quiet_scores(name: str) -> np.ndarray:
    """Each row's score by what came before it, without labelled anomalies and what follows them."""
    with (ROOT / "service" / "demo" / "data" / f"{name}.csv").open() as file:
        rows = sorted((ms(row["timestamp"]), float(row["value"])) for row in csv.DictReader(file))
    t, v = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    quiet = np.arange(len(t)) >= FIRST
    for begin, end in WINDOWS[f"{name}.csv"]:
        quiet &= (t < ms(begin)) | (t > ms(end) + AFTER * 86_400_000)
    return Detector().fit(t, v).scores_.score[quiet]


def test_scores_of_real_series_are_uniform_where_nothing_happens():
    score = np.concatenate([quiet_scores(name) for name in SERIES])
    assert len(score) > 10_000
    assert kstest(score, "uniform").statistic < 0.08
    assert 0.06 < (score >= 0.9).mean() < 0.14
    assert 0.004 < (score >= 0.99).mean() < 0.02
    assert (score >= 0.999).mean() < 0.004
