"""What a person should know about a tenant's metrics, in sentences, the most important first.

Every figure in a sentence is computed from stored samples, alerts or models and stands in the
finding's evidence.
"""

from collections.abc import Iterator

import numpy as np

from service.domain.clock import Clock
from service.domain.confidence import PAGES_FROM
from service.domain.durations import format_duration
from service.domain.quotas import QuotaOf
from service.domain.rules import Severity
from service.domain.series import parse_series_id
from service.insights import unusual, words
from service.insights.coming import ahead
from service.insights.finding import Finding, Kind, clearest
from service.insights.levels import new_levels
from service.insights.look import WINDOW, Look, Looker, RulesOf
from service.insights.reading import Watched
from service.insights.together import together
from service.insights.trends import Trends, growing
from service.query.source import Source
from service.settings import Settings
from service.storage.columns import Columns
from service.storage.sql.engine import Database

_MOST, _MOST_CHANGES = 30, 6
_FLAPS = 5
_FOR_STEPS = (60, 120, 180, 300, 480, 600, 900, 1200, 1800, 3600)
_DAY = 86400.0


class Findings:
    """Computes findings. `rules_of` gives the rules that hold for a tenant, `quota` its limits."""

    def __init__(
        self,
        source: Source,
        database: Database,
        clock: Clock,
        settings: Settings,
        rules_of: RulesOf,
        quota: QuotaOf | None = None,
        trends: Trends | None = None,
    ) -> None:
        self._source = source
        self._clock = clock
        self._quota = quota
        self._trends = trends
        self._settings = settings
        self._looker = Looker(source, database, settings, rules_of)

    async def look(self, tenant: str, now: float | None = None) -> Look:
        """Read what findings are made of."""
        return await self._looker.look(tenant, self._clock.now() if now is None else now)

    async def for_tenant(self, tenant: str, now: float | None = None) -> list[Finding]:
        """What is worth knowing now, most important first, at most 30."""
        return await self.of(await self.look(tenant, now))

    async def of(self, look: Look) -> list[Finding]:
        """The findings of a look."""
        own = None if self._quota is None else await self._quota(look.tenant)
        limits = own or self._settings.shipped_quota
        levels = new_levels(look)
        told = {series for finding in levels for series in finding.series}
        found = [
            *alerts_full(look, limits.active_alerts),
            *unusual_now(look),
            *await together(self._source, look, self._settings.anomaly_detection_threshold),
            *silent(look, self._settings.series_lookback_seconds),
            *ahead(look),
            *(await growing(self._trends, look) if self._trends is not None else ()),
            *noisy_rules(look),
            *models(look, self._settings.training_min_rows),
            *levels,
            *(f for f in await self._changed(look) if not told.issuperset(f.series)),
        ]
        return sorted(found, key=lambda f: (f.severity.rank, -f.size, f.title))[:_MOST]

    async def _changed(self, look: Look) -> list[Finding]:
        """Levels of the last six hours against the same hours yesterday and a week ago."""
        ids = [
            i
            for i, w in look.watched.items()
            if i not in look.runs and len(w.samples.t) and w.last is not None
        ]
        end, length = look.now_ms, round(WINDOW * 1000)
        before = [
            await self._source.read(look.tenant, ids, end - back - length, end - back)
            for back in (round(_DAY * 1000), round(7 * _DAY * 1000))
        ]
        found = []
        for i in ids:
            w = look.watched[i]
            recent = w.samples.between(end - length, end)
            finding = _change(w, recent, before[0][i], before[1][i])
            if finding is not None:
                found.append(finding)
        return clearest(found, _MOST_CHANGES)


