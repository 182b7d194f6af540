"""Judges the rules of the tenants that a worker owns.

All of a tenant's rules at every interval, aligned to the clock; in between, and between two turns
of that, as soon as samples arrive, those that look at them. What arrives is judged together, and
takes a quarter of the time at most: with many rules and many samples an answer comes later.
"""

import asyncio
import time
from collections import deque
from collections.abc import Collection, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import structlog

from service import telemetry
from service.alerts.outbound import Chart
from service.domain.errors import NotFound, OffbeatError
from service.domain.rules import Rule
from service.domain.series import Series
from service.query.promql.budget import QueryTimeout, QueryTooDear
from service.rules.anomalies import Confidence
from service.rules.evaluator import Judgement, Memory, evaluate
from service.rules.health import held, short
from service.rules.watches import Watches
from service.storage.columns import Columns
from service.storage.head import Head
from service.wiring import Wiring
from service.worker.shards import Shards

log = structlog.get_logger(__name__)

#: Samples in the picture of a notification.
_CHART_POINTS = 288
#: Real seconds in which rules are judged one after the other before others have their turn.
_TURN_SECONDS = 0.05
#: Of the interval, what judging the rules of one tenant takes at most.
_TENANT_SHARE = 0.5
#: Of the time, what judging what has just arrived takes at most, and the least real seconds
#: between two looks at it.
_SHARE, _PAUSE_SECONDS = 0.25, 0.02


