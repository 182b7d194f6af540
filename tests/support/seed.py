"""Writes series, what models said about them, alerts and notifications straight into the stores."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from redis.asyncio import Redis
from sqlalchemy import insert

from service.domain.clock import ManualClock
from service.domain.series import (
    EXPECTED,
    EXPECTED_LOWER,
    EXPECTED_UPPER,
    FORECAST,
    FORECAST_LOWER,
    FORECAST_UPPER,
    SCORE,
    Series,
)
from service.query.source import Source
from service.storage import keys
from service.storage.chunks import ChunkReader, ChunkWriter
from service.storage.columns import Batch
from service.storage.log import Entry
from service.storage.registry import SeriesRegistry
from service.storage.rollups import RollupReader
from service.storage.sql.engine import Database
from service.storage.sql.tables import alert_events, alerts, models, outbox, timers

BUCKET_MS = 21_600_000


class Seed:
    """One tenant's data. Times are Unix seconds."""

    def __init__(
        self,
        redis: Redis,
        database: Database,
        now: float,
        tenant: str = "acme",
        shards: int = 1,
    ) -> None:
        self.redis, self.database, self.now, self.tenant = redis, database, now, tenant
        self.registry = SeriesRegistry(redis, shards)
        self.source = Source(
            self.registry, ChunkReader(redis, shards, BUCKET_MS), RollupReader(redis, shards)
        )
        self.shard = keys.shard_of(tenant, shards)
        self._writer = ChunkWriter(redis, BUCKET_MS, 100 * 365 * 86_400_000, clock=ManualClock(now))
        self._entries = 0

    async def put(self, series: Series, t: Any, v: Any) -> Series:
        """Store samples: `t` in seconds (n,), `v` (n,)."""
        await self.put_all([(series, t, v)])
        return series

    async def put_all(self, columns: Sequence[tuple[Series, Any, Any]]) -> None:
        """Store samples of many series."""
        await self.registry.register(self.tenant, [s for s, _, _ in columns])
        await self.redis.set(keys.epoch(self.shard), "1")
        batch = Batch.join(
            [
                Batch(
                    np.full(len(t), s.id, np.int64),
                    np.round(np.asarray(t, float) * 1000).astype(np.int64),
                    np.asarray(v, float),
                )
                for s, t, v in columns
            ]
        )
        self._entries += 1
        entry = Entry(f"{self._entries}-0".encode(), self.tenant, batch)
        await self._writer.apply(self.shard, 1, [entry])

    async def modelled(
        self,
        series: Series,
        t: Any,
        v: Any,
        expected: Any,
        *,
        width: float | None = None,
        unusual: Any = None,
        forecast: tuple[Any, Any] | None = None,
    ) -> Series:
        """Samples with an expectation ± `width`, the score 0.9995 where `unusual`, a forecast."""
        t, expected = np.asarray(t, float), np.asarray(expected, float)
        width = float(0.12 * np.mean(np.abs(expected))) if width is None else width
        flagged = np.zeros(len(t), bool) if unusual is None else np.asarray(unusual)
        columns = [
            (series, t, v),
            (series.derived(EXPECTED), t, expected),
            (series.derived(EXPECTED_LOWER), t, expected - width),
            (series.derived(EXPECTED_UPPER), t, expected + width),
            (series.derived(SCORE), t, np.where(flagged, 0.9995, 0.3)),
        ]
        if forecast is not None:
            ft, fv = np.asarray(forecast[0], float), np.asarray(forecast[1], float)
            growing = width * np.linspace(0.8, 1.6, len(ft))
            columns += [
                (series.derived(FORECAST), ft, fv),
                (series.derived(FORECAST_LOWER), ft, fv - growing),
                (series.derived(FORECAST_UPPER), ft, fv + growing),
            ]
        await self.put_all(columns)
        await self.model(series, "ready", rows=max(288, len(t)))
        return series

    async def model(self, series: Series, state: str, **more: Any) -> None:
        """A row of the models table."""
        row = {
            "tenant": self.tenant,
            "series_id": series.hex,
            "state": state,
            "version": 1,
            "trained_at": self.now - 600,
            "trained_from": self.now - 86400 * 14,
            "trained_to": self.now - 600,
            "rows": 4032,
            "seconds": 0.4,
            "quality": {"mase": 0.71, "coverage": 0.9},
            "error": None,
            **more,
        }
        async with self.database.begin() as connection:
            await connection.execute(insert(models).values(**row))

    async def alert(self, name: str, series: Series | None, **more: Any) -> str:
        """A firing alert; returns its id."""
        text = f"{self.tenant}{name}{series}{sorted(more.items(), key=str)}"
        alert_id = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        row = {
            "id": alert_id,
            "tenant": self.tenant,
            "rule_id": f"file:{name}",
            "rule_name": name,
            "fingerprint": alert_id[:16],
            "episode": 1,
            "state": "firing",
            "severity": "critical",
            "labels": {"alertname": name, **(series.tags if series else {})},
            "annotations": {},
            "value": 1.0,
            "source": series.hex if series else "",
            "expectation": "",
            "started_at": self.now - 840,
            "fired_at": self.now - 780,
            "resolved_at": None,
            "acknowledged_at": None,
            "acknowledged_by": None,
            "last_seen_at": self.now,
            "version": 2,
            **more,
        }
        async with self.database.begin() as connection:
            await connection.execute(insert(alerts).values(**row))
        return alert_id

    async def event(self, alert_id: str, kind: str, at: float, actor: str = "system") -> None:
        """One entry of an alert's timeline."""
        async with self.database.begin() as connection:
            await connection.execute(
                insert(alert_events).values(
                    tenant=self.tenant, alert_id=alert_id, at=at, kind=kind, actor=actor, detail={}
                )
            )

    async def notified(self, alert_id: str, channel: str, at: float, **more: Any) -> None:
        """A notification, sent unless `state` says otherwise."""
        text = f"{alert_id}{channel}{at}{sorted(more.items(), key=str)}"
        row = {
            "id": hashlib.blake2b(text.encode(), digest_size=16).hexdigest(),
            "tenant": self.tenant,
            "alert_id": alert_id,
            "kind": "firing",
            "step": 0,
            "channel": channel,
            "payload": {},
            "state": "sent",
            "attempts": 1,
            "created_at": at,
            "due_at": at,
            "lease_until": None,
            "sent_at": at,
            "last_error": None,
            **more,
        }
        async with self.database.begin() as connection:
            await connection.execute(insert(outbox).values(**row))

    async def timer(self, alert_id: str, at: float, payload: Mapping[str, Any]) -> None:
        """The next escalation of an alert."""
        async with self.database.begin() as connection:
            await connection.execute(
                insert(timers).values(
                    id=f"escalate:{alert_id}",
                    tenant=self.tenant,
                    kind="escalate",
                    alert_id=alert_id,
                    due_at=at,
                    payload=dict(payload),
                )
            )


def times(now: float, hours: float = 24, step: float = 300) -> np.ndarray:
    """Seconds up to `now`, ascending."""
    count = int(hours * 3600 / step)
    return now - step * np.arange(count - 1, -1, -1)


def ahead(now: float, steps: int = 24, step: float = 300) -> np.ndarray:
    """Seconds after `now`, ascending."""
    return now + step * np.arange(1, steps + 1)
