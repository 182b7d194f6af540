"""What models learn nothing of: incidents that somebody took for ones, silences, maintenance."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Generic, TypeVar

from sqlalchemy import RowMapping, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.alerts.feedback import newest
from service.alerts.quiet import silences_of
from service.domain.clock import Clock
from service.domain.errors import InvalidInput
from service.domain.feedback import Verdict, leaves_out
from service.domain.rules import Condition, Rule
from service.domain.series import Matcher, MatchType, Series
from service.domain.silences import SEVERITY, Silence
from service.query.matchers import accepts
from service.storage.sql.engine import Database
from service.storage.sql.tables import alert_feedback, alerts, silences

#: An incident that lasts longer is the new normal: of it, models learn what comes after.
INCIDENT_SECONDS = 7 * 86_400.0

#: The rules that hold for a tenant.
RulesOf = Callable[[str], Awaitable[Sequence[Rule]]]

#: From when to when, Unix seconds.
Span = tuple[float, float]

#: Of one series: what was useful to hear of, and what was noise or expected.
Labelled = tuple[list[Span], list[Span]]

T = TypeVar("T")


class Incidents:
    """The times that models leave out."""

    def __init__(self, database: Database, clock: Clock, rules_of: RulesOf) -> None:
        self._database, self._clock, self._rules_of = database, clock, rules_of

    async def left_out(
        self, tenant: str, since: float, series: Sequence[Series]
    ) -> dict[str, Sequence[Span]]:
        """From and to (Unix seconds) of what ended after `since`, by series.

        Incidents from when the condition first held to their end, at most `INCIDENT_SECONDS`;
        alerts about a forecast say nothing against the time in which they fire. Silences and
        maintenance for those of `series` that they match, and for the series of the alerts that
        they match.
        """
        now = self._clock.now()
        ahead = {r.id for r in await self._rules_of(tenant) if r.condition is Condition.FORECAST}
        async with self._database.read() as connection:
            quiet = await _silences(connection, tenant, since, now)
            fired = [
                row
                for row in await _fired(connection, tenant, since, every=bool(quiet))
                if row["rule_id"] not in ahead
            ]
            verdicts = await newest(connection, tenant, 0.0)
        found: dict[str, list[Span]] = {}
        for row in fired:
            said = verdicts.get(row["id"])
            verdict = None if said is None else Verdict(said["verdict"])
            if leaves_out(verdict, acknowledged=row["acknowledged_at"] is not None):
                begin = row["started_at"]
                end = min(_end(row, now), begin + INCIDENT_SECONDS)
                found.setdefault(row["source"], []).append((begin, end))
        if quiet:
            # Thousands of series against hundreds of silences take a moment.
            for name, span in await asyncio.to_thread(_silenced, quiet, series, fired, now):
                if span not in found.setdefault(name, []):
                    found[name].append(span)
        return dict(found)

    async def labelled(self, tenant: str, since: float) -> Mapping[str, Labelled]:
        """Times of alerts that ended after `since` and that people spoke of, by series."""
        now = self._clock.now()
        ahead = {r.id for r in await self._rules_of(tenant) if r.condition is Condition.FORECAST}
        async with self._database.read() as connection:
            fired = await _fired(connection, tenant, since, every=False)
            verdicts = await newest(connection, tenant, 0.0)
        found: dict[str, Labelled] = {}
        for row in fired:
            said = verdicts.get(row["id"])
            if said is None or row["rule_id"] in ahead:
                continue
            useful = Verdict(said["verdict"]) is Verdict.USEFUL
            times = found.setdefault(row["source"], ([], []))[0 if useful else 1]
            end = min(_end(row, now), row["started_at"] + INCIDENT_SECONDS)
            times.append((row["started_at"], end))
        return found


async def _silences(
    connection: AsyncConnection, tenant: str, since: float, now: float
) -> list[Silence]:
    """Those that have begun and did not end before `since`."""
    query = select(silences).where(
        silences.c.tenant == tenant, silences.c.ends_at >= since, silences.c.starts_at <= now
    )
    query = query.order_by(silences.c.starts_at, silences.c.ends_at, silences.c.id)
    return silences_of((await connection.execute(query)).mappings())


async def _fired(
    connection: AsyncConnection, tenant: str, since: float, *, every: bool
) -> Sequence[RowMapping]:
    """Alerts that have fired and did not end before `since`: each, or those that somebody took."""
    query = select(
        alerts.c.id,
        alerts.c.rule_id,
        alerts.c.source,
        alerts.c.labels,
        alerts.c.severity,
        alerts.c.started_at,
        alerts.c.fired_at,
        alerts.c.resolved_at,
        alerts.c.acknowledged_at,
    ).where(
        alerts.c.tenant == tenant,
        alerts.c.fired_at.is_not(None),
        or_(alerts.c.resolved_at.is_(None), alerts.c.resolved_at >= since),
    )
    if not every:
        said = select(alert_feedback.c.alert_id).where(alert_feedback.c.tenant == tenant)
        query = query.where(or_(alerts.c.acknowledged_at.is_not(None), alerts.c.id.in_(said)))
    return (await connection.execute(query)).mappings().all()


def _silenced(
    quiet: Sequence[Silence],
    series: Sequence[Series],
    fired: Sequence[RowMapping],
    now: float,
) -> list[tuple[str, Span]]:
    """Series (16 hex digits) with the times of the silences that are about them."""
    known = _Index((one.hex, dict(one.labels)) for one in series)
    told = _Index((row, {**row["labels"], SEVERITY: row["severity"]}) for row in fired)
    found: list[tuple[str, Span]] = []
    for silence in quiet:
        begin, end = silence.not_learned
        if end <= begin:
            continue
        if not silence.names_alerts:
            found += [(name, (begin, end)) for name in known.matching(silence.matchers)]
        for row in told.matching(silence.matchers):
            overlaps = row["fired_at"] < silence.ends_at and _end(row, now) >= begin
            if row["source"] and overlaps:
                found.append((row["source"], (begin, end)))
    return found


def _end(alert: RowMapping, now: float) -> float:
    end: float | None = alert["resolved_at"]
    return now if end is None else end


class _Index(Generic[T]):
    """Things by their labels, so that a matcher that demands a value looks at few of them."""

    def __init__(self, things: Iterable[tuple[T, Mapping[str, str]]]) -> None:
        self._all = list(things)
        self._by_pair: dict[tuple[str, str], list[int]] = {}
        for number, (_, labels) in enumerate(self._all):
            for pair in labels.items():
                self._by_pair.setdefault(pair, []).append(number)
        self._known: dict[tuple[Matcher, ...], list[T]] = {}

    def matching(self, matchers: tuple[Matcher, ...]) -> list[T]:
        """The things that every matcher accepts."""
        if matchers not in self._known:
            self._known[matchers] = self._look(matchers)
        return self._known[matchers]

    def _look(self, matchers: tuple[Matcher, ...]) -> list[T]:
        demanded = [
            self._by_pair.get((m.name, m.value), [])
            for m in matchers
            if m.type is MatchType.EQUAL and m.value
        ]
        numbers = min(demanded, key=len) if demanded else range(len(self._all))
        # Labels have few values among many series, and expressions take long to match.
        asked: list[tuple[Matcher, dict[str, bool]]] = [(matcher, {}) for matcher in matchers]
        try:
            return [
                self._all[i][0]
                for i in numbers
                if all(_accepts(m, self._all[i][1].get(m.name, ""), seen) for m, seen in asked)
            ]
        except InvalidInput:  # an expression that this version no longer takes
            return []


def _accepts(matcher: Matcher, value: str, seen: dict[str, bool]) -> bool:
    found = seen.get(value)
    if found is None:
        found = seen[value] = accepts((matcher,), {matcher.name: value})
    return found
