import json
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from bench import detection, detection_report, pace, scoring
from bench.baselines import BASELINES, alarms, limit_at
from bench.corpora import Series, labels_of, nab, shipped, write
from models.opinions import WARM
from models.synthetic import daily, times, with_spike

WEEK = 2016


def labelled(file="one.csv", rows=3 * WEEK, spans=((3000, 3020), (5000, 5040))):
    labels = np.zeros(rows, bool)
    for a, b in spans:
        labels[a:b] = True
    return Series(file, times(rows), daily(rows) + 100.0 * labels, labels, 300_000.0)


def stream(series, score, alert=None):
    alert = np.zeros(len(score), bool) if alert is None else alert
    return detection.Stream(np.asarray(score, float), alert, np.asarray(score, float))


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_see_a_spike_and_never_ahead(name):
    values = with_spike(daily(240), 180, 60.0)
    scores = BASELINES[name](values)
    assert np.isfinite(scores).all()
    assert not scores[:WARM].any()
    assert scores.argmax() in range(180, 190)
    assert np.array_equal(BASELINES[name](values[:200]), scores[:200])


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_take_constants_and_sparse_counts(name):
    constant = BASELINES[name](np.full(100, 7.0))
    assert np.ptp(constant[WARM:]) < 1e-9
    sparse = with_spike((np.arange(240) % 17 == 3) * 1.0, 200, 20.0)
    scores = BASELINES[name](sparse)
    assert np.isfinite(scores).all()
    assert scores.argmax() in range(200, 210)


def test_alarms_are_the_first_rows_above():
    scores = np.array([0.0, 2, 3, 0, 2, 1, 5, 5])
    assert alarms(scores, 1.0).tolist() == [False, True, False, False, True, False, True, False]


def test_the_threshold_of_a_baseline_allows_so_many_false_alarms():
    rng = np.random.default_rng(0)
    labels = np.zeros(2000, bool)
    labels[500:520] = True
    scores = rng.exponential(size=2000) + 20.0 * labels
    limit = limit_at([(scores[:1000], labels[:1000]), (scores[1000:], labels[1000:])], 10)
    assert (alarms(scores, limit) & ~labels).sum() in (9, 10)
    none = limit_at([(scores, labels)], 0)
    assert none == pytest.approx(scores[~labels].max())
    assert (alarms(scores, none) & labels).sum() == 1


def test_the_shipped_series_have_windows():
    corpus = shipped()
    assert len(corpus) == 14
    assert all(len(one.t_ms) == len(one.values) == len(one.labels) > 1000 for one in corpus)
    assert all((np.diff(one.t_ms) > 0).all() for one in corpus)
    taxi = next(one for one in corpus if one.file == "nyc_taxi.csv")
    assert (taxi.step_ms, int(taxi.labels.sum())) == (1_800_000, 207 + 207 + 77)


def test_nab_is_read_with_windows_beside_or_where_its_repository_has_them(tmp_path):
    data, elsewhere = tmp_path / "data", tmp_path / "labels"
    (data / "real").mkdir(parents=True)
    elsewhere.mkdir()
    with pytest.raises(ValueError, match=r"data: there is no .*combined_windows\.json and no "):
        labels_of(data)
    times = pd.date_range("2020-01-01", periods=50, freq="5min").astype(str)
    pd.DataFrame({"timestamp": times, "value": range(50)}).to_csv(data / "real" / "a.csv")
    windows = {"real/a.csv": [["2020-01-01 00:10:00", "2020-01-01 00:20:00"]]}
    (elsewhere / "combined_windows.json").write_text(json.dumps(windows))
    (one,) = nab(data, labels_of(data))
    assert np.flatnonzero(one.labels).tolist() == [2, 3, 4]
    assert (one.file, one.rows_a_week) == ("real/a.csv", WEEK)
    (data / "combined_windows.json").write_text("{}")
    assert nab(data, labels_of(data)) == []


def test_the_command_line_scores_what_was_written(tmp_path):
    one = labelled(rows=900, spans=((700, 705),))
    write(tmp_path / "in", {"some": [one]})
    rows, seconds, cpu = detection.detect(tmp_path / "in", tmp_path / "out")
    assert rows == 900
    assert seconds > 0
    assert cpu > 0
    said = detection.read(tmp_path / "out" / "some" / one.file, one)
    found = detection.quality("some", "offbeat", [one], [said])
    assert found.ap > 0.5
    assert found.recall == 1.0
    assert set(np.flatnonzero(said.alert)) <= set(np.flatnonzero(said.strength))
    with pytest.raises(RuntimeError, match="900 rows for 901"):
        detection.read(tmp_path / "out" / "some" / one.file, labelled(rows=901))


def test_a_perfect_stream_is_perfect():
    one = labelled()
    begins = one.labels & ~np.roll(one.labels, 1)
    found = detection.quality("x", "offbeat", [one], [stream(one, one.labels, begins)])
    assert (found.ap, found.ap_each, found.f1, found.recall) == (1.0, 1.0, 1.0, 1.0)
    assert (found.delay, found.false_a_week, found.anomalies) == (0.0, 0.0, 2)
    silent = detection.quality("x", "offbeat", [one], [stream(one, np.zeros(len(one.values)))])
    assert silent.ap == pytest.approx(silent.chance)
    assert np.isnan(silent.delay)


