"""Detection: what is found in labelled series, how well scores are calibrated, what it costs.

Everything is scored by the command line, `offbeat detect`, as anybody would, and read back from the
files that it writes. The baselines (`bench.baselines`) see the same series in the same run.
"""

import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from bench import pace
from bench.baselines import BASELINES, alarms, limit_at
from bench.corpora import Series, labels_of, made_up, nab, shipped, write
from models.base import Array, Flags
from models.evaluation import (
    find,
    mean_average_precision,
    pooled_average_precision,
    together,
    weeks,
)
from models.suppression import threshold
from models.synthetic import FAMILIES

OURS, NAB, SHIPPED = "offbeat", "NAB", "shipped"
METHODS = (OURS, *BASELINES)
#: Alerts a week at which found anomalies are counted.
BUDGET = 1.0
#: Alerts a week that are held against what clean series raise.
BUDGETS = (0.5, 1.0, 2.0, 5.0)
#: Scores that a share of clean points reaches: 1 minus each.
LEVELS = (0.9, 0.99, 0.999)
_CLEAN = "clean-"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Stream:
    """What a method says about a series: scores and alerts at `BUDGET`, both (n,).

    `strength` (n,) is what NAB's rules put a threshold on: of ours the alert stream.
    """

    score: Array
    alert: Flags
    strength: Array


#: Streams of series in their order, by corpus.
Streams = dict[str, list[Stream]]


@dataclass(frozen=True, slots=True)
class Quality:
    """How good a method is on a corpus.

    `ap` is the average precision of all rows in one order, `ap_each` the mean over the series. The
    rest tells of the alerts: `delay` is the median, in rows.
    """

    corpus: str
    method: str
    anomalies: int
    chance: float
    ap: float
    ap_each: float
    precision: float
    recall: float
    f1: float
    delay: float
    false_a_week: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """Clean series of a family: shares of points at `LEVELS`, alerts a week at `BUDGETS`."""

    family: str
    weeks: float
    shares: tuple[float, ...]
    alerts: tuple[int, ...]
    alerts_a_week: tuple[float, ...]

    @property
    def off(self) -> float:
        """The largest factor between alerts and budget, either way; silence counts as one alert."""
        least = 1.0 / self.weeks
        pairs = zip(self.alerts_a_week, BUDGETS, strict=True)
        return max(max(rate / b, b / max(rate, least)) for rate, b in pairs)


@dataclass(frozen=True, slots=True)
class Refereed:
    """NAB's scores of a method, each at the threshold that is best for it."""

    method: str
    standard: float
    reward_low_fp: float
    reward_low_fn: float
    windows: int
    false_rows: int


@dataclass(frozen=True, slots=True)
class Detection:
    """Everything measured; `missing` says what was left out and how to have it."""

    quality: list[Quality]
    calibration: list[Calibration]
    refereed: list[Refereed]
    speed: list[pace.Figure]
    missing: list[str]

    @property
    def corpora(self) -> list[str]:
        """Those that quality was measured on, in order."""
        return [one.corpus for one in self.quality if one.method == OURS]

    def ratio(self, corpora: Sequence[str]) -> float:
        """Our mean average precision on corpora, by that of the best baseline there."""
        means = {
            method: np.mean(
                [q.ap for q in self.quality if q.method == method and q.corpus in corpora]
            )
            for method in METHODS
        }
        ours = float(means.pop(OURS))
        return ours / max(float(max(means.values())), 1e-9)

    def plain(self) -> dict[str, Any]:
        """For JSON: numbers that do not exist are null."""
        said: dict[str, Any] = _finite(asdict(self))
        return said | {"average_precision_ratio": {c: self.ratio([c]) for c in self.corpora}}


