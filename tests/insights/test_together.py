"""Metrics of one host judged together, on real stores."""

import numpy as np
import pytest

from service.domain.clock import ManualClock
from service.domain.series import SCORE, Series
from service.insights import together
from service.insights.finding import Finding, Kind
from service.settings import Settings
from service.storage.columns import Columns
from tests.insights.conftest import NOW, findings
from tests.support.seed import Seed, times

NAMES = ("cpu_percent", "disk_ms", "errors", "latency_ms", "memory_percent", "requests")


async def host(
    seed: Seed,
    name: str,
    newest: dict[str, float],
    hours: float = 48,
    step: float = 300,
    usual: float = 0.998,
) -> list[Series]:
    """Six metrics of a host with scores up to `usual`, as on normal data, but the `newest`."""
    t = times(NOW, hours, step)
    made = []
    rng = np.random.default_rng(3)
    columns = []
    for metric in NAMES:
        scores = rng.random(len(t)) * usual
        scores[-2:] = newest.get(metric, 0.5)
        series = Series.of(metric, {"host": name})
        columns += [(series, t, np.full(len(t), 5.0)), (series.derived(SCORE), t, scores)]
        made.append(series)
    await seed.put_all(columns)
    return made


async def told(seed: Seed, clock: ManualClock, settings: Settings) -> list[Finding]:
    return [f for f in await findings(seed, clock, settings) if f.kind is Kind.TOGETHER]


async def test_metrics_that_are_a_little_odd_at_once_are_told_as_one(
    seed: Seed, clock: ManualClock, settings: Settings
) -> None:
    await host(seed, "web-1", {})
    odd = await host(seed, "web-2", dict.fromkeys(NAMES[:5], 0.99))
    (found,) = await told(seed, clock, settings)
    assert found.title == "web-2: odd as a whole"
    assert found.text.startswith("CPU, Disk and 3 more are each a little odd at the same time")
    assert set(found.series) == {s.hex for s in odd[:5]}
    score = found.evidence["score"]
    assert isinstance(score, float)
    assert score >= 0.999
    assert found.since == (NOW - 300) // 300 * 300


async def test_slow_metrics_are_told_until_their_next_samples_come(
    seed: Seed, clock: ManualClock, settings: Settings
) -> None:
    await host(seed, "web-2", dict.fromkeys(NAMES[:5], 0.99), hours=71, step=900)
    for ago in (0, 850, 3600):
        clock.set(NOW + ago)
        (found,) = await told(seed, clock, settings)
        assert found.title == "web-2: odd as a whole"
        assert "none of them is unusual by itself, but all of them together" in found.text
    clock.set(NOW + 4600)
    assert await told(seed, clock, settings) == []


async def test_what_is_unusual_by_itself_is_not_told_twice(
    seed: Seed, clock: ManualClock, settings: Settings
) -> None:
    await host(seed, "web-2", {**dict.fromkeys(NAMES[:5], 0.99), NAMES[0]: 0.9999})
    assert await told(seed, clock, settings) == []


async def test_a_single_row_is_chance(seed: Seed, clock: ManualClock, settings: Settings) -> None:
    made = await host(seed, "web-2", dict.fromkeys(NAMES[:5], 0.99))
    for series in made:
        await seed.put(series.derived(SCORE), [NOW - 300], [0.5])
    assert await told(seed, clock, settings) == []


async def test_too_few_rows_tell_nothing(
    seed: Seed, clock: ManualClock, settings: Settings
) -> None:
    await host(seed, "web-2", dict.fromkeys(NAMES, 0.99), hours=10)
    assert await told(seed, clock, settings) == []


async def test_one_metric_with_scores_is_no_entity(seed: Seed) -> None:
    t = times(NOW)
    cpu, memory = (Series.of(name, {"host": "a"}) for name in ("cpu", "memory"))
    await seed.put_all([(s, t, np.ones(len(t))) for s in (cpu, memory, cpu.derived(SCORE))])
    known = await seed.source.all(seed.tenant)
    metrics = together.metrics_of(known, cpu)
    assert metrics == [cpu, memory]
    assert await together.judge(seed.source, seed.tenant, known, metrics, NOW) is None


async def test_where_one_alone_is_odd_nothing_is_told(
    seed: Seed, clock: ManualClock, settings: Settings
) -> None:
    await host(seed, "web-2", {NAMES[0]: 0.9985}, usual=0.9)
    assert await told(seed, clock, settings) == []


def test_an_entity_is_what_has_the_same_labels() -> None:
    made = [Series.of(name, {"host": host}) for name in ("cpu", "mem") for host in ("a", "b")]
    made += [made[0].derived(SCORE), Series.of("cpu"), Series.of("disk", {"host": "a", "dev": "1"})]
    known = {s.id: s for s in made}
    names = [str(s) for s in together.metrics_of(known, made[0].derived(SCORE))]
    assert names == ['cpu{host="a"}', 'mem{host="a"}']


def test_scores_of_different_paces_stand_on_one_grid() -> None:
    fast = Columns(np.arange(0, 60_000, 10_000), np.linspace(0, 0.5, 6))
    late = Columns(np.arange(3_000, 63_000, 10_000), np.linspace(0.5, 1, 6))
    slow = Columns(np.array([9_000, 49_000]), np.array([0.1, 7.0]))
    t, each = together.lay([fast, late, slow])
    assert t.tolist() == [0, 10_000, 20_000, 30_000, 40_000, 50_000]
    assert each[:, :2] == pytest.approx(np.stack([fast.v, late.v], axis=1))
    assert each[0, 2] == 0.1
    assert np.isnan(each[1:, 2]).all()  # and 7 is no score