def test_uniform_scores_are_calibrated():
    rng = np.random.default_rng(1)
    corpus = [labelled(rows=20 * WEEK, spans=()) for _ in range(2)]
    streams = [stream(one, rng.random(len(one.values))) for one in corpus]
    family, everything = detection.calibrations({"calm": corpus}, {"calm": streams})
    assert (family.family, everything.family) == ("calm", "all")
    assert family.shares == everything.shares == pytest.approx((0.1, 0.01, 0.001), rel=0.3)
    assert family.alerts_a_week == pytest.approx(detection.BUDGETS, rel=0.5)
    assert family.alerts[-1] == round(family.alerts_a_week[-1] * family.weeks)
    assert 1.0 <= family.off < 2.0


def test_silence_is_off_budget_as_far_as_it_could_show():
    calm = detection.Calibration("x", 10.0, (0.1,) * 3, (0,) * 4, (0.0,) * 4)
    assert calm.off == pytest.approx(50.0)


REFEREE = """
import json, pathlib, sys
data, labels, results, flag = sys.argv[1:]
assert flag == "--json" and pathlib.Path(labels).is_file()
rows = (pathlib.Path(results) / "one.csv").read_text().splitlines()
assert rows[0] == "timestamp,anomaly_score" and rows[1].startswith("2020-01-01 00:00:00,")
assert len(rows) == len((pathlib.Path(data) / "one.csv").read_text().splitlines())
one = {"score": max(float(row.split(",")[1]) for row in rows[1:]),
       "windows_detected": 1, "fp_rows": 2}
print(json.dumps({name: one for name in ("standard", "reward_low_FP", "reward_low_FN")}))
"""


def test_a_referee_gets_results_and_is_believed(tmp_path):
    one = labelled(rows=200, spans=((100, 110),))
    at = pd.date_range("2020-01-01", periods=200, freq="5min").astype(str)
    pd.DataFrame({"timestamp": at, "value": one.values}).to_csv(tmp_path / "one.csv", index=False)
    labels, referee = tmp_path / "labels.json", tmp_path / "referee.py"
    labels.write_text("{}")
    referee.write_text(REFEREE)
    detection.give(tmp_path / "results", tmp_path, [one], [stream(one, one.labels * 0.75)])
    said = detection.judge("offbeat", referee, tmp_path, labels, tmp_path / "results")
    assert said == detection.Refereed("offbeat", 0.75, 0.75, 0.75, 1, 2)
    referee.write_text("raise SystemExit('no such corpus')")
    with pytest.raises(RuntimeError, match="no such corpus"):
        detection.judge("offbeat", referee, tmp_path, labels, tmp_path / "results")


def test_forests_are_compared_with_the_reference():
    fit, ask = pace.forests(ours=20, theirs=1)
    assert fit.ratio is not None
    assert fit.ratio > 1
    assert ask.ratio is not None
    assert ask.ratio > 1


def test_many_series_together_are_measured():
    together = pace.bank(count=4, models=1)
    assert together.what == "a new point, 4 series together"
    assert together.value > 0


def test_scoring_in_bulk_is_measured(monkeypatch):
    monkeypatch.setattr(scoring, "_ROWS", 400)
    monkeypatch.setattr(scoring, "_DIFFERENT", 1)
    figures = scoring.measure(20)
    assert [figure.unit for figure in figures] == ["ms"] * 5 + ["µs", "kB"]
    median, mean, slowest = (figure.value for figure in figures[2:5])
    assert 0 < median <= slowest
    assert figures[5].value == pytest.approx(mean / 20 * 1e3)


def test_everything_is_shown_and_is_json():
    one = labelled()
    perfect, silent = stream(one, one.labels, one.labels), stream(one, np.zeros(len(one.values)))
    found = detection.Detection(
        [
            detection.quality("web", method, [one], [perfect if method == "offbeat" else silent])
            for method in detection.METHODS
        ],
        detection.calibrations({"web": [one]}, {"web": [silent]}),
        [detection.Refereed("offbeat", 61.5, 50.0, 70.0, 80, 300)],
        [pace.Figure("a walk", 12.5, "µs", 40.0, 10.0, 100.0), pace.Figure("free", 1.0, "s")],
        ["NAB was left out"],
    )
    plain = json.loads(json.dumps(found.plain(), allow_nan=False))
    assert plain["quality"][1]["delay"] is None
    assert plain["average_precision_ratio"]["web"] > 10
    console = Console(width=160, record=True, file=sys.stderr)
    detection_report.show(found, console)
    text = console.export_text()
    for part in ("web (2)", "61.5", "Gaussian z", "a walk", "NAB was left out", "✓✓"):
        assert part in text


def test_a_corpus_of_which_nothing_was_found_is_named():
    one = labelled()
    nothing = replace(
        detection.quality("web", "offbeat", [one], [stream(one, np.zeros(len(one.values)))]), ap=0.0
    )
    baselines = [replace(nothing, method=method, ap=0.5) for method in BASELINES]
    console = Console(width=160, record=True, file=sys.stderr)
    found = detection.Detection([nothing, *baselines], [], [], [], [])
    detection_report.show(found, console)
    (row,) = (line for line in console.export_text().splitlines() if "offbeat" in line)
    assert "web (2)" in row
    assert "✗" in row


def test_marks():
    assert [detection_report.mark(v, 60, 75) for v in (59, 60, 75)] == ["✗", "✓", "✓✓"]
    marks = [detection_report.mark(v, 2.0, 1.2, less=True) for v in (2.1, 2.0, 1.1)]
    assert marks == ["✗", "✓", "✓✓"]