def measure(
    data: Path | None, labels: Path | None, referee: Path | None, count: int, say: Say
) -> Detection:
    """Everything, on `count` series of each family and, with `data`, on NAB.

    Raises ValueError or OSError where `data` or `labels` are no such thing, RuntimeError where a
    program fails.
    """
    missing = []
    corpora = {name: made_up(name, count) for name in FAMILIES} | {SHIPPED: shipped()}
    clean = {name: made_up(name, count, clean=True) for name in FAMILIES}
    here = corpora | {_CLEAN + name: corpus for name, corpus in clean.items()}
    if data is None:
        missing.append("NAB was left out; name its data folder: --data FOLDER")
    else:
        labels = labels or labels_of(data)
        corpora[NAB] = nab(data, labels)
    refereed: list[Refereed] = []
    with tempfile.TemporaryDirectory(prefix="offbeat-bench-") as temporary:
        folder = Path(temporary)
        write(folder / "in", here)
        say("offbeat detect: made-up and shipped series")
        spent = detect(folder / "in", folder / "out")
        ours = {
            name: [read(folder / "out" / name / one.file, one) for one in corpus]
            for name, corpus in here.items()
        }
        if data is not None:
            say("offbeat detect: NAB")
            spent = detect(data, folder / NAB)
            ours[NAB] = [read(folder / NAB / one.file, one) for one in corpora[NAB]]
        said = {OURS: ours} | baselines(corpora, say)
        if data is not None and labels is not None and referee is not None:
            for method in METHODS:
                say(f"NAB's rules: {method}")
                results = folder / "results" / method
                give(results, data, corpora[NAB], said[method][NAB])
                refereed.append(judge(method, referee, data, labels, results))
        elif data is not None:
            missing.append("NAB's rules were left out; name a program that applies them: --referee")
    say("speed")
    return Detection(
        [
            quality(name, method, corpus, said[method][name])
            for name, corpus in corpora.items()
            for method in METHODS
        ],
        calibrations(clean, {name: ours[_CLEAN + name] for name in clean}),
        refereed,
        [*pace.command(*spent), *pace.measure()],
        missing,
    )


def detect(source: Path, target: Path) -> tuple[int, float, float]:
    """`offbeat detect` from folder to folder: rows, seconds, and seconds of all processes' CPU."""
    command = (sys.executable, "-m", "service.cli", "detect", source, "--output", target, "--json")
    before, begun = _children(), time.perf_counter()
    out = _run(*map(str, command), "--budget", f"{BUDGET:g}/week")
    return int(out["rows"]), time.perf_counter() - begun, _children() - before


def read(path: Path, series: Series) -> Stream:
    """What `offbeat detect` wrote about a series."""
    table = pd.read_csv(path, usecols=["anomaly_score", "alert_score", "alert"])
    if len(table) != len(series.values):
        raise RuntimeError(f"{path}: {len(table)} rows for {len(series.values)}")
    return Stream(
        table["anomaly_score"].to_numpy(np.float64),
        table["alert"].to_numpy() > 0,
        table["alert_score"].to_numpy(np.float64),
    )


def baselines(corpora: Mapping[str, Sequence[Series]], say: Say) -> dict[str, Streams]:
    """What each baseline says about each corpus, by method."""
    found: dict[str, Streams] = {}
    with Parallel(n_jobs=len(os.sched_getaffinity(0))) as parallel:
        for method, judged in BASELINES.items():
            found[method] = {}
            for name, corpus in corpora.items():
                say(f"{method}: {name}")
                scores = parallel(delayed(judged)(one.values) for one in corpus)
                found[method][name] = _alarmed(corpus, scores)
    return found


def quality(name: str, method: str, corpus: Sequence[Series], streams: Sequence[Stream]) -> Quality:
    """How good the method's streams of the series of a corpus are."""
    pairs = list(zip(corpus, streams, strict=True))
    labels = [one.labels[one.judged] for one, _ in pairs]
    scores = [stream.score[one.judged] for one, stream in pairs]
    found = together([find(one.labels[one.judged], s.alert[one.judged]) for one, s in pairs])
    return Quality(
        name,
        method,
        found.total,
        float(np.concatenate(labels).mean()),
        pooled_average_precision(zip(labels, scores, strict=True)),
        mean_average_precision(zip(labels, scores, strict=True)),
        found.precision,
        found.recall,
        found.f1,
        found.delay,
        found.false / _normal_weeks(corpus),
    )


