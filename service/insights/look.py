"""One look at a tenant: its series, the recent samples of those that matter, alerts, models.

Findings and overview are computed from the same look. What it reads is bounded: up to `_FULL`
series are read whole; of the rest, scores are scanned block by block from one look to the next, so
that ten thousand series are covered within a few looks.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from service.detection.standing import Standing
from service.domain.alerts import Alert
from service.domain.rules import Rule
from service.domain.series import SCORE, Series, parse_series_id
from service.insights import records
from service.insights.reading import Watched, watch
from service.insights.standings import standings_of
from service.insights.unusual import Run, current_run
from service.query.matchers import matches
from service.query.source import Source
from service.settings import Settings
from service.storage.sql.engine import Database

RulesOf = Callable[[str], Awaitable[Sequence[Rule]]]

WINDOW = 6 * 3600.0
_SLOW_WINDOW = 48 * 3600.0
_FEW = 25
_FULL = 240
_SCAN = 2000
_SCAN_SECONDS = 1800.0
_WEEK = 7 * 86400.0
_MEMORY = 1000


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of a tenant at `now` (Unix seconds). `standings` are those of `runs`."""

    tenant: str
    now: float
    known: dict[int, Series]
    base: list[Series]
    watched: dict[int, Watched]
    runs: dict[int, Run]
    standings: dict[int, Standing]
    alerts: list[Alert]
    episodes: list[records.Episode]
    models: records.ModelStates
    rules: list[Rule]
    names: dict[str, list[Watched]] = field(default_factory=dict)
    quality: dict[int, dict[str, Any]] = field(default_factory=dict)

    @property
    def now_ms(self) -> int:
        """`now` in milliseconds."""
        return round(self.now * 1000)

    def family(self, name: str) -> list[Watched]:
        """The watched series of one metric."""
        return self.names.get(name, [])

    def rules_for(self, series: Series) -> list[Rule]:
        """The enabled rules whose query selects the series."""
        return [
            r for r in self.rules if r.enabled and any(matches(one, series) for one in r.selectors)
        ]


class Looker:
    """Takes looks; remembers between them only which series its scan has found unusual."""

    def __init__(
        self, source: Source, database: Database, settings: Settings, rules_of: RulesOf
    ) -> None:
        self._source = source
        self._database = database
        self._settings = settings
        self._rules_of = rules_of
        self._scans: OrderedDict[str, _Scan] = OrderedDict()

    async def look(self, tenant: str, now: float) -> Look:
        """Read what matters of the tenant now."""
        known = await self._source.all(tenant)
        base = sorted((s for s in known.values() if not s.is_derived), key=lambda s: s.labels)
        rules = list(await self._rules_of(tenant))
        async with self._database.read() as connection:
            alerts = await records.active_alerts(connection, tenant)
            episodes = await records.episodes(connection, tenant, now - _WEEK)
            models = await records.model_states(connection, tenant)
        chosen = await self._choose(tenant, known, base, alerts, rules, now)
        async with self._database.read() as connection:
            trained = await records.models_of(connection, tenant, [s.hex for s in chosen])
        watched = await watch(self._source, tenant, known, chosen, now, WINDOW)
        slow = [w.series for w in watched if 0 < len(w.samples.t) < _FEW]
        if slow:
            wider = await watch(self._source, tenant, known, slow, now, _SLOW_WINDOW)
            longer = {w.series.id: w for w in wider}
            watched = [longer.get(w.series.id, w) for w in watched]
        threshold, now_ms = self._settings.anomaly_detection_threshold, round(now * 1000)
        names: dict[str, list[Watched]] = {}
        for w in watched:
            names.setdefault(w.series.name, []).append(w)
        by_id = {w.series.id: w for w in watched}
        runs = {
            i: run
            for i, w in by_id.items()
            if (run := current_run(w, threshold, now_ms)) is not None
        }
        standings: dict[int, Standing] = {}
        if runs:
            rows = {i: int(np.isfinite(by_id[i].samples.v).sum()) for i in runs}
            async with self._database.read() as connection:
                standings = await standings_of(connection, tenant, rows, known)
        return Look(
            tenant=tenant,
            now=now,
            known=known,
            base=base,
            watched=by_id,
            runs=runs,
            standings=standings,
            alerts=alerts,
            episodes=episodes,
            models=models,
            rules=rules,
            names=names,
            quality={s.id: trained[s.hex]["quality"] for s in chosen if s.hex in trained},
        )

    async def _choose(
        self,
        tenant: str,
        known: dict[int, Series],
        base: list[Series],
        alerts: list[Alert],
        rules: list[Rule],
        now: float,
    ) -> list[Series]:
        if len(base) <= _FULL:
            return base
        chosen: dict[int, Series] = {}

        def add(candidates: Sequence[Series], most: int) -> None:
            for s in candidates:
                if len(chosen) >= most:
                    return
                chosen.setdefault(s.id, s)

        alerted = [known[i] for a in alerts if (i := parse_series_id(a.source)) in known]
        add(alerted, _FULL // 4)
        hot = await self._scan(tenant, known, base, now)
        add([known[i] for i in hot if i in known], _FULL // 2)
        # Siblings of what is unusual say where it is; then what rules watch, then one of each name.
        wanted = {s.name for s in chosen.values()}
        add([s for s in base if s.name in wanted], 3 * _FULL // 4)
        watched_names = {s.name for r in rules if r.enabled for s in r.selectors if s.name}
        first: dict[str, Series] = {}
        for s in base:
            first.setdefault(s.name, s)
        add([s for n, s in first.items() if n in watched_names], _FULL)
        add(list(first.values()), _FULL)
        add(base, _FULL)
        return list(chosen.values())

    async def _scan(
        self, tenant: str, known: dict[int, Series], base: list[Series], now: float
    ) -> list[int]:
        scan = self._scans.setdefault(tenant, _Scan())
        self._scans.move_to_end(tenant)
        if len(self._scans) > _MEMORY:
            self._scans.popitem(last=False)
        scan.offset %= len(base)
        block = base[scan.offset : scan.offset + _SCAN]
        scan.offset += _SCAN
        scores = {s.derived(SCORE).id: s.id for s in block}
        scores = {score: s for score, s in scores.items() if score in known}
        now_ms = round(now * 1000)
        start = now_ms - round(_SCAN_SECONDS * 1000)
        read = await self._source.read(tenant, list(scores), start, now_ms)
        threshold = self._settings.anomaly_detection_threshold
        for score_id, columns in read.items():
            hits = columns.t[columns.v >= threshold]
            if len(hits):
                scan.hot[scores[score_id]] = (int(hits[-1]), float(np.max(columns.v)))
            else:
                scan.hot.pop(scores[score_id], None)
        scan.hot = {i: hit for i, hit in scan.hot.items() if start <= hit[0] <= now_ms}
        return sorted(scan.hot, key=lambda i: (-scan.hot[i][1], -scan.hot[i][0], i))


@dataclass(slots=True)
class _Scan:
    offset: int = 0
    hot: dict[int, tuple[int, float]] = field(default_factory=dict)
