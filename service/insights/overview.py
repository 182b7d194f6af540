"""Everything that the overview of a tenant says, as the page and the JSON both show it."""

from dataclasses import dataclass

from service.alerts.quiet import quiets
from service.detection.progress import Board, Learning
from service.domain.alerts import Alert, AlertState
from service.domain.clock import Clock
from service.domain.errors import OffbeatError
from service.domain.series import NAME, Series, parse_series_id, series_id
from service.domain.silences import Quiet
from service.insights import charts, reasons, records, views, words
from service.insights.charts import Chart
from service.insights.finding import Finding, Kind
from service.insights.findings import Findings
from service.insights.look import Look
from service.insights.reading import Watched
from service.insights.reasons import Reason
from service.insights.state import State, state_of
from service.insights.tiles import Tile, tile
from service.insights.views import AlertsView, SeriesList, SeriesView
from service.query.promql.parse import parse
from service.query.queries import Queries, Query
from service.query.source import Source
from service.rules.course import compared, courses, steps_until
from service.settings import Settings
from service.storage.sql.engine import Database

_CHARTS = 6
_TILES = 10
_ROW = 5
_DAY = 86400.0
#: How long the page waits for the course of a rule's expression.
_COURSE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class AlertCard:
    """An active alert with its picture and its reasons; the worst few have a chart."""

    alert: Alert
    title: str
    place: str
    chart: Chart | None
    why: list[Reason]
    quiet: Quiet | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """How much there is and how it does. `looked_at` is how many series were read for this."""

    series: int
    looked_at: int
    unusual: int
    silent: int
    models_ready: int
    models_cold: int
    models_failed: int
    newest_sample_at: float | None


@dataclass(frozen=True, slots=True)
class Usage:
    """What is used of the tenant's limits."""

    series: int
    series_limit: int
    notifications_this_hour: int
    notifications_limit: int
    alerts_in_seven_days: int
    rules: int


@dataclass(frozen=True, slots=True)
class OverviewPage:
    """The overview of a tenant at `at` (Unix seconds)."""

    tenant: str
    at: float
    state: State
    alerts: list[AlertCard]
    tiles: list[Tile]
    findings: list[Finding]
    ahead: list[Finding]
    undelivered: list[records.Undelivered]
    counts: Counts
    usage: Usage
    learning: Learning
    learning_words: str