def unusual_now(look: Look) -> Iterator[Finding]:
    """One finding a metric: its leading unusual series, where it sits and what moved with it."""
    alerted = {parse_series_id(a.source) for a in look.alerts if a.source}
    by_name: dict[str, list[int]] = {}
    for i in look.runs:
        by_name.setdefault(look.watched[i].series.name, []).append(i)
    for name, ids in by_name.items():

        def leading(i: int) -> tuple[bool, int, float]:
            tags = len(look.watched[i].series.tags)
            return (i not in alerted, tags, -look.runs[i].size)

        ids.sort(key=leading)
        w, run = look.watched[ids[0]], look.runs[ids[0]]
        told = [describe_run(w, run, look.now)]
        where = unusual.where(w, run, look.family(name))
        if where is not None:
            told.append(where.text)
        others = [o for o in look.watched.values() if o.series.name != name]
        moves = unusual.moved_with(w, run, others)
        if moves:
            told.append(f"with it {unusual.moves_text(moves, 2)}")
        stands = look.standings[ids[0]]
        sure = stands.confidence >= PAGES_FROM
        if not sure:
            told.append("too little is known of it yet to alert anybody")
        title = words.metric_words(name)
        title += (
            " behaves unusually"
            if run.expected is None
            else f" {words.verdict(run.value, run.expected)}"
        )
        yield Finding(
            Kind.UNUSUAL,
            _severity(run, sure),
            title,
            "; ".join(told),
            tuple(look.watched[i].series.hex for i in ids),
            run.since / 1000,
            {
                "value": run.value,
                "expected": run.expected,
                "share": run.share,
                "unusual_points": run.points,
                "since": run.since / 1000,
                "where": {"label": where.label, "value": where.value, "share": where.share}
                if where
                else None,
                "moved_with": [
                    {"series": m.series.hex, "share": m.share, "seconds_earlier": m.lead / 1000}
                    for m in moves[:5]
                ],
                "model_state": str(stands.state),
                "confidence": round(stands.confidence, 3),
            },
            run.size,
            name,
        )


def _severity(run: unusual.Run, sure: bool) -> Severity:
    if not sure:
        return Severity.LOW
    return Severity.HIGH if run.size >= 0.25 and not run.ended else Severity.MEDIUM


def describe_run(w: Watched, run: unusual.Run, now: float) -> str:
    """“eu-west: 31 % under expectation for 14 minutes, 42,100 instead of 61,000”."""
    name = w.series.name
    lasting = words.span(max(run.until - run.since, w.step_ms) / 1000)
    when = f"for {lasting}"
    if run.ended:
        when += f" until {words.span(now - run.until / 1000)} ago"
    if run.expected is None:
        text = f"{words.rough(run.value, name)}, unusual {when}"
    else:
        text = f"{words.against(run.value, run.expected, name)} {when}"
        if run.share is not None:
            text += f", {words.rough(run.value, name)} instead of "
            text += words.rough(run.expected, name)
    return words.placed(w.series, text)


def silent(look: Look, lookback: float) -> Iterator[Finding]:
    """Series that stopped reporting within the last hours; one finding a metric."""
    by_name: dict[str, list[Watched]] = {}
    for w in look.watched.values():
        if w.silent(look.now, lookback):
            by_name.setdefault(w.series.name, []).append(w)
    for name, group in by_name.items():
        group.sort(key=lambda w: w.last[0] if w.last else 0)
        last = max(w.last[0] for w in group if w.last) / 1000
        ruled = any(look.rules_for(w.series) for w in group)
        places = [p for w in group if (p := words.place(w.series))]
        every = words.span(group[0].step_ms / 1000)
        text = f"nothing for {words.span(look.now - last)}; it used to report every {every}"
        yield Finding(
            Kind.SILENT,
            Severity.MEDIUM if ruled else Severity.LOW,
            f"{words.metric_words(name)} fell silent",
            f"{words.listing(places)}: {text}" if places else text,
            tuple(w.series.hex for w in group),
            last,
            {
                "last_seen": {w.series.hex: w.last[0] / 1000 for w in group if w.last},
                "step_seconds": group[0].step_ms / 1000,
            },
            float(len(group)),
            name,
        )


def alerts_full(look: Look, limit: int) -> Iterator[Finding]:
    """That no further alert begins, since as many are active as may be."""
    active = len(look.alerts)
    if active >= limit:
        yield Finding(
            Kind.ALERTS_FULL,
            Severity.HIGH,
            "No further alert begins",
            f"{active:,} alerts are active and {limit:,} may be; what else meets a rule has to wait"
            " until some are over",
            evidence={"active": active, "limit": limit},
            size=float(active),
            about="alerts",
        )


