"""An engine, an escalator and readers on one database, and short words for judging."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Table, select

from service.alerts.engine import AlertEngine
from service.alerts.escalator import Escalator
from service.alerts.store import AlertStore
from service.domain.alerts import Alert, AlertState
from service.domain.clock import ManualClock
from service.domain.rules import (
    Condition,
    EscalationPolicy,
    EscalationStep,
    Rule,
    Severity,
)
from service.domain.series import Series
from service.query.selector import parse_selector
from service.rules.evaluator import Judgement
from service.settings import Settings
from service.storage.sql.engine import Database
from service.storage.sql.tables import alert_events, outbox, timers
from service.storage.wake import WakeUps

TENANT = "acme"
START = 1_700_000_000.0

RULE = Rule(
    id="r1",
    tenant=TENANT,
    name="High errors",
    query=parse_selector("error_rate"),
    condition=Condition.GT,
    threshold=0.05,
    severity=Severity.HIGH,
    cooldown_seconds=0.0,
    channels=("slack",),
)

POLICY = EscalationPolicy(
    "default",
    (
        EscalationStep(0.0, ("slack",)),
        EscalationStep(300.0, ("email",)),
        EscalationStep(900.0, ("webhook",)),
    ),
)


def series(region: str = "eu") -> Series:
    return Series.of("error_rate", {"region": region})


def judged(active: bool | None, region: str = "eu", rule: Rule = RULE) -> Judgement:
    one = series(region)
    labels = {**dict(one.labels), **rule.labels, "alertname": rule.name}
    if active:
        return Judgement(one, labels, True, 0.12, "above 0.05")
    return Judgement(one, labels, active, None if active is None else 0.01)


@dataclass
class Bench:
    """One tenant's alerts, driven by hand."""

    database: Database
    clock: ManualClock
    wake: WakeUps
    settings: Settings

    def __post_init__(self) -> None:
        self.engine = self.replica()
        self.escalator = Escalator(self.database, self.clock, self.settings)
        self.store = AlertStore(self.database)
        self.rule = RULE
        self.policies: tuple[EscalationPolicy, ...] = ()

    def replica(self) -> AlertEngine:
        return AlertEngine(self.database, self.clock, self.wake, self.settings)

    def use(self, **changes: Any) -> None:
        self.rule = replace(self.rule, **changes)

    async def judge(
        self, active: bool | None = True, *regions: str, engine: AlertEngine | None = None
    ) -> list[Alert]:
        judgements = [judged(active, region, self.rule) for region in regions or ("eu",)]
        return await self.apply(judgements, engine=engine)

    async def apply(
        self, judgements: Iterable[Judgement], engine: AlertEngine | None = None
    ) -> list[Alert]:
        return await (engine or self.engine).apply(
            TENANT, self.rule, judgements, self.clock.now(), policies=self.policies
        )

    async def after(self, seconds: float, active: bool | None = True) -> list[Alert]:
        """Let time pass, run what is due, judge."""
        await self.clock.advance(seconds)
        await self.escalator.run_due(self.clock.now())
        return await self.judge(active)

    async def rows(self, table: Table) -> list[Any]:
        async with self.database.read() as connection:
            return list((await connection.execute(select(table))).all())

    async def sent(self) -> list[tuple[str, str, str]]:
        """Kind, channel and state of every notification, oldest first."""
        rows = sorted(await self.rows(outbox), key=lambda r: (r.created_at, r.step, r.channel))
        return [(row.kind, row.channel, row.state) for row in rows]

    async def timeline(self) -> list[str]:
        rows = sorted(await self.rows(alert_events), key=lambda r: (r.at, r.id))
        return [row.kind for row in rows]

    async def timer_kinds(self) -> list[str]:
        return sorted(row.kind for row in await self.rows(timers))

    async def only(self) -> Alert:
        """The one alert that there is."""
        (alert,) = await self.store.active(TENANT)
        return alert

    async def states(self) -> list[AlertState]:
        return [alert.state for alert in await self.store.active(TENANT)]