class Overview:
    """Computes overviews and charts."""

    def __init__(
        self,
        source: Source,
        database: Database,
        clock: Clock,
        settings: Settings,
        findings: Findings,
        training: Board,
        queries: Queries,
    ) -> None:
        self._source = source
        self._database = database
        self._clock = clock
        self._settings = settings
        self._findings = findings
        self._training = training
        self._queries = queries

    async def for_tenant(
        self, tenant: str, *, series_limit: int | None = None, now: float | None = None
    ) -> OverviewPage:
        """The overview now. `series_limit` is the tenant's own, if it has one."""
        look = await self._findings.look(tenant, now)
        now = look.now
        found = await self._findings.of(look)
        ids = [a.id for a in look.alerts]
        async with self._database.read() as connection:
            told = await records.told(connection, tenant, ids)
            due = await records.escalations(connection, tenant, ids)
            undelivered = await records.undelivered(connection, tenant, now - _DAY)
            hour = await records.sent_since(connection, tenant, now - 3600)
        learning = await self._training.of(tenant)
        hushed = await quiets(self._database, tenant, look.alerts, now)
        cards = []
        # What keeps quiet must not hide what needs somebody.
        by_need = sorted(
            look.alerts,
            key=lambda a: (
                a.state is not AlertState.FIRING,
                a.acknowledged_at is not None or a.id in hushed,
            ),
        )
        for number, alert in enumerate(by_need):
            own = [t for t in told if t.alert_id == alert.id]
            cards.append(
                await self._card(
                    look,
                    alert,
                    own,
                    due.get(alert.id),
                    hushed.get(alert.id),
                    picture=number < _CHARTS,
                )
            )
        told_above = {look.known[i].hex for i in reasons.covered(look)}
        titles = {card.alert.id: card.title for card in cards}
        return OverviewPage(
            tenant=tenant,
            at=now,
            state=state_of(look, titles, undelivered, self._silent(look), hushed),
            alerts=cards,
            tiles=self._tiles(look),
            findings=[
                f
                for f in found
                if f.kind is not Kind.AHEAD
                and not (f.kind is Kind.UNUSUAL and told_above.issuperset(f.series))
            ],
            ahead=[f for f in found if f.kind is Kind.AHEAD],
            undelivered=undelivered,
            counts=self._counts(look),
            usage=Usage(
                series=len(look.base),
                series_limit=series_limit or self._settings.series_max,
                notifications_this_hour=hour,
                notifications_limit=self._settings.max_alerts_per_hour,
                alerts_in_seven_days=len(look.episodes),
                rules=sum(1 for r in look.rules if r.enabled),
            ),
            learning=learning,
            learning_words=words.learning(learning),
        )

    async def firing(self, tenant: str) -> int:
        """How many alerts fire."""
        async with self._database.read() as connection:
            return await records.firing(connection, tenant)

    async def series(self, tenant: str, series_id: int, *, now: float | None = None) -> SeriesView:
        """One series with chart and model; `NotFound` for one that the tenant does not have."""
        now = self._clock.now() if now is None else now
        return await views.one_series(
            self._source, self._database, self._settings, tenant, series_id, now
        )

    async def series_list(
        self, tenant: str, search: str, *, first: int, most: int, now: float | None = None
    ) -> SeriesList:
        """Series whose name and labels contain every word of `search`, or that a selector takes."""
        now = self._clock.now() if now is None else now
        return await views.series_list(
            self._source, self._database, self._settings, tenant, search, first, most, now
        )

    async def alerts(self, tenant: str, *, before: float | None, most: int) -> AlertsView:
        """Active alerts, and up to `most` resolved ones that began before a time."""
        return await views.alerts(self._database, tenant, before, most)

    async def _card(
        self,
        look: Look,
        alert: Alert,
        told: list[records.Told],
        due: records.Due | None,
        quiet: Quiet | None,
        *,
        picture: bool,
    ) -> AlertCard:
        watched = look.watched.get(parse_series_id(alert.source) or -1)
        chart = None
        if watched is not None and picture:
            age = look.now - alert.started_at
            seconds = charts.past_seconds(
                watched.step_ms, self._settings.trend_forecast_horizon, age
            )
            chart = await charts.load(
                self._source,
                look.tenant,
                look.known,
                watched.series,
                look.now,
                seconds,
                alarming=self._settings.anomaly_detection_threshold,
                since=alert.started_at,
                threshold=reasons.limit_of(look, alert, watched),
            )
        elif picture:
            chart = await self._course(look, alert)
        return AlertCard(
            alert=alert,
            title=alert.annotations.get("summary") or alert.rule_name,
            place=words.place(watched.series if watched else _labelled(alert)),
            chart=chart,
            why=reasons.why(look, alert, watched, told, due, quiet),
            quiet=quiet,
        )

    async def _course(self, look: Look, alert: Alert) -> Chart | None:
        """How the value went that a rule's own expression compares; None if that is not known."""
        rule = next((r for r in look.rules if r.id == alert.rule_id and r.expr), None)
        part = None if rule is None else compared(parse(rule.expr))
        if part is None:
            return None
        seconds = charts.past_seconds(60_000, 0, look.now - alert.started_at)
        query = Query(part.expr, steps_until(look.now_ms, seconds), seconds=_COURSE_SECONDS)
        try:
            found = await self._queries.answer(look.tenant, query, courses)
        except OffbeatError:  # the page is there all the same
            return None
        samples = {series_id(labels): columns for labels, columns in found.items()}
        mine = samples.get(parse_series_id(alert.source) or -1)
        if mine is None:
            return None
        return charts.draw(
            Watched(_labelled(alert), mine),
            look.now,
            alarming=self._settings.anomaly_detection_threshold,
            since=alert.started_at,
            threshold=part.threshold,
        )

    def _silent(self, look: Look) -> list[Watched]:
        lookback = self._settings.series_lookback_seconds
        return [w for w in look.watched.values() if w.silent(look.now, lookback)]

    def _tiles(self, look: Look) -> list[Tile]:
        alerted = {parse_series_id(a.source) for a in look.alerts if a.source}
        lookback = self._settings.series_lookback_seconds

        def weight(w: Watched) -> tuple[bool, bool, bool, bool, int]:
            run = look.runs.get(w.series.id)
            return (
                w.series.id not in alerted,
                run is None or run.ended,
                not look.rules_for(w.series),
                not len(w.expected.t),
                len(w.series.tags),
            )

        best = [
            min((w for w in group if w.last), key=weight, default=None)
            for group in look.names.values()
        ]
        shown = sorted(
            (w for w in best if w is not None), key=lambda w: (weight(w), w.series.labels)
        )
        # What matters most is chosen; it then stands in one order, whatever is unusual.
        # Whole rows of five look finished.
        most = min(_TILES, len(shown) // _ROW * _ROW or len(shown))
        chosen = sorted(shown[:most], key=lambda w: w.series.labels)
        return [
            tile(
                w,
                look.runs.get(w.series.id),
                look.now,
                alerted=w.series.id in alerted,
                lookback=lookback,
            )
            for w in chosen
        ]

    def _counts(self, look: Look) -> Counts:
        newest = [w.last[0] for w in look.watched.values() if w.last]
        return Counts(
            series=len(look.base),
            looked_at=len(look.watched),
            unusual=sum(1 for r in look.runs.values() if not r.ended),
            silent=len(self._silent(look)),
            models_ready=look.models.counts.get("ready", 0),
            models_cold=look.models.counts.get("cold", 0),
            models_failed=look.models.counts.get("failed", 0),
            newest_sample_at=max(newest) / 1000 if newest else None,
        )


def _labelled(alert: Alert) -> Series:
    """What an alert is about whose labels are no series', as pictures and places name it."""
    return Series.of(
        alert.rule_name,
        {key: value for key, value in alert.labels.items() if key not in (NAME, "alertname")},
    )
