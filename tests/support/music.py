"""A music service on a bad evening: what the pages are shown with."""

import numpy as np

from service.domain.series import Series
from tests.support.seed import Seed, ahead, times

DAY = 86400.0
EUROPE = {"region": "eu-west"}


def daily(t: np.ndarray, now: float, peak: float = 10.0) -> np.ndarray:
    """A day's rhythm between −1 and 1; `now` lies on its rise."""
    return np.sin(2 * np.pi * ((t - now) / DAY - (peak - 10) / 24) - 0.2)


async def evening(seed: Seed) -> str:
    """Store it; returns the id of the alert that waits for somebody."""
    rng, now = np.random.default_rng(11), seed.now
    t, f = times(now), ahead(now, 48)
    late, before = t > now - 840, t > now - 1080

    def usual(level: float, swing: float, x: np.ndarray) -> np.ndarray:
        return level + swing * daily(x, now)

    async def calm(
        name: str, level: float, swing: float, noise: float, tags: dict[str, str] | None = None
    ) -> Series:
        expected = usual(level, swing, t)
        v = expected + rng.normal(0, noise, len(t))
        series = Series.of(name, tags or {})
        width = 3.2 * noise
        await seed.modelled(
            series, t, v, expected, width=width, forecast=(f, usual(level, swing, f))
        )
        return series

    total, whole = np.zeros(len(t)), Series.of("play_starts", EUROPE)
    for cdn in ("edge-2", "edge-5", "edge-7"):
        for platform in ("mobile", "web"):
            expected = usual(11_000, 4_000, t)
            hurt = late & (cdn == "edge-7")
            v = expected * np.where(hurt, 0.07, 1.0) + rng.normal(0, 260, len(t))
            tags = {**EUROPE, "cdn": cdn, "platform": platform}
            await seed.modelled(
                Series.of("play_starts", tags), t, v, expected, width=900, unusual=hurt
            )
            total += v
    await seed.modelled(
        whole,
        t,
        total,
        usual(66_000, 24_000, t),
        width=6_500,
        unusual=late,
        forecast=(f, usual(66_000, 24_000, f)),
    )
    for name, level, factor, noise in (
        ("buffer_health_percent", 91.0, 0.78, 0.7),
        ("errors_5xx", 12.0, 9.0, 1.1),
    ):
        expected = np.full(len(t), level)
        v = expected * np.where(before, factor, 1.0) + rng.normal(0, noise, len(t))
        await seed.modelled(
            Series.of(name, EUROPE),
            t,
            v,
            expected,
            width=4 * noise,
            unusual=before,
            forecast=(f, np.full(len(f), level)),
        )
    await calm("listeners", 47_000, 9_000, 420)
    await calm("skip_ratio", 0.21, 0.02, 0.003)
    await calm("premium_sign_ups", 310, 60, 9)
    await calm("request_latency_seconds", 0.084, 0.006, 0.0012, {"service": "catalogue"})
    disk = Series.of("disk_used_percent", {"host": "ingest-2"})
    expected = 84.5 + 0.2 * (t - now) / 3600
    rising = 84.5 + 0.75 * (ahead(now, 24, 3600) - now) / 3600
    await seed.modelled(
        disk,
        t,
        expected + rng.normal(0, 0.05, len(t)),
        expected,
        width=0.4,
        forecast=(ahead(now, 24, 3600), rising),
    )
    week = times(now, hours=24 * 8)
    amapiano = np.where(week > now - 8 * 3600, 1380.0, 1000.0) + rng.normal(0, 20, len(week))
    await seed.put(Series.of("genre_plays", {"genre": "amapiano"}), week, amapiano)
    await seed.model(Series.of("genre_plays", {"genre": "amapiano"}), "cold", rows=210)

    for i in range(7):
        start = now - 3600 * (9 + 5 * i)
        lasted = 400.0 if i < 5 else 2400.0
        noisy = await seed.alert(
            "High error rate",
            Series.of("errors_5xx", EUROPE),
            episode=i + 1,
            state="resolved",
            severity="medium",
            value=31.0,
            expectation="above 30",
            started_at=start,
            fired_at=start + 300,
            resolved_at=start + lasted,
        )
        await seed.event(noisy, "fired", start + 300)
        await seed.event(noisy, "resolved", start + lasted)
    alert = await seed.alert(
        "Play starts",
        whole,
        annotations={"summary": "Play starts far below expectation"},
        value=float(total[-1]),
        expectation="expected 60,000 to 73,000",
        started_at=now - 840,
        fired_at=now - 780,
    )
    await seed.event(alert, "pending", now - 840)
    await seed.event(alert, "fired", now - 780)
    await seed.notified(alert, "slack", now - 779)
    await seed.event(alert, "notified", now - 779)
    await seed.timer(alert, now + 120, {"step": 2, "channels": ["sms"]})
    return alert
