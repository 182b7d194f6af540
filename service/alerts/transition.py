"""The changes of one rule's alerts in one transaction: decided on the rows, then written."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import delete, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from service.alerts.announce import Plan, announce, conclude, hush, last_announced, postpone
from service.alerts.outbound import COOLDOWN, Chart, Outbound
from service.alerts.quiet import InForce, in_force
from service.alerts.records import active_count, change, latest, remove, row_of
from service.domain.alerts import Alert, AlertState, Decision, EventKind, Move
from service.domain.rules import Rule
from service.domain.series import Series
from service.rules.evaluator import Judgement
from service.storage.sql.tables import alert_events, alerts

ChartOf = Callable[[Series], Chart | None]
Step = Callable[[Alert | None, Rule, bool | None, float], Decision]


@dataclass(frozen=True, slots=True)
class Task:
    """A series whose alert is to change. With a `reason` it ends, whatever its series says.

    Without a judgement `absence` says whether it breaks the rule.
    """

    fingerprint: str
    judgement: Judgement | None
    reason: str = ""
    absence: bool | None = None


class Transition:
    """Use once: `decide`, then `write`.

    `now_open` then has the open alert of each fingerprint that was settled, None for none;
    `changed` every alert that is not as it was; `refused` how many found no room: with `limit`
    active alerts of the tenant in SQL none begins. Whoever holds the tenant's lock counts exactly.
    """

    def __init__(
        self,
        connection: AsyncConnection,
        out: Outbound,
        tenant: str,
        rule: Rule | str,
        now: float,
        limit: int,
    ) -> None:
        self._connection, self._out = connection, out
        self._tenant, self._rule, self._now, self._limit = tenant, rule, now, limit
        self._room: int | None = None  # counted once an alert is to begin
        self.now_open: dict[str, Alert | None] = {}
        self.changed: list[Alert] = []
        self.refused = 0
        self._begun: list[Alert] = []
        self._fired: list[tuple[Alert, Judgement]] = []
        self._ended: list[Alert] = []
        self._reasons: dict[str, str] = {}
        self._removed: list[str] = []

    async def decide(self, tasks: Sequence[Task], memory: Mapping[str, Alert], step: Step) -> None:
        """Take each task's step from what SQL says; compare-and-set what exists."""
        rule_id = self._rule if isinstance(self._rule, str) else self._rule.id
        prints = [task.fingerprint for task in tasks]
        rows = await latest(self._connection, self._tenant, rule_id, prints)
        for task in tasks:
            row = rows.get(task.fingerprint)
            episode = 0 if row is None else row.episode
            alert = row if row is not None and row.active else None
            if alert is not None:
                known = memory.get(task.fingerprint)
                seen = self._now if known is None else known.last_seen_at
                alert = replace(alert, last_seen_at=seen)
            await self._settle(task, alert, episode, step)

    async def _settle(self, task: Task, alert: Alert | None, episode: int, step: Step) -> None:
        judgement, rule = task.judgement, self._rule
        if task.reason or isinstance(rule, str):
            decision = _end(alert, task.reason)
        else:
            active = task.absence if judgement is None else judgement.active
            decision = step(alert, rule, active, self._now)
            if decision.move in (Move.START, Move.FIRE) and judgement is not None:
                await self._rise(rule, judgement, alert, episode, decision.move)
                return
        if alert is None:
            self.now_open[task.fingerprint] = None
        elif decision.move is Move.KEEP:
            if judgement is not None and judgement.active:
                alert = replace(alert, last_seen_at=self._now)
            self.now_open[task.fingerprint] = alert
        elif decision.move is Move.REMOVE:
            if await remove(self._connection, alert):
                self._removed.append(alert.id)
                self.now_open[task.fingerprint] = None
        else:
            after = await change(
                self._connection,
                alert,
                state=AlertState.RESOLVED,
                resolved_at=self._now,
                last_seen_at=alert.last_seen_at,
            )
            if after is not None:
                self._out.note(after, EventKind.RESOLVED, reason=decision.reason or None)
                self._ended.append(after)
                self._reasons[after.id] = decision.reason
                self.now_open[task.fingerprint] = None

    async def _rise(
        self, rule: Rule, judgement: Judgement, alert: Alert | None, episode: int, move: Move
    ) -> None:
        """A pending alert begins, or one fires."""
        fires = move is Move.FIRE
        values: dict[str, Any] = {
            "state": AlertState.FIRING if fires else AlertState.PENDING,
            "fired_at": self._now if fires else None,
            "rule_name": rule.name,
            "severity": rule.severity,
            "labels": judgement.labels,
            "annotations": dict(judgement.annotations or rule.annotations),
            "value": judgement.value,
            "expectation": judgement.expectation,
            "last_seen_at": self._now,
        }
        fingerprint = judgement.series.hex
        after: Alert | None
        if alert is not None:
            after = await change(self._connection, alert, **values)
        elif not await self._has_room():
            self.refused += 1
            return
        else:
            after = Alert(
                id=uuid.uuid4().hex,
                tenant=self._tenant,
                rule_id=rule.id,
                fingerprint=fingerprint,
                episode=episode + 1,
                started_at=self._now,
                source=fingerprint,
                **values,
            )
            self._begun.append(after)
        if after is None:
            return  # changed by somebody who takes no lock; the next evaluation sees it
        kind = EventKind.FIRED if fires else EventKind.PENDING
        self._out.note(after, kind, value=after.value, expectation=after.expectation or None)
        if fires:
            self._fired.append((after, judgement))
        else:
            self.changed.append(after)
        self.now_open[fingerprint] = after

    async def _has_room(self) -> bool:
        """Whether one more alert may begin; takes its place if so."""
        if self._room is None:
            self._room = self._limit - await active_count(self._connection, self._tenant)
        self._room -= 1
        return self._room >= 0

    async def write(self, plan: Plan | None, chart_of: ChartOf | None) -> None:
        """Write new alerts, tell of those that fire or are over, forget those that are gone."""
        if self._begun:
            await self._connection.execute(insert(alerts), [row_of(a) for a in self._begun])
        if self._removed:
            await self._connection.execute(
                delete(alert_events).where(
                    alert_events.c.tenant == self._tenant,
                    alert_events.c.alert_id.in_(self._removed),
                )
            )
        if self._fired:
            silences = await in_force(self._connection, self._tenant, self._now)
        for alert, judgement in self._fired:
            await self._tell(alert, judgement, plan or Plan((), None), chart_of, silences)
            self.changed.append(alert)
        if self._ended:
            await conclude(self._connection, self._out, self._tenant, self._ended, self._reasons)
            self.changed += self._ended

    async def _tell(
        self,
        alert: Alert,
        judgement: Judgement,
        plan: Plan,
        chart_of: ChartOf | None,
        silences: InForce,
    ) -> None:
        cooldown = 0.0 if isinstance(self._rule, str) else self._rule.cooldown_seconds
        if cooldown > 0 and alert.episode > 1:
            last = await last_announced(self._connection, alert)
            if last is not None and self._now < last + cooldown:
                postpone(self._out, alert, plan, last + cooldown)
                return
        quiet = silences.keeps(alert)
        if quiet is not None:
            # Its end announces the alert as the end of a cooldown does.
            hush(self._out, alert, quiet, COOLDOWN, plan.snapshot())
            return
        chart = None if chart_of is None else chart_of(judgement.series)
        await announce(self._out, alert, plan, self._now, chart)


def _end(alert: Alert | None, reason: str) -> Decision:
    if alert is None:
        return Decision(Move.NOTHING)
    pending = alert.state is AlertState.PENDING
    return Decision(Move.REMOVE if pending else Move.RESOLVE, reason)
