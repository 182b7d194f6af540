"""Series without a model in the service: alone, beside peers, and how sure one may be of them."""

from dataclasses import replace

import numpy as np
import pytest
import structlog

from models.synthetic import daily, noise, times, with_spike
from service.detection.cold import NEWEST, ColdScorer
from service.detection.records import ModelRecord, ModelRecords, ModelState
from service.detection.standing import Standings, standing
from service.domain.confidence import ALONE_ROWS, BESIDE_ROWS, PAGES_FROM, of_cold
from service.domain.series import (
    EXPECTED,
    EXPECTED_LOWER,
    EXPECTED_UPPER,
    SCORE,
    MetricType,
    Series,
)
from service.storage.columns import Columns
from service.storage.head import Head

TENANT = "acme"
CPU = Series.of("cpu", {"host": "new"})
PEERS = [Series.of("cpu", {"host": f"h{i}"}) for i in range(3)]
NOBODY: frozenset[int] = frozenset()
T = times(400)


@pytest.fixture
def head():
    return Head(4096)


def put(head, series, t, v):
    head.add_series(TENANT, {series.id: series})
    head.put(TENANT, series.id, Columns(np.asarray(t), np.asarray(v, np.float64)))


def modelled(head, series, t, v, expected):
    put(head, series, t, v)
    for suffix, factor in ((EXPECTED, 1.0), (EXPECTED_LOWER, 0.9), (EXPECTED_UPPER, 1.1)):
        put(head, series.derived(suffix), t, expected * factor)


def scored(head, *series, trained=NOBODY, since=0):
    found = ColdScorer().score(TENANT, head, series, trained, lambda _: since)
    return {one: {s.name.removeprefix(one.name): c for s, c in said} for one, said in found}


def test_the_first_rows_of_a_series_are_judged(head):
    put(head, CPU, T[:40], with_spike(noise(40), 39, 60.0))
    said = scored(head, CPU)[CPU]
    assert list(said) == [SCORE, EXPECTED, EXPECTED_LOWER, EXPECTED_UPPER]
    score = said[SCORE]
    assert np.array_equal(score.t, T[ALONE_ROWS:40])
    assert score.v[-1] > 0.99 > score.v[:-1].max()


def test_a_few_rows_say_nothing(head):
    put(head, CPU, T[:ALONE_ROWS], noise(ALONE_ROWS))
    assert scored(head, CPU) == {}
    put(head, CPU, T[ALONE_ROWS : ALONE_ROWS + 1], [100.0])
    assert len(scored(head, CPU)[CPU][SCORE].t) == 1


def test_what_is_said_is_said_once(head):
    put(head, CPU, T[:100], noise(100))
    assert np.array_equal(scored(head, CPU, since=int(T[96]))[CPU][SCORE].t, T[97:100])
    assert scored(head, CPU, since=int(T[99])) == {}
    # of a history that comes in whole, the newest
    assert np.array_equal(scored(head, CPU)[CPU][SCORE].t, T[100 - NEWEST : 100])


def test_row_by_row_is_as_all_at_once(head):
    values = noise(60)
    put(head, CPU, T[:60], values)
    whole = scored(head, CPU, since=int(T[49]))[CPU]
    for n in range(51, 61):
        head.drop(TENANT)
        put(head, CPU, T[:n], values[:n])
        for suffix, columns in scored(head, CPU, since=int(T[n - 2]))[CPU].items():
            assert columns.v == pytest.approx(whole[suffix].v[n - 51 : n - 50])


def test_many_series_are_judged_in_parts(head):
    many = [Series.of("cpu", {"host": f"m{i}"}) for i in range(400)]
    for i, series in enumerate(many):
        put(head, series, T[:100], noise(100, i))
    found = scored(head, *many)
    assert list(found) == many
    alone = scored(head, many[399])[many[399]][SCORE].v
    assert np.allclose(found[many[399]][SCORE].v, alone)


def test_a_counter_is_judged_by_its_rate_and_told_as_a_total(head):
    requests = Series.of("requests_total", metric_type=MetricType.COUNTER)
    steps = noise(60)
    steps[50] = 300.0
    total = np.cumsum(steps)
    total[40:] -= total[39]  # a restart
    put(head, requests, T[:60], total)
    said = scored(head, requests)[requests]
    at = said[SCORE].t.tolist()
    assert said[SCORE].v[at.index(T[50])] > 0.99
    assert said[SCORE].v[at.index(T[40])] < 0.99
    calm = at.index(T[55])
    assert said[EXPECTED_LOWER].v[calm] < total[55] < said[EXPECTED_UPPER].v[calm]


def test_gaps_and_missing_values(head):
    values = noise(60)
    values[[20, 21, 58]] = np.nan
    t = np.where(np.arange(60) > 30, T[:60] + 86_400_000, T[:60])
    put(head, CPU, t, values)
    said = scored(head, CPU)[CPU]
    assert said[SCORE].v[said[SCORE].t == t[58]] == 0
    assert all(np.isfinite(columns.v).all() for columns in said.values())


def test_peers_lend_their_rhythm_from_the_fifth_row_on(head):
    rhythm = daily(300, noise=0.0)
    for i, peer in enumerate(PEERS):
        modelled(head, peer, T[:300], rhythm * 10.0**i, rhythm * 10.0**i)
    put(head, CPU, T[290:300], 3.0 * rhythm[290:300])
    trained = frozenset(peer.id for peer in PEERS)
    said = scored(head, CPU, trained=trained)[CPU]
    assert len(said[SCORE].t) == 10 - BESIDE_ROWS
    assert said[EXPECTED].v == pytest.approx(3.0 * rhythm[290 + BESIDE_ROWS : 300], rel=1e-6)
    assert (said[SCORE].v < 0.9).all()
    two = frozenset(peer.id for peer in PEERS[:2])
    assert scored(head, CPU, trained=two) == {}


