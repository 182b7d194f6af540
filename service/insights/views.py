"""What the other pages show: series by list and one by one, alerts with their timelines."""

from dataclasses import dataclass

import numpy as np
from sqlalchemy import RowMapping

from service.domain.alerts import Alert
from service.domain.series import Series
from service.insights import charts, records, words
from service.insights.charts import Chart
from service.insights.levels import levels
from service.insights.look import WINDOW
from service.insights.reading import watch
from service.insights.tiles import Tile, tile
from service.insights.unusual import current_run
from service.query.matchers import select
from service.query.selector import parse_selector
from service.query.source import Source
from service.settings import Settings
from service.storage.sql.engine import Database


@dataclass(frozen=True, slots=True)
class SeriesRow:
    """One line of the list."""

    series: Series
    tile: Tile
    model_state: str


@dataclass(frozen=True, slots=True)
class SeriesList:
    """Some of `total` series."""

    rows: list[SeriesRow]
    total: int


@dataclass(frozen=True, slots=True)
class SeriesView:
    """One series, large. `model` is None before the first training."""

    at: float
    series: Series
    tile: Tile
    chart: Chart
    model: RowMapping | None
    alerts: list[Alert]


@dataclass(frozen=True, slots=True)
class AlertRow:
    """An alert with its timeline in words."""

    alert: Alert
    title: str
    place: str
    lasted: float
    events: list[tuple[float, str]]


@dataclass(frozen=True, slots=True)
class AlertsView:
    """Alerts now and before; `older` is the time to ask before for more, None at the end."""

    active: list[AlertRow]
    resolved: list[AlertRow]
    older: float | None


async def series_list(
    source: Source,
    database: Database,
    settings: Settings,
    tenant: str,
    search: str,
    first: int,
    most: int,
    now: float,
) -> SeriesList:
    """Series whose name and labels contain every word of `search`, or that a selector takes."""
    known = await source.all(tenant)
    base = [s for s in known.values() if not s.is_derived]
    if any(mark in search for mark in '{="'):
        found = select(base, parse_selector(search))
    else:
        parts = search.lower().split()
        found = [s for s in select(base, None) if all(p in str(s).lower() for p in parts)]
    page = found[first : first + most]
    watched = await watch(source, tenant, known, page, now, WINDOW, ahead=False)
    async with database.read() as connection:
        states = await records.models_of(connection, tenant, [s.hex for s in page])
    now_ms, threshold = round(now * 1000), settings.anomaly_detection_threshold
    rows = []
    for w in watched:
        shown = tile(
            w,
            current_run(w, threshold, now_ms),
            now,
            alerted=False,
            lookback=settings.series_lookback_seconds,
        )
        state = states[w.series.hex]["state"] if w.series.hex in states else "none"
        rows.append(SeriesRow(w.series, shown, state))
    return SeriesList(rows, len(found))


async def one_series(
    source: Source,
    database: Database,
    settings: Settings,
    tenant: str,
    series_id: int,
    now: float,
) -> SeriesView:
    """One series with chart and model; `NotFound` for one that the tenant does not have."""
    series = await source.get(tenant, series_id)
    known = await source.all(tenant)
    async with database.read() as connection:
        active = await records.active_alerts(connection, tenant)
        model = (await records.models_of(connection, tenant, [series.hex])).get(series.hex)
    about = [a for a in active if a.source == series.hex]
    since = min((a.started_at for a in about), default=None)
    seconds = charts.past_seconds(
        await _step(source, tenant, series_id, now),
        settings.trend_forecast_horizon,
        None if since is None else now - since,
    )
    watched = (await watch(source, tenant, known, [series], now, seconds))[0]
    alarming = settings.anomaly_detection_threshold
    return SeriesView(
        at=now,
        series=series,
        tile=tile(
            watched,
            current_run(watched, alarming, round(now * 1000)),
            now,
            alerted=bool(about),
            lookback=settings.series_lookback_seconds,
        ),
        chart=charts.draw(
            watched,
            now,
            alarming=alarming,
            since=since,
            levels=levels(model["quality"]) if model is not None else (),
        ),
        model=model,
        alerts=about,
    )


async def _step(source: Source, tenant: str, series_id: int, now: float) -> int:
    now_ms = round(now * 1000)
    for hours in (6, 168):
        start = now_ms - hours * 3_600_000
        columns = (await source.read(tenant, [series_id], start, now_ms))[series_id]
        if len(columns.t) >= 6:
            return max(1, int(np.median(np.diff(columns.t))))
    return 60_000


async def alerts(database: Database, tenant: str, before: float | None, most: int) -> AlertsView:
    """Active alerts, and up to `most` resolved ones that began before a time."""
    async with database.read() as connection:
        active = await records.active_alerts(connection, tenant) if before is None else []
        past = await records.resolved(connection, tenant, before, most + 1)
        older = past[most - 1].started_at if len(past) > most else None
        past = past[:most]
        timelines = await records.events(connection, tenant, [a.id for a in (*active, *past)])
    return AlertsView(
        [_row(a, timelines.get(a.id, [])) for a in active],
        [_row(a, timelines.get(a.id, [])) for a in past],
        older,
    )


def _row(alert: Alert, events: list[records.Event]) -> AlertRow:
    end = alert.resolved_at if alert.resolved_at is not None else alert.last_seen_at
    tags = {k: v for k, v in alert.labels.items() if k not in ("alertname", "__name__")}
    return AlertRow(
        alert,
        alert.annotations.get("summary") or alert.rule_name,
        words.place_of(tags.values()),
        max(0.0, (end or alert.started_at) - alert.started_at),
        [(e.at, told(e)) for e in events],
    )


def told(event: records.Event) -> str:
    """An entry of a timeline in words, e.g. “Acknowledged by Mira: on it”."""
    detail = event.detail
    who = words.person(event.actor)
    channel = _listed(detail.get("channels") or detail.get("channel"))
    reason, note = detail.get("reason"), detail.get("note")
    if reason == "silenced":
        by, why = detail.get("by"), detail.get("comment")
        reason = f"silenced by {words.person(by if isinstance(by, str) else None)}"
        note = why if isinstance(why, str) else None
    text = {
        "pending": "Noticed, waiting whether it lasts",
        "fired": "Fired",
        "acknowledged": f"Acknowledged by {who}",
        "escalated": "Escalated",
        "notified": "Notified",
        "suppressed": "Not notified",
        "resolved": "Resolved",
    }.get(event.kind, words.upper_first(event.kind))
    if channel:
        text += f": {channel}"
    for more in (reason, note):
        if isinstance(more, str) and more:
            text += f": {more}" if ":" not in text else f", {more}"
    return text


def _listed(value: object) -> str:
    if isinstance(value, list):
        return words.listing((str(v) for v in value), 5)
    return value if isinstance(value, str) else ""