def calibrations(
    clean: Mapping[str, Sequence[Series]], streams: Mapping[str, Sequence[Stream]]
) -> list[Calibration]:
    """Of each family, and of all as one, where each series counts alike."""
    parts = {
        family: [_calm(one, s) for one, s in zip(corpus, streams[family], strict=True)]
        for family, corpus in clean.items()
    }
    return [
        *(_calibration(family, part) for family, part in parts.items()),
        _calibration("all", [one for part in parts.values() for one in part]),
    ]


def give(results: Path, data: Path, corpus: Sequence[Series], streams: Sequence[Stream]) -> None:
    """Streams as the results that NAB's rules are applied to: timestamp, anomaly_score."""
    for one, stream in zip(corpus, streams, strict=True):
        table = pd.read_csv(data / one.file, usecols=["timestamp"], dtype=str)
        table["anomaly_score"] = stream.strength
        (results / one.file).parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(results / one.file, index=False, float_format="%.17g")


def judge(method: str, referee: Path, data: Path, labels: Path, results: Path) -> Refereed:
    """What the program `referee` (DATA LABELS RESULTS --json) says about results."""
    said = _run(sys.executable, *map(str, (referee, data, labels, results)), "--json")
    standard = said["standard"]
    return Refereed(
        method,
        float(standard["score"]),
        float(said["reward_low_FP"]["score"]),
        float(said["reward_low_FN"]["score"]),
        int(standard["windows_detected"]),
        int(standard["fp_rows"]),
    )


def _alarmed(corpus: Sequence[Series], scores: Sequence[Array]) -> list[Stream]:
    """Scores of a baseline, with alarms at the threshold that keeps to the budget by the labels."""
    pairs = list(zip(corpus, scores, strict=True))
    limit = limit_at(
        [(s[one.judged], one.labels[one.judged]) for one, s in pairs],
        BUDGET * _normal_weeks(corpus),
    )
    return [Stream(score, alarms(score, limit), score) for score in scores]


def _normal_weeks(corpus: Sequence[Series]) -> float:
    """Weeks without a label among the rows that count."""
    return sum(weeks(int((~one.labels[one.judged]).sum()), one.step_ms) for one in corpus)


@dataclass(frozen=True, slots=True)
class _Calm:
    """A clean series: rows, weeks, rows at `LEVELS` and alerts at `BUDGETS`."""

    rows: int
    weeks: float
    reached: tuple[int, ...]
    alerts: tuple[int, ...]


def _calm(series: Series, stream: Stream) -> _Calm:
    score, strength = stream.score[series.judged], stream.strength[series.judged]
    limits = [max(threshold(budget, series.rows_a_week), 1e-9) for budget in BUDGETS]
    return _Calm(
        len(score),
        weeks(len(score), series.step_ms),
        tuple(int((score >= level).sum()) for level in LEVELS),
        tuple(int((strength >= limit).sum()) for limit in limits),
    )


def _calibration(family: str, parts: Sequence[_Calm]) -> Calibration:
    time_all = sum(part.weeks for part in parts)
    alerts = np.sum([part.alerts for part in parts], axis=0)
    return Calibration(
        family,
        time_all,
        tuple(np.mean([np.divide(part.reached, part.rows) for part in parts], axis=0).tolist()),
        tuple(alerts.tolist()),
        tuple((alerts / time_all).tolist()),
    )


def _run(*command: str) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()[-2000:]}")
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _finite(said: Any) -> Any:
    if isinstance(said, dict):
        return {key: _finite(value) for key, value in said.items()}
    if isinstance(said, list | tuple):
        return [_finite(value) for value in said]
    return None if isinstance(said, float) and not math.isfinite(said) else said
