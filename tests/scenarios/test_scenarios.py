"""Plays the stories of this folder: series in, transitions and notifications out.

A story names a rule of the shipped `alert_rules.yaml` or brings `rules` of its own, gives series,
and says in `then` everything that happens, in order. `values` are samples one `every` apart: `5`
one, `5x10` ten, `5+2x10` ten of 5, 7, 9 …, `_` none. `ahead` writes them so much later, as
forecasts are. `acknowledge` is a time at which somebody answers.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from redis.asyncio import Redis
from ruamel.yaml import YAML
from sqlalchemy import select

from service.alerts.acknowledge import acknowledge
from service.alerts.engine import AlertEngine
from service.alerts.escalator import Escalator
from service.alerts.store import AlertStore
from service.domain.alerts import AlertState
from service.domain.clock import ManualClock
from service.domain.durations import format_duration, parse_duration
from service.domain.rules import RuleBook
from service.domain.series import Series
from service.rules.evaluator import evaluate
from service.rules.loader import parse_file
from service.rules.rewriting import expr_of
from service.rules.schema import FIELDS, SIMPLE, parse_rule, rule_form
from service.settings import Settings
from service.storage.columns import Columns
from service.storage.head import Head
from service.storage.sql.engine import Database
from service.storage.sql.tables import outbox
from service.storage.wake import WakeUps

HERE = Path(__file__).parent
SHIPPED = HERE.parents[1] / "alert_rules.yaml"
STORIES = sorted(HERE.glob("*.yaml"))
TENANT = "acme"
START = 1_700_000_000.0

_TOKEN = re.compile(r"(_|-?[\d.]+)(?:\+(-?[\d.]+))?(?:x(\d+))?")


def expanded(values: str) -> Iterator[float | None]:
    """The samples that a text writes, None for one that is missing."""
    for token in str(values).split():
        match = _TOKEN.fullmatch(token)
        assert match, f"{token!r} is no value"
        first, step, count = match.groups()
        for i in range(int(count or 1)):
            yield None if first == "_" else float(first) + i * float(step or 0)


@dataclass
class Player:
    """One story in play."""

    database: Database
    clock: ManualClock
    settings: Settings
    wake: WakeUps
    book: RuleBook

    def __post_init__(self) -> None:
        self.head = Head(4096)
        self.engine = AlertEngine(
            self.database, self.clock, self.wake, self.settings, self.default_channels
        )
        self.escalator = Escalator(self.database, self.clock, self.settings)
        self.store = AlertStore(self.database)
        self.told: set[str] = set()
        self.lines: list[str] = []

    async def default_channels(self, tenant: str) -> tuple[str, ...]:
        return ("slack",)

    def feed(self, series: Series, at: float, value: float) -> None:
        self.head.add_series(TENANT, {series.id: series})
        t = np.array([round(at * 1000)])
        self.head.put(TENANT, series.id, Columns(t, np.array([value])))

    async def judge(self) -> None:
        now = self.clock.now()
        for rule in self.book.rules_for(TENANT):
            firing = (await self.engine.firing(TENANT)).get(rule.id, ())
            judgements = evaluate(rule, TENANT, self.head, now, firing=firing)
            changed = await self.engine.apply(
                TENANT, rule, judgements, now, policies=self.book.policies
            )
            for alert in changed:
                firing = alert.state is AlertState.FIRING
                self.say(f"{alert.state}{f', {alert.expectation}' if firing else ''}")
        await self.escalator.run_due(now)
        async with self.database.read() as connection:
            rows = (await connection.execute(select(outbox).order_by(outbox.c.channel))).all()
        for row in rows:
            if row.id not in self.told:
                self.told.add(row.id)
                self.say(f"{row.channel} hears: {row.kind}")

    async def answer(self) -> None:
        for alert in await self.store.active(TENANT, state=AlertState.FIRING):
            await acknowledge(self.database, TENANT, alert.id, actor="ann", now=self.clock.now())
            self.say("acknowledged")

    def say(self, what: str) -> None:
        self.lines.append(f"{format_duration(self.clock.now() - START)} {what}")


def read(path: Path) -> dict[str, Any]:
    story: dict[str, Any] = YAML(typ="safe").load(path)
    return story


def book_of(story: dict[str, Any]) -> RuleBook:
    if "rule" in story:
        shipped = parse_file(SHIPPED.read_bytes(), SHIPPED.name, 900.0)
        (rule,) = [rule for rule in shipped.rules if rule.name == story["rule"]]
        return RuleBook((rule,), shipped.policies, shipped.source)
    return parse_file(story["rules"].encode(), "story", 900.0)


@pytest.fixture
def wake(redis: Redis) -> WakeUps:
    return WakeUps(redis)


def as_expressions(book: RuleBook) -> RuleBook:
    """The same rules, each with the expression that its simple form stands for."""
    rules = []
    for rule in book.rules:
        form = {k: v for k, v in rule_form(rule).items() if k not in SIMPLE and v is not None}
        expr = {"expr": expr_of(rule)}
        rules.append(parse_rule(form | expr, rule_id=rule.id, tenant=None, cooldown_seconds=900.0))
    return replace(book, rules=tuple(rules))


@pytest.mark.parametrize("form", ["as written", "as expressions"])
@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
async def test_the_story(
    path: Path, form: str, sqlite: Database, clock: ManualClock, settings: Settings, wake: WakeUps
) -> None:
    story = read(path)
    clock.set(START)
    book = book_of(story)
    if form == "as expressions":
        book = as_expressions(book)
    player = Player(sqlite, clock, settings, wake, book)
    every = parse_duration(story["every"])
    samples = [
        (
            Series.of(item["name"], item.get("labels", {})),
            parse_duration(item.get("ahead", 0)),
            list(expanded(item["values"])),
        )
        for item in story["series"]
    ]
    answered = parse_duration(story["acknowledge"]) if "acknowledge" in story else None
    for i in range(max(len(values) for _, _, values in samples)):
        for series, ahead, values in samples:
            value = values[i] if i < len(values) else None
            if value is not None:
                player.feed(series, clock.now() + ahead, value)
        await player.judge()
        if answered is not None and clock.now() - START == answered:
            await player.answer()
        await clock.advance(every)
    assert player.lines == story["then"]


def test_each_shipped_rule_has_its_story() -> None:
    shipped = parse_file(SHIPPED.read_bytes(), SHIPPED.name, 900.0)
    told = {read(path).get("rule") for path in STORIES}
    assert {rule.name for rule in shipped.rules} <= told


def test_the_shipped_header_documents_every_field() -> None:
    header = SHIPPED.read_text().split("\nalert_rules:")[0]
    assert [field for field in FIELDS if not re.search(rf"^#   {field}\b", header, re.M)] == []