def noisy_rules(look: Look) -> Iterator[Finding]:
    """Rules that fired at least five times in a week and that nobody ever acknowledged."""
    by_rule: dict[str, list[tuple[float, float]]] = {}
    names: dict[str, str] = {}
    answered = {e.rule_id for e in look.episodes if e.acknowledged}
    for e in look.episodes:
        names.setdefault(e.rule_id, e.rule_name)
        lasted = (e.resolved_at if e.resolved_at is not None else look.now) - e.started_at
        by_rule.setdefault(e.rule_id, []).append((lasted, e.fired_at - e.started_at))
    for rule_id, both in by_rule.items():
        number = len(both)
        if number < _FLAPS or rule_id in answered:
            continue
        durations = np.array([pair[0] for pair in both])
        waits = float(np.median([pair[1] for pair in both]))
        text = f"{words.count(number, 'alert')} in seven days, none acknowledged"
        evidence: dict[str, object] = {
            "rule_id": rule_id,
            "alerts": number,
            "acknowledged": 0,
            "median_seconds": float(np.median(durations)),
        }
        for wait in _FOR_STEPS:
            removed = float(np.mean(durations < wait))
            if wait > waits and removed >= 0.6:
                text += (
                    f"; “for: {format_duration(wait)}” would remove {words.percent(removed)}"
                    f" and delay the rest by {words.span(wait - waits)}"
                )
                evidence.update(for_seconds=wait, removed=removed, delay_seconds=wait - waits)
                break
        yield Finding(
            Kind.NOISY_RULE,
            Severity.LOW,
            f"Rule “{names[rule_id]}” is noisy",
            text,
            (),
            None,
            evidence,
            float(number),
            rule_id,
        )


def models(look: Look, rows_needed: int) -> Iterator[Finding]:
    """Models that could not be trained, and series still being learned."""
    failed = look.models.counts.get("failed", 0)
    if failed:
        first, error = next(iter(look.models.failed.items()))
        known = look.known.get(parse_series_id(first) or -1)
        about = words.named(known) if known else f"series {first}"
        more = f" (and {failed - 1} more)" if failed > 1 else ""
        yield Finding(
            Kind.MODEL_FAILED,
            Severity.LOW,
            f"{words.count(failed, 'series has', 'series have')} no working model",
            f"{about}{more}: {error}",
            tuple(look.models.failed),
            None,
            {"errors": dict(look.models.failed), "failed": failed},
            float(failed),
            "models",
        )
    cold = look.models.counts.get("cold", 0)
    if cold:
        text = f"a model needs {rows_needed:,} samples"
        if look.models.cold_rows:
            text += f"; the longest of them has {look.models.cold_rows:,}"
        yield Finding(
            Kind.LEARNING,
            Severity.INFO,
            f"{words.count(cold, 'series is', 'series are')} still being learned",
            text,
            (),
            None,
            {"cold": cold, "rows_needed": rows_needed, "most_rows": look.models.cold_rows},
            float(cold),
            "learning",
        )


def _change(w: Watched, recent: Columns, yesterday: Columns, last_week: Columns) -> Finding | None:
    now = recent.v[np.isfinite(recent.v)]
    past = [c.v[np.isfinite(c.v)] for c in (yesterday, last_week)]
    if len(now) < 6 or len(past[0]) < 6:
        return None
    level, day = float(np.mean(now)), float(np.mean(past[0]))
    week = float(np.mean(past[1])) if len(past[1]) >= 6 else None
    share = words.relative(level, day)
    if share is None or abs(share) < 0.2:
        return None
    # Both quarters must lie apart, or a few extremes would speak for six hours.
    low, high = np.percentile(now, 25), np.percentile(now, 75)
    was_low, was_high = np.percentile(past[0], 25), np.percentile(past[0], 75)
    if not (low > was_high if share > 0 else high < was_low):
        return None
    if week is not None:
        weekly = words.relative(level, week)
        if weekly is None or weekly * share <= 0 or abs(weekly) < 0.1:
            return None
    name = w.series.name
    text = f"{words.rough(level, name)} over the last six hours against "
    text += f"{words.rough(day, name)} at these hours yesterday"
    if week is not None:
        text += f" and {words.rough(week, name)} a week ago"
    return Finding(
        Kind.CHANGED,
        Severity.LOW,
        f"{words.metric_words(name)} {'up' if share > 0 else 'down'} {_by(share)} on yesterday",
        words.placed(w.series, text),
        (w.series.hex,),
        None,
        {"level": level, "yesterday": day, "week_ago": week, "share": share},
        abs(share),
        name,
    )


def _by(share: float) -> str:
    return words.change(share) if share >= 2 else words.percent(share)
