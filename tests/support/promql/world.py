"""The series of the comparison with Prometheus: of every kind that queries may meet.

Times are odd: no sample lies on a whole or half second, where windows of the generated queries
begin. Values are multiples of 1/8 and not large, so that sums of them are exact in any order.
"""

import math
from collections.abc import Callable
from random import Random

import numpy as np

from service.domain.series import LabelPairs
from service.storage.columns import Columns
from tests.support.literal import STALE, Literal, labels

#: 2023-11-14 22:13:20 UTC; the two hours after it reach into the next day.
BASE_S = 1_700_000_000
SPAN_S = 6_600
INTERVAL_S = 15

#: Numbers with which operators and functions have their special cases: the series `special`.
SPECIAL = (
    *(0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1 / 3, 0.49999999999999994, 2.0, 2.5, -2.5, 3.0, -3.0, 10.0),
    *(21.0, -22.0, 700.0, 710.0, -710.0, 1000.0, 1e10, 4503599627370497.5, 1e19, -1e22, 1e300),
    *(-1e300, 1.7e308, 2.3e-308, -1e-10, math.pi, math.e, -math.pi / 2),
    *(1_709_164_800.0, -86_401.0, 253_402_300_800.0, math.inf, -math.inf, math.nan),
)

Points = list[tuple[int, float]]


def world() -> Literal:
    """All series; always the same."""
    random = Random(20)
    series: dict[LabelPairs, Columns] = {}
    maker = _Maker(random, series)
    for job, instances in (("api", "abc"), ("web", "abd")):
        for instance in instances:
            for code in ("200", "404", "500"):
                maker.add(
                    "requests_total",
                    maker.counter(10_000, 40, resets=1 if code != "404" else 0),
                    job=job,
                    instance=instance,
                    code=code,
                )
            maker.add(
                "bytes_total",
                maker.counter(500_000, 9_999, resets=2),
                job=job,
                instance=instance,
            )
            maker.add("limit", maker.level(100, 900, 60), job=job, instance=instance)
            maker.add("up", maker.flags(), job=job, instance=instance)
        maker.add("build_info", maker.constant(1), job=job, version=f"1.{instances}")
        maker.histogram(job)
    for floor in ("1", "2", "3"):
        for room in ("north", "south"):
            maker.add("temperature", maker.walk(), room=room, floor=floor)
    maker.strange()
    for n, number in enumerate(SPECIAL):
        maker.add("special", maker.constant(number), n=str(n))
    return Literal(series)


class _Maker:
    def __init__(self, random: Random, series: dict[LabelPairs, Columns]) -> None:
        self.random, self.series = random, series

    def add(self, name: str, points: Points, **others: str) -> None:
        """A series with a phase of its own."""
        shift = self.random.randrange(15) * 1000 + self.random.randrange(1, 500)
        t = np.array([BASE_S * 1000 + i * INTERVAL_S * 1000 + shift for i, _ in points], np.int64)
        self.series[labels(name, **others)] = Columns(
            t, np.array([v for _, v in points], np.float64)
        )

    @property
    def ranks(self) -> range:
        return range(SPAN_S // INTERVAL_S)

    def counter(self, begin: int, most: int, resets: int) -> Points:
        """Goes up by whole eighths; starts large, loses a scrape sometimes."""
        value, points = float(begin + self.random.randrange(begin)), []
        back = set(self.random.sample(self.ranks, resets))
        for i in self.ranks:
            value += self.random.randrange(most * 8) / 8
            if i in back:
                value = self.random.randrange(8) / 8
            # No scrape is lost when the counter is small: see `differences`.
            if self.random.random() < 0.97 or value < begin:
                points.append((i, value))
        return points

    def level(self, low: int, high: int, changes: int) -> Points:
        """Stays for a while, then is something else."""
        value, points = 0.0, []
        for i in self.ranks:
            if i % changes == 0:
                value = self.random.randrange(low * 8, high * 8) / 8
            points.append((i, value))
        return points

    def flags(self) -> Points:
        return [(i, float(self.random.random() < 0.9)) for i in self.ranks]

    def constant(self, value: float) -> Points:
        return [(i, value) for i in self.ranks]

    def walk(self) -> Points:
        """A gauge that is below zero at times, and away for longer than the lookback once."""
        value, points = self.random.randrange(-40, 40) / 8, []
        away = self.random.choice(self.ranks)
        for i in self.ranks:
            value += self.random.randrange(-8, 9) / 8
            if not away <= i < away + 30:
                points.append((i, value))
        return points

    def histogram(self, job: str) -> None:
        """Classic buckets; those of `web` end with 10, and one of them is below the one before."""
        bounds = ["0.1", "0.5", "1", "2.5", "10"] + (["+Inf"] if job == "api" else [])
        counts = [1000.0 * (place + 1) for place in range(len(bounds))]
        points: list[Points] = [[] for _ in bounds]
        for i in self.ranks:
            more = 0
            for place in range(len(bounds)):
                more += self.random.randrange(6)
                counts[place] += more
                broken = job == "web" and place == 3 and i % 50 > 40
                points[place].append((i, counts[place] / 2 if broken else counts[place]))
        state = self.random.getstate()
        for bound, values in zip(bounds, points, strict=True):
            self.random.setstate(state)  # buckets are scraped at one time
            self.add("latency_seconds_bucket", values, job=job, le=bound)

    def strange(self) -> None:
        """Numbers that are none, series that come and go, times as values."""
        kinds: dict[str, Callable[[int], float]] = {
            "nan": lambda i: math.nan,
            "inf": lambda i: math.inf,
            "-inf": lambda i: -math.inf,
            "mixed": lambda i: (math.nan, math.inf, -math.inf, 0.0, 2.5, -1.0)[i % 6],
            "sometimes": lambda i: math.nan if i % 5 == 0 else i / 8,
            "zero": lambda i: 0.0,
            "sign": lambda i: float((-1) ** i),
        }
        for kind, value in kinds.items():
            self.add("strange", [(i, value(i)) for i in self.ranks], kind=kind)
        for n in range(4):
            points: Points = []
            on = True
            for i in self.ranks:
                before, on = on, self.random.random() > 0.04 if on else self.random.random() > 0.9
                if on:
                    points.append((i, float(n * 1000 + i)))
                elif before and n % 2:
                    points.append((i, STALE))  # the others end without a word
            self.add("flapping", points, n=str(n))
        for zone, begin in (("now", BASE_S), ("leap", 1_709_164_800), ("old", -86_400 * 400)):
            self.add("clock_seconds", [(i, begin + i * 1817.5) for i in self.ranks], zone=zone)
        late = [(i, i / 4) for i in self.ranks if i > 200]
        self.add("late", late, job="api")