def test_counters_have_peers_too(head):
    rhythm = daily(300, noise=0.0)
    kind = MetricType.COUNTER
    peers = [Series.of("hits_total", {"host": f"h{i}"}, kind) for i in range(3)]
    for i, peer in enumerate(peers):
        total = np.cumsum(rhythm * 10.0**i)
        modelled(head, peer, T[:300], total, total)
    own = Series.of("hits_total", {"host": "new"}, kind)
    total = np.cumsum(3.0 * rhythm[280:300])
    put(head, own, T[280:300], total)
    said = scored(head, own, trained=frozenset(peer.id for peer in peers))[own]
    # the totals of peers have bands of a tenth of the total: wide, for a rate
    assert said[EXPECTED].v == pytest.approx(total[-len(said[EXPECTED].v) :], rel=1e-6)


def test_models_words_are_no_candidates(head):
    scorer = ColdScorer()
    put(head, CPU, T[:5], noise(5))
    put(head, CPU.derived(SCORE), T[:5], noise(5))
    known = head.series(TENANT)
    for _ in range(2):
        assert scorer.candidates(TENANT, {*known, 12345}, known) == [CPU]
    scorer.forget(TENANT)
    assert scorer.candidates(TENANT, {CPU.id}, known) == [CPU]


def test_one_series_that_fails_is_named_and_harms_no_other(head):
    put(head, CPU, T[:40], noise(40))
    scorer = ColdScorer()
    broken = Series.of("broken")
    head.add_series(TENANT, {broken.id: broken})

    class Broken(Head):
        def columns(self, tenant, series):
            found = head.columns(tenant, series)
            return Columns(T[:40], np.array(["x"] * 40)) if series == broken.id else found

        def series(self, tenant):
            return head.series(tenant)

    with structlog.testing.capture_logs() as lines:
        found = dict(scorer.score(TENANT, Broken(1), [broken, CPU], NOBODY, lambda _: 0))
    assert found.keys() == {CPU}
    assert scorer.failures == 1
    (line,) = lines
    assert (line["event"], line["series"]) == ("cold scoring failed", broken.hex)
    assert line["failed"] == 1
    assert isinstance(line["exc_info"], Exception)


def a_record(**fields):
    given = {"version": 1, "state": "ready", "rows": 900, "quality": {"coverage": 0.985}}
    return given | fields


def test_where_a_series_stands():
    assert standing(None, 0, 0).state is ModelState.COLD
    assert standing(None, ALONE_ROWS - 1, 0).confidence == 0
    assert standing(None, 60, 2) == standing(a_record(version=0, state="cold"), 60, 2)
    assert standing(None, 60, 0).confidence == of_cold(60, peers=False)
    beside = standing(None, BESIDE_ROWS, 3)
    assert beside.state is ModelState.PEERS
    assert 0 < beside.confidence < PAGES_FROM
    assert standing(None, 10**9, 3).confidence < PAGES_FROM
    failed = standing(a_record(version=0, state="failed"), 60, 0)
    assert failed.state is ModelState.FAILED
    assert failed.confidence < PAGES_FROM
    ready = standing(a_record(), 0, 0)
    assert (ready.state, ready.confidence > 0.8) == (ModelState.READY, True)
    # an older model stays in use
    old = standing(a_record(state="failed"), 0, 0)
    assert (old.state, old.confidence) == (ModelState.FAILED, ready.confidence)
    assert standing(a_record(quality={"coverage": 0.75}), 0, 0).confidence < PAGES_FROM


async def test_confidence_of_trained_series_is_read_as_they_are_trained(
    sqlite, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("service.detection.standing._LOOK_SECONDS", 0.0)
    records = ModelRecords(sqlite)
    first = ModelRecord(
        TENANT,
        PEERS[0].hex,
        ModelState.READY,
        version=1,
        trained_at=1e9,
        rows=900,
        quality={"coverage": 0.99},
    )
    cold = replace(first, series_id=CPU.hex, state=ModelState.COLD, version=0, trained_at=None)
    await records.put([first, cold])
    standings = Standings(records)
    assert await standings.of(TENANT) == {PEERS[0].id: pytest.approx(0.9)}
    assert await standings.of("other") == {}
    await records.put([replace(first, series_id=PEERS[1].hex, trained_at=1e9 + 60)])
    with monkeypatch.context() as patched:
        patched.setattr("service.detection.standing._LOOK_SECONDS", 3600.0)
        assert set(await standings.of(TENANT)) == {PEERS[0].id}  # not asked again so soon
    assert set(await standings.of(TENANT)) == {PEERS[0].id, PEERS[1].id}
    # trained again, and looked at again
    await records.put([replace(first, trained_at=1e9 + 90_000, quality={"coverage": 0.75})])
    assert (await standings.of(TENANT))[PEERS[0].id] < PAGES_FROM
    standings.forget(TENANT, [PEERS[1].id])
    assert set(await standings.of(TENANT)) == {PEERS[0].id}
    standings.forget(TENANT)
    assert set(await standings.of(TENANT)) == {PEERS[0].id, PEERS[1].id}
