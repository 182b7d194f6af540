"""Turns judgements into alerts, notifications and timers.

Open alerts are held in memory by rule and series, so an evaluation that changes nothing asks
nothing of SQL. What does change is decided again on the rows as they are, in the transaction that
writes the change together with its notifications, timers and timeline: of two replicas that
decide the same, the second finds it done.
"""

import math
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import structlog
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from service import telemetry
from service.alerts.announce import Plan
from service.alerts.outbound import Limits, Outbound
from service.alerts.records import alert_of
from service.alerts.transition import ChartOf, Task, Transition
from service.domain.alerts import ACTIVE, Alert, AlertState, Decision, Move, step
from service.domain.clock import Clock
from service.domain.quotas import QuotaOf
from service.domain.rules import EscalationPolicy, Rule, RuleBook
from service.rules.evaluator import Judgement
from service.settings import Settings
from service.storage.sql.engine import Database
from service.storage.sql.statements import lock_tenant
from service.storage.sql.tables import alerts
from service.storage.wake import WakeUps

log = structlog.get_logger(__name__)

ACTOR = "engine"

#: Changes that share a transaction.
_TOGETHER = 100

#: Seconds between looks at SQL for alerts that another replica has opened.
_REREAD_SECONDS = 300.0

DefaultChannels = Callable[[str], Awaitable[Sequence[str]]]

_Open = dict[str, dict[str, Alert]]  # by rule id and fingerprint


@dataclass(slots=True)
class _Held:
    """Series that meet a rule and open no alert, since the tenant has as many as it may."""

    limit: int
    told_at: float
    by_rule: dict[str, int] = field(default_factory=dict)


