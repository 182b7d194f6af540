"""How models do between trainings: looked at a part of the series at a time, by the scheduler."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from service import telemetry
from service.detection.drift import DRIFTED, ROWS, covered, drift
from service.detection.records import ModelRecord, ModelRecords
from service.domain.clock import Clock
from service.domain.rules import Rule
from service.domain.series import EXPECTED_LOWER, EXPECTED_UPPER, SCORE, Series
from service.query.source import Source

#: Each look takes one of so many parts of the series, each in its turn.
PARTS = 12
#: Series that are read together, and how far back at most.
_AT_ONCE = 128
_DAY_MS = 86_400_000
#: A drift that moved by less is not written down again.
_STEP = 0.02


@dataclass(slots=True)
class _Sum:
    """Values inside their band, of those that were looked at."""

    inside: float = 0.0
    points: int = 0
    alerts: int = 0
    budget: float = 0.0
    ages: list[float] = field(default_factory=list)
    drifts: dict[tuple[str, str], float] = field(default_factory=dict)


class Health:
    """Writes down the drift of models, and sets the metrics of all of them."""

    def __init__(
        self,
        records: ModelRecords,
        source: Source,
        clock: Clock,
        rules_of: Callable[[str], Awaitable[Sequence[Rule]]],
    ) -> None:
        self._records, self._source, self._clock = records, source, clock
        self._rules_of = rules_of
        self._turn = 0

    async def look(self, tenants: Iterable[str]) -> None:
        """One look: drift and coverage of a part of the series, age and alerts of all."""
        found = _Sum()
        for tenant in tenants:
            known = await self._records.all(tenant)
            used = {name: record for name, record in known.items() if record.version}
            await self._drift(tenant, used, found)
            now = self._clock.now()
            found.ages += [now - r.trained_to for r in used.values() if r.trained_to is not None]
            budgets = {r.id: r.alert_budget for r in await self._rules_of(tenant)}
            spent = {rule: budget for rule, budget in budgets.items() if budget is not None}
            found.budget += sum(spent.values())
            found.alerts += await self._records.alerts_of_rules(tenant, list(spent), now)
        self._turn = (self._turn + 1) % PARTS
        telemetry.MODEL_AGE.set(float(np.quantile(found.ages, 0.9)) if found.ages else 0.0)
        telemetry.MODELS_DRIFTED.set(sum(d >= DRIFTED for d in found.drifts.values()))
        if found.points:
            telemetry.MODEL_COVERAGE.set(found.inside / found.points)
        telemetry.BUDGET_SPENT.set(found.alerts / found.budget if found.budget else 0.0)

    async def _drift(self, tenant: str, used: Mapping[str, ModelRecord], found: _Sum) -> None:
        series = await self._source.all(tenant)
        found.drifts |= {(tenant, n): r.drift for n, r in used.items() if r.drift is not None}
        own = [
            series[int(name, 16)]
            for name in sorted(used)
            if int(name, 16) in series and int(name, 16) % PARTS == self._turn
        ]
        for first in range(0, len(own), _AT_ONCE):
            some = own[first : first + _AT_ONCE]
            changed = await self._of(tenant, some, used, found)
            found.drifts |= {(tenant, name): value for name, value in changed.items()}
            await self._records.drifted(tenant, changed)

    async def _of(
        self, tenant: str, some: Sequence[Series], used: Mapping[str, ModelRecord], found: _Sum
    ) -> dict[str, float]:
        """Drifts that have moved, of some series."""
        now_ms = round(self._clock.now() * 1000)
        steps = [float(used[s.hex].quality.get("step_seconds", 60.0)) * 1000 for s in some]
        since_ms = now_ms - min(_DAY_MS * 7, round(ROWS * max(steps, default=0.0)))
        derived = [
            [s.id, *(s.derived(x).id for x in (SCORE, EXPECTED_LOWER, EXPECTED_UPPER))]
            for s in some
        ]
        read = await self._source.read(
            tenant, [i for ids in derived for i in ids], since_ms, now_ms
        )
        changed: dict[str, float] = {}
        for one, (own, score, lower, upper) in zip(some, derived, strict=True):
            record = used[one.hex]
            learned_ms = round((record.trained_to or 0.0) * 1000)
            scores = read[score].t > learned_ms
            moved = drift(read[score].v[scores])
            share, points = covered(read[own], read[lower], read[upper])
            if share is not None:
                found.inside += share * points
                found.points += points
            known = -1.0 if record.drift is None else record.drift
            if moved is not None and abs(moved - known) >= _STEP:
                changed[one.hex] = moved
        return changed
