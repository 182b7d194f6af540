"""Whatever happens in whatever order: the promises about alerts hold."""

import asyncio
import itertools
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from service.alerts.acknowledge import acknowledge
from service.domain.alerts import AlertState
from service.domain.clock import ManualClock
from service.settings import Settings
from service.storage.redis import connect
from service.storage.sql.engine import Database
from service.storage.sql.tables import alerts, outbox, timers
from service.storage.wake import WakeUps
from tests.support.alerting import POLICY, TENANT, Bench, judged
from tests.support.migrated import migrated

REGIONS = ("eu", "us")
LIMIT = 4
COOLDOWN = 400.0


class Life(RuleBasedStateMachine):
    """Judges, waits, answers, escalates, restarts; checks after each."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()

    def do(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    @initialize(wait=st.sampled_from([0.0, 60.0]))
    def begin(self, wait: float) -> None:
        async def start() -> Bench:
            database = Database(f"sqlite:///{Path(self.folder.name) / 'offbeat.db'}")
            await migrated(database)
            # Nobody listens there: a wake-up that is lost must change nothing.
            self.client = connect("unix:///nowhere.sock")
            return Bench(
                database,
                ManualClock(),
                WakeUps(self.client),
                Settings(max_alerts_per_hour=LIMIT),
            )

        self.bench: Bench = self.do(start())
        self.bench.policies = (POLICY,)
        self.bench.use(for_seconds=wait, cooldown_seconds=COOLDOWN)
        self.acknowledged: dict[str, float] = {}

    @rule(found=st.tuples(*[st.sampled_from([True, True, False, None])] * len(REGIONS)))
    def judge(self, found: tuple[bool | None, ...]) -> None:
        judgements = [
            judged(active, region, self.bench.rule)
            for active, region in zip(found, REGIONS, strict=True)
        ]
        self.do(self.bench.apply(judgements))

    @rule(seconds=st.sampled_from([15.0, 61.0, 301.0, 1000.0, 3601.0]))
    def wait(self, seconds: float) -> None:
        self.do(self.bench.clock.advance(seconds))

    @rule()
    def run_timers(self) -> None:
        self.do(self.bench.escalator.run_due(self.bench.clock.now()))

    @rule()
    def restart(self) -> None:
        self.bench.engine = self.bench.replica()

    @rule()
    def answer(self) -> None:
        now = self.bench.clock.now()
        for alert in self.do(self.bench.store.active(TENANT, state=AlertState.FIRING))[:1]:
            self.do(acknowledge(self.bench.database, TENANT, alert.id, actor="ann", now=now))
            self.acknowledged.setdefault(alert.id, now)

    @rule()
    def remove_the_rule(self) -> None:
        self.do(self.bench.engine.retire(TENANT, set(), self.bench.clock.now()))

    @invariant()
    def promises_hold(self) -> None:
        if not hasattr(self, "bench"):
            return
        rows = self.do(self.bench.rows(alerts))
        sent = self.do(self.bench.rows(outbox))
        waiting = self.do(self.bench.rows(timers))
        now = self.bench.clock.now()
        open_ones = [row for row in rows if row.state in ("pending", "firing")]
        # one open alert a series, episodes without a gap
        assert all(n == 1 for n in Counter(row.fingerprint for row in open_ones).values())
        for fingerprint in {row.fingerprint for row in rows}:
            episodes = sorted(r.episode for r in rows if r.fingerprint == fingerprint)
            assert episodes == list(range(1, len(episodes) + 1))
        state = {row.id: row.state for row in rows}
        for row in rows:
            assert (row.fired_at is None) == (row.state == "pending")
            assert (row.resolved_at is not None) == (row.state == "resolved")
            mine = [n for n in sent if n.alert_id == row.id]
            told = {n.channel for n in mine if n.kind != "resolved" and n.state != "cancelled"}
            ended = {n.channel for n in mine if n.kind == "resolved"}
            # everybody who was told of it is told of its end, nobody else
            assert ended == (told if row.state == "resolved" else set())
            planned = [t.kind for t in waiting if t.alert_id == row.id]
            # a firing alert was told, or will be
            if row.state == "firing" and row.acknowledged_at is None:
                assert told or "cooldown" in planned
            else:
                assert planned == []
            escalated = [n.created_at for n in mine if n.kind == "escalated"]
            first = min((n.created_at for n in mine if n.kind == "firing"), default=0.0)
            assert all(at >= first + 300 for at in escalated)
            answered = self.acknowledged.get(row.id)
            assert answered is None or all(at <= answered for at in escalated)
        assert all(t.alert_id is None or t.alert_id in state for t in waiting)
        # the limit, in the last hour
        goes_out = [
            n
            for n in sent
            if n.created_at > now - 3600
            and n.kind != "summary"
            and n.state not in ("summarised", "cancelled")
        ]
        assert len(goes_out) <= LIMIT
        untold = [n for n in sent if n.state == "summarised" and n.sent_at is None]
        assert bool(untold) <= ("summary" in [t.kind for t in waiting])
        # the cooldown, by series
        for fingerprint in {row.fingerprint for row in rows}:
            ids = {row.id for row in rows if row.fingerprint == fingerprint}
            times = sorted({n.created_at for n in sent if n.alert_id in ids and n.kind == "firing"})
            assert all(b - a >= COOLDOWN for a, b in itertools.pairwise(times))

    def teardown(self) -> None:
        async def stop() -> None:
            await self.bench.database.close()
            await self.client.aclose()

        if hasattr(self, "bench"):
            self.do(stop())
        self.loop.close()
        self.folder.cleanup()


Life.TestCase.settings = settings(
    max_examples=15,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestLife = Life.TestCase