class AlertEngine:
    """The alerts of the tenants that this worker judges.

    `default_channels` gives the channels for rules that name none and have no policy, `quota` how
    many alerts of a tenant may be active; without it the shipped limit holds.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        wake: WakeUps,
        settings: Settings,
        default_channels: DefaultChannels | None = None,
        *,
        quota: QuotaOf | None = None,
    ) -> None:
        self._database, self._clock, self._wake = database, clock, wake
        self._lookback = settings.series_lookback_seconds
        self._absent = settings.absent_resolve_seconds
        self._limits = Limits(settings.max_alerts_per_hour, settings.public_url)
        self._default_channels = default_channels
        self._quota, self._shipped = quota, settings.shipped_quota
        self._held: dict[str, _Held] = {}
        self._open: dict[str, _Open] = {}
        self._read_at: dict[str, float] = {}
        self._queries: dict[tuple[str, str], Rule] = {}

    async def apply(
        self,
        tenant: str,
        rule: Rule,
        judgements: Iterable[Judgement],
        now: float,
        *,
        policies: Sequence[EscalationPolicy] = (),
        chart_of: ChartOf | None = None,
        absence: bool | None = None,
    ) -> list[Alert]:
        """Bring a rule's alerts to what was judged at `now`; those that changed, as they are now.

        `policies` are those of the rules file. `absence` says whether a series that was not judged
        still breaks the rule; None: nobody knows. `chart_of` gives a picture for notifications.
        With as many active alerts as the tenant may have, none begins; `held` then says so.
        """
        opened = await self._opened(tenant)
        quota = self._shipped if self._quota is None else await self._quota(tenant)
        limit = quota.active_alerts
        room = limit - sum(map(len, opened.values()))
        tasks, held = self._tasks(
            tenant, rule, judgements, absence, opened.get(rule.id, {}), now, room
        )
        changed: list[Alert] = []
        if tasks:
            policy = RuleBook(policies=tuple(policies)).policy(rule.escalation)
            default: Sequence[str] = ()
            if policy is None and not rule.channels and self._default_channels is not None:
                default = await self._default_channels(tenant)
            plan = Plan.of(rule, policy, default)
            waiting = iter(tasks)
            while some := list(islice(waiting, _TOGETHER)):
                done, refused = await self._commit(tenant, rule, some, plan, now, limit, chart_of)
                changed += done
                held += refused
        self._hold(tenant, rule, held, limit, now)
        return changed

    async def retire(self, tenant: str, live_rule_ids: Collection[str], now: float) -> list[Alert]:
        """End the alerts of rules that are not among `live_rule_ids`; those that were resolved."""
        opened = await self._opened(tenant)
        gone = [rule_id for rule_id in opened if rule_id not in live_rule_ids]
        ended: list[Alert] = []
        for rule_id in gone:
            self._queries.pop((tenant, rule_id), None)
            waiting = iter(list(opened.get(rule_id, {})))
            while some := list(islice(waiting, _TOGETHER)):
                tasks = [Task(fingerprint, None, "rule deleted") for fingerprint in some]
                ended += (await self._commit(tenant, rule_id, tasks, None, now, 0))[0]
        if tenant in self._held:
            for rule_id in self._held[tenant].by_rule.keys() - set(live_rule_ids):
                del self._held[tenant].by_rule[rule_id]
        return ended

    def held(self, tenant: str) -> dict[str, str]:
        """By rule id: that series meet it and open no alert, since too many are active."""
        found = self._held.get(tenant)
        if found is None:
            return {}
        return {
            rule_id: f"{count:,} more series meet it and open no alert: the tenant has the "
            f"{found.limit:,} active alerts that it may have"
            for rule_id, count in found.by_rule.items()
        }

    async def firing(self, tenant: str) -> dict[str, frozenset[str]]:
        """The fingerprints of alerts that fire, by rule id."""
        return {
            rule_id: frozenset(
                one for one, alert in mine.items() if alert.state is AlertState.FIRING
            )
            for rule_id, mine in (await self._opened(tenant)).items()
        }

    def concerned(self, tenant: str, rule_id: str) -> bool:
        """Whether a rule has open alerts, or some that found no room, going by memory."""
        held = self._held.get(tenant)
        known = self._open.get(tenant)
        return known is None or rule_id in known or (held is not None and rule_id in held.by_rule)

    def open(self, tenant: str) -> list[Alert]:
        """The pending and firing alerts in memory."""
        return [alert for mine in self._open.get(tenant, {}).values() for alert in mine.values()]

    def forget(self, tenant: str) -> None:
        """Another worker judges the tenant now; SQL has everything."""
        self._open.pop(tenant, None)
        self._read_at.pop(tenant, None)
        self._held.pop(tenant, None)
        self._queries = {key: rule for key, rule in self._queries.items() if key[0] != tenant}

    def _tasks(
        self,
        tenant: str,
        rule: Rule,
        judgements: Iterable[Judgement],
        absence: bool | None,
        mine: dict[str, Alert],
        now: float,
        room: int,
    ) -> tuple[list[Task], int]:
        """What has to change, going by memory; notes in memory what was seen.

        Of the alerts that would begin, those for which there is no room are counted only.
        """
        tasks: list[Task] = []
        held = 0
        seen: set[str] = set()
        for judgement in judgements:
            if not mine and judgement.active is not True:
                continue
            fingerprint = judgement.series.hex
            alert = mine.get(fingerprint)
            seen.add(fingerprint)
            decision = self._step(alert, rule, judgement.active, now)
            if decision.move is Move.KEEP and alert is not None:
                if judgement.active:
                    mine[fingerprint] = replace(alert, last_seen_at=now)
            elif decision.move is not Move.NOTHING:
                if alert is None:
                    room -= 1
                    if room < 0:
                        held += 1
                        continue
                tasks.append(Task(fingerprint, judgement))
        before = self._queries.get((tenant, rule.id), rule)
        self._queries[tenant, rule.id] = rule
        for fingerprint, alert in mine.items():
            if not rule.enabled:
                tasks.append(Task(fingerprint, None, "rule disabled"))
            elif fingerprint in seen:
                continue
            elif (before.query, before.expr) != (rule.query, rule.expr):
                tasks.append(Task(fingerprint, None, "rule changed"))
            elif self._step(alert, rule, absence, now).move is not Move.KEEP:
                tasks.append(Task(fingerprint, None, absence=absence))
        return tasks, held

    def _hold(self, tenant: str, rule: Rule, held: int, limit: int, now: float) -> None:
        """Note what found no room, and say so once an evaluation."""
        known = self._held.get(tenant)
        if not held:
            if known is not None:
                known.by_rule.pop(rule.id, None)
                if not known.by_rule:
                    del self._held[tenant]
            return
        telemetry.ALERTS_HELD.inc(held)
        if known is None or known.told_at != now:
            log.warning(
                "too many active alerts", tenant=tenant, rule=rule.id, held=held, limit=limit
            )
        if known is None:
            known = self._held[tenant] = _Held(limit, now)
        known.limit, known.told_at = limit, now
        known.by_rule[rule.id] = held

    def _step(self, alert: Alert | None, rule: Rule, active: bool | None, now: float) -> Decision:
        return step(
            alert,
            rule,
            active,
            now,
            lookback_seconds=self._lookback,
            absent_resolve_seconds=self._absent,
        )

    async def _opened(self, tenant: str) -> _Open:
        """A tenant's open alerts; read from SQL at first and now and then."""
        now = self._clock.now()
        if now - self._read_at.get(tenant, -math.inf) < _REREAD_SECONDS and tenant in self._open:
            return self._open[tenant]
        query = select(alerts).where(
            alerts.c.tenant == tenant, alerts.c.state.in_([str(state) for state in ACTIVE])
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        known, found = self._open.get(tenant, {}), _Open()
        for alert in map(alert_of, rows):
            memory = known.get(alert.rule_id, {}).get(alert.fingerprint)
            # SQL is not told of every sample; a series is not silent because we were.
            seen = now if memory is None else memory.last_seen_at
            mine = found.setdefault(alert.rule_id, {})
            mine[alert.fingerprint] = replace(alert, last_seen_at=seen)
        self._open[tenant], self._read_at[tenant] = found, now
        return found

    async def _commit(
        self,
        tenant: str,
        rule: Rule | str,
        tasks: Sequence[Task],
        plan: Plan | None,
        now: float,
        limit: int,
        chart_of: ChartOf | None = None,
    ) -> tuple[list[Alert], int]:
        """The alerts that changed, and how many could not begin."""
        rule_id = rule if isinstance(rule, str) else rule.id
        opened = await self._opened(tenant)
        mine = opened.setdefault(rule_id, {})
        try:
            async with self._database.begin() as connection:
                await lock_tenant(connection, tenant)
                out = Outbound(connection, tenant, self._limits, now, ACTOR)
                work = Transition(connection, out, tenant, rule, now, limit)
                await work.decide(tasks, mine, self._step)
                await work.write(plan, chart_of)
                awaited = await out.flush()
        except IntegrityError:
            # Another replica wrote what we were about to; the next evaluation sees it.
            log.info("alerts changed elsewhere", tenant=tenant, rule=rule_id)
            self.forget(tenant)
            return [], 0
        for fingerprint, alert in work.now_open.items():
            if alert is None:
                mine.pop(fingerprint, None)
            else:
                mine[fingerprint] = alert
        if not mine:
            opened.pop(rule_id, None)
        for alert in work.changed:
            telemetry.ALERT_TRANSITIONS.labels(state=str(alert.state)).inc()
        if awaited:
            await self._wake.publish("outbox")
        return work.changed, work.refused