class Judging:
    """The rules of one worker. `arrived` notes samples; `step` is to be repeated."""

    def __init__(self, wiring: Wiring, shards: Shards) -> None:
        self._w = wiring
        self._shards = shards
        self._memory = Memory()
        self._watches: dict[str, Watches] = {}
        self._arrived: dict[str, set[int]] = {}
        self._news = asyncio.Event()
        self._changed: set[str] = set()  # tenants whose rules have
        #: While all rules of a tenant are judged: those that news had judged, and what came of it.
        self._meanwhile: dict[str, dict[str, str]] = {}
        #: Where judging all rules of a tenant goes on that had no time for all of them.
        self._next: dict[str, str] = {}
        #: Rules that cost more than they may: they are judged with all others, not at each sample.
        self._dear: set[tuple[str, str]] = set()
        self._due = 0.0
        self._not_before = 0.0

    @property
    def head(self) -> Head:
        """The samples that are judged."""
        return self._shards.head

    def arrived(self, tenant: str, ids: Iterable[int]) -> None:
        """Samples of these series are in the head."""
        self._arrived.setdefault(tenant, set()).update(ids)
        self._news.set()

    def forget(self, tenant: str) -> None:
        """The tenant is judged elsewhere now."""
        self._memory.forget(tenant)
        self._watches.pop(tenant, None)
        self._arrived.pop(tenant, None)
        self._next.pop(tenant, None)
        self._dear = {key for key in self._dear if key[0] != tenant}

    async def hear(self) -> None:
        """Rules have changed, or what people say of alerts."""
        async for _, tenant in self._w.wake.listen("rules"):
            self._w.feedback.forget(tenant)
            self._changed.add(tenant)
            self._news.set()

    async def step(self, stop: asyncio.Event) -> None:
        """Judge what is due, and wait until something is, or until `stop`."""
        now = self._w.clock.now()
        interval = self._w.settings.alert_evaluation_interval
        if now >= self._due or self._due > now + 2 * interval:  # or the clock was set back
            await self._judge_all(now)
            self._due = (now // interval + 1) * interval
        elif self._arrived or self._changed:
            await self._judge_news(now)
        await self._wait(stop)

    async def _wait(self, stop: asyncio.Event) -> None:
        rest = self._not_before - time.monotonic()
        if not self._arrived and not self._changed:
            self._news.clear()
        await first_of(
            self._w.clock.sleep(max(0.0, self._due - self._w.clock.now())),
            asyncio.sleep(max(rest, 0.0)) if self._news.is_set() else self._news.wait(),
            stop.wait(),
        )

    async def _judge_all(self, now: float) -> None:
        """Every rule of every tenant."""
        await self._w.rules_file.reload_if_changed()
        for tenant in self._shards.ready():
            await self._judge_whole(tenant, now)

    async def _judge_news(self, now: float) -> None:
        """Rules that have changed, those of tenants that are new, and what has arrived."""
        begun = time.monotonic()
        if begun < self._not_before:
            return
        await self._judge_arrived(now)
        new = self._changed | (self._arrived.keys() - self._watches.keys())
        self._changed = set()
        for tenant in new & set(self._shards.ready()):  # of others, samples are still being read
            await self._judge_whole(tenant, now)
        self._rest(begun)

    async def _judge_arrived(self, now: float) -> None:
        """The rules that look at what has arrived since the last time, if it is time for that."""
        begun = time.monotonic()
        if begun < self._not_before:
            return
        for tenant in self._arrived.keys() & self._watches.keys() & set(self._shards.ready()):
            ids, known = self._arrived.pop(tenant), self.head.series(tenant)
            found = await asyncio.to_thread(self._watches[tenant].touched, ids, known)
            rules = [rule for rule in found if (tenant, rule.id) not in self._dear]
            said = await self._judge(tenant, rules, now)
            if tenant in self._meanwhile:
                self._meanwhile[tenant] |= {rule.id: said.get(rule.id, "") for rule in rules}
        self._rest(begun)

    def _rest(self, begun: float) -> None:
        """What has arrived waits until others have had their share of the time."""
        taken = time.monotonic() - begun
        self._not_before = begun + max(taken / _SHARE, _PAUSE_SECONDS)

    async def _judge_whole(self, tenant: str, now: float) -> None:
        """Every rule of a tenant."""
        try:
            await self._w.tenants.limits(tenant)
        except NotFound:
            self._shards.forget(tenant)  # deleted
            return
        book = self._w.rules_file.book
        rules = await self._w.rules.all_for(tenant, book)
        await self._w.feedback.refresh(tenant)
        self._arrived.pop(tenant, None)
        self._meanwhile[tenant] = {}
        begun = time.perf_counter()
        try:
            told = await self._judge(tenant, rules, now, whole=True)
        finally:
            told_by_news = self._meanwhile.pop(tenant)
        telemetry.JUDGING_SECONDS.observe(time.perf_counter() - begun)
        await self._w.engine.retire(tenant, {rule.id for rule in rules}, now)
        told |= {rule_id: why for rule_id, why in told_by_news.items() if why}
        await self._w.rule_health.report(tenant, told | self._w.engine.held(tenant))
        enabled = [rule for rule in rules if rule.enabled]
        known = self._watches.get(tenant)
        if known is None or known.rules != enabled:
            self._watches[tenant] = await asyncio.to_thread(self._watching, tenant, enabled)

    def _watching(self, tenant: str, rules: Sequence[Rule]) -> Watches:
        return Watches([self._memory.plans.of(tenant, rule) for rule in rules])

    async def _judge(
        self, tenant: str, rules: Sequence[Rule], now: float, *, whole: bool = False
    ) -> dict[str, str]:
        """Judge rules and bring their alerts to it; one that fails is logged and stops no other.

        By rule id: why some could not be judged, or say less than they might. If these are all
        rules of the tenant, the `whole`, what arrives is judged between two turns; the rules that
        look at it are done then, for they were judged at a later time than these are.
        """
        told: dict[str, str] = {}
        judged = failed = 0
        confidence = await self._w.standings.of(tenant)
        firing = await self._w.engine.firing(tenant)
        waiting = deque(rules)
        begun, most = time.monotonic(), self._w.settings.alert_evaluation_interval * _TENANT_SHARE
        if whole:
            waiting.rotate(-self._first(tenant, rules))
        while waiting:
            if whole and time.monotonic() - begun > most:
                told |= self._postponed(tenant, waiting)
                break
            if whole and self._arrived:
                await self._judge_arrived(self._w.clock.now())
                done = self._meanwhile[tenant]
                waiting = deque(rule for rule in waiting if rule.id not in done)
            look = partial(self._evaluated, tenant, waiting, now, confidence, firing)
            for rule, outcome in await asyncio.to_thread(look):
                judged += 1
                if isinstance(outcome, QueryTooDear | QueryTimeout):
                    self._dear.add((tenant, rule.id))
                else:
                    self._dear.discard((tenant, rule.id))
                why = (
                    outcome
                    if isinstance(outcome, Exception)
                    else await self._applied(tenant, rule, outcome, now)
                )
                if isinstance(why, Exception):
                    failed += 1
                    told[rule.id] = str(why) or type(why).__name__
                elif why:
                    told[rule.id] = why
        telemetry.RULES_EVALUATED.inc(judged - failed)
        telemetry.RULE_ERRORS.inc(failed)
        return told

    def _first(self, tenant: str, rules: Sequence[Rule]) -> int:
        """The place of the rule that comes first now."""
        after = self._next.pop(tenant, None)
        return next((i for i, rule in enumerate(rules) if rule.id == after), 0) if after else 0

    def _postponed(self, tenant: str, waiting: Sequence[Rule]) -> dict[str, str]:
        """Rules that have to wait for the next turn, lest other tenants do."""
        self._next[tenant] = waiting[0].id
        log.warning("rules take too long", tenant=tenant, waiting=len(waiting))
        said = (
            "it waits for its turn: the tenant's rules take longer than "
            f"{_TENANT_SHARE:.0%} of ALERT_EVALUATION_INTERVAL together"
        )
        return {rule.id: said for rule in waiting}

    def _evaluated(
        self,
        tenant: str,
        waiting: deque[Rule],
        now: float,
        confidence: Confidence,
        firing: Mapping[str, Collection[str]],
    ) -> list[tuple[Rule, list[Judgement] | Exception]]:
        """What rules say, as many as one turn has time for; those are taken from what waits."""
        settings, found = self._w.settings, list[tuple[Rule, list[Judgement] | Exception]]()
        until = time.monotonic() + _TURN_SECONDS
        while waiting and (not found or time.monotonic() < until):
            rule = waiting.popleft()
            try:
                judgements = evaluate(
                    rule,
                    tenant,
                    self.head,
                    now,
                    lookback_seconds=settings.series_lookback_seconds,
                    anomaly_threshold=settings.anomaly_detection_threshold,
                    memory=self._memory,
                    factors=self._w.feedback.factors(tenant, rule.id),
                    confidence=confidence,
                    firing=firing.get(rule.id, ()),
                    public_url=settings.public_url,
                    well_too=self._w.engine.concerned(tenant, rule.id),
                )
            except OffbeatError as error:  # of the rule, or of what it meets: people are told
                found.append((rule, error))
            except Exception as error:
                log.exception("rule failed", tenant=tenant, rule=rule.name)
                found.append((rule, error))
            else:
                found.append((rule, judgements))
        return found

    async def _applied(
        self, tenant: str, rule: Rule, judgements: list[Judgement], now: float
    ) -> str | Exception:
        """Bring a rule's alerts to what was judged; why it says less than it might, if it does."""
        said = held(judgements) or short(judgements)
        if not self._w.engine.concerned(tenant, rule.id) and not any(j.active for j in judgements):
            return said  # as nearly all rules are nearly always
        courses = {j.series.id: j.course for j in judgements if j.course is not None}
        try:
            await self._w.engine.apply(
                tenant,
                rule,
                judgements,
                now,
                policies=self._w.rules_file.book.policies,
                chart_of=lambda series: self._chart(tenant, series, courses),
                absence=self._memory.plans.of(tenant, rule).absence,
            )
        except OffbeatError:
            raise
        except Exception as error:
            log.exception("rule failed", tenant=tenant, rule=rule.name)
            return error
        return said

    def _chart(self, tenant: str, series: Series, courses: Mapping[int, Columns]) -> Chart | None:
        """The newest values, for the picture in a notification."""
        course = courses.get(series.id)
        t, v = self.head.columns(tenant, series.id) if course is None else course
        if not len(t):
            return None
        return {"t": t[-_CHART_POINTS:].tolist(), "v": v[-_CHART_POINTS:].tolist()}


async def first_of(*waits: Coroutine[Any, Any, object]) -> None:
    """Return when one of the waits is over; the others are dropped."""
    waiting = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting:
            one.cancel()
