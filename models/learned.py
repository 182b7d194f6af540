"""All that is known about one series: how to judge rows, and how to learn from them."""

from collections.abc import Iterator
from typing import NamedTuple, Self

import numpy as np

from models.adapting import early_end
from models.base import Array, ArrayMap, Arrays, Flags, floats, integer, nested, scalar, within
from models.features import LEAD, Features, Rows
from models.opinions import FRESH, FRESH_MIN, MEAN, NOVELTY, WARM, Joint, Opinions
from models.past import Past, Units
from models.residual import Band
from models.shape import Cells, Shape
from models.suppression import MEMORY as ALERT_MEMORY
from models.suppression import AlertRate, records

#: Rows before the first block ends.
FIRST = 16


class Judged(NamedTuple):
    """What is said about rows (n,): `each` (n, members) are surprises by `LABELS`.

    `surprise` is -log10 p, `rarity` that of alerts, of which `strength` is the raw score.
    """

    surprise: Array
    strength: Array
    alert: Array
    rarity: Array
    each: Array
    expected: Array
    lower: Array
    upper: Array
    Z: Array


class Block(NamedTuple):
    """Rows that were judged, and what is needed to learn from them."""

    judged: Judged
    rows: Rows
    cells: list[Cells]
    views: dict[str, Array]
    raw: dict[str, Array]
    joined: Array
    mean: Array
    residual: Array


def blocks(x: Array, day: int) -> Iterator[tuple[int, int]]:
    """Rows of `x` that are judged together: few at first, later a quarter of a day."""
    start, n = 0, len(x)
    while start < n:
        stop = min(n, start + min(max(start // 8, FIRST), max(64, day // 4)))
        stop = early_end(x, start, stop, day)
        yield start, stop
        start = stop


class Learned:
    """All that is known about a series: how to judge rows, and how to learn from them."""

    def __init__(self, day: int, units: Units, seed: int) -> None:
        self.day, self.units = day, units
        self.features, self.shape = Features(day), Shape()
        self.opinions, self.joint, self.band = Opinions(seed), Joint(), Band()
        self.alerts = AlertRate()
        self._strengths = np.zeros(0)
        self.lowest = np.inf

    def judge(self, past: Past, start: int, stop: int, *, carried: bool = False) -> "Block":
        """What is said about past.x[start:stop]. `carried`: the rows before were learned last."""
        rows = self.features.transform(past, start, stop, carried=carried)
        novelty, cells = self.shape.surprise(past, start, stop)
        views = self.opinions.views(rows.Z, novelty)
        raw = self.opinions.raw(rows.Z, views)
        each = self.opinions.surprise(raw, novelty)
        joined, mean = self.joint.join(each, carried=carried)
        expected, scale = self.features.expect(rows)
        lower, upper = self.band.around(expected, scale)
        floor = self.units.apply(np.zeros(1))[0] if self.lowest >= 0 else -np.inf
        lower = np.minimum(np.maximum(lower, floor), expected)
        if carried and start < WARM:  # what is known is where values have been
            lower = np.minimum(lower, np.minimum.accumulate(past.x[:stop])[start:])
            upper = np.maximum(upper, np.maximum.accumulate(past.x[:stop])[start:])
        strength = MEAN * joined + NOVELTY * novelty
        if carried and start < WARM:
            strength[: WARM - start] = 0.0
        before = self._strengths if carried else strength[:0]
        alert = records(np.concatenate((before, strength)), len(before))
        judged = Judged(
            self.joint.surprise(joined),
            strength,
            alert,
            self.alerts.rarity(alert),
            each,
            self.units.restore(expected),
            self.units.restore(lower),
            self.units.restore(np.maximum(upper, expected)),
            rows.Z,
        )
        residual = (past.x[start:stop] - expected) / scale
        return Block(judged, rows, cells, views, raw, joined, mean, residual)

    def judge_anew(self, past: Past, start: int, stop: int) -> Judged:
        """What is said about past.x[start:stop], whatever was learned last."""
        lead = max(0, start - LEAD - ALERT_MEMORY)
        judged = self.judge(past, lead, stop).judged
        return Judged(*(column[start - lead :] for column in judged))

    def learn(self, past: Past, start: int, stop: int, block: "Block", seen: Flags) -> None:
        """Learn from past.x[start:stop], just judged; `seen` marks measured rows that count."""
        self.features.learn(past, start, stop, block.rows, seen)
        self.shape.learn(block.cells)
        self.lowest = min(self.lowest, float(self.units.restore(past.x[start:stop].min())))
        self._strengths = np.concatenate((self._strengths, block.judged.strength))[-ALERT_MEMORY:]
        if start < FIRST:  # judged by nothing
            return
        if start >= WARM:
            self.alerts.learn(block.judged.alert[seen])
        most = max(FRESH_MIN, int(FRESH * stop))
        self.joint.learn(block.joined, block.mean, seen, most)
        self.opinions.learn(stop, block.views, block.raw, seen, most)
        self.band.learn(block.residual[seen])

    def to_arrays(self) -> Arrays:
        """Everything that judging needs."""
        return {
            **self.units.to_arrays(),
            "day": np.array(self.day),
            "lowest": np.array(self.lowest),
            "joint": self.joint.body_,
            **nested("features", self.features.to_arrays()),
            **nested("shape", self.shape.to_arrays()),
            **nested("opinions", self.opinions.to_arrays()),
            **nested("band", self.band.to_arrays()),
            **nested("alerts", self.alerts.to_arrays()),
        }

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """Back from `to_arrays`, to judge, not to go on learning."""
        learned = cls(integer(arrays, "day"), Units.from_arrays(arrays), 0)
        learned.lowest = scalar(arrays, "lowest")
        learned.joint.body_ = floats(arrays, "joint")
        learned.features = Features.from_arrays(within("features", arrays))
        learned.shape = Shape.from_arrays(within("shape", arrays))
        learned.opinions = Opinions.from_arrays(within("opinions", arrays))
        learned.band = Band.from_arrays(within("band", arrays))
        learned.alerts = AlertRate.from_arrays(within("alerts", arrays))
        return learned
