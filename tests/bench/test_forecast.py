import io
import json

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from bench import forecast, forecast_report, m4
from bench.__main__ import app
from models.synthetic import daily


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two series in the competition's form, one longer than the other."""
    path = tmp_path_factory.mktemp("m4")
    ys = [daily(rows + m4.HORIZON, rows, m4.SEASON) for rows in (400, 450)]
    for name, cut in ((m4.TRAIN, slice(0, -m4.HORIZON)), (m4.TEST, slice(-m4.HORIZON, None))):
        rows = [[f"H{i}", *(repr(float(v)) for v in y[cut])] for i, y in enumerate(ys, 1)]
        width = max(map(len, rows))
        lines = [[f"V{i}" for i in range(1, width + 1)]]
        lines += [row + [""] * (width - len(row)) for row in rows]
        (path / name).write_text("".join(",".join(f'"{one}"' for one in x) + "\n" for x in lines))
    return path


def test_naive2_repeats_a_season_only_where_there_is_one():
    season = 10.0 + np.sin(np.arange(240) * 2 * np.pi / 24)
    assert m4.naive2(season) == pytest.approx(np.tile(season[:24], 2), rel=1e-6)
    noise = np.random.default_rng(1).normal(100.0, 1.0, 240)
    assert (m4.naive2(noise) == noise[-1]).all()
    assert (m4.naive2(np.full(99, 7.0)) == 7.0).all()


def test_errors_are_those_of_the_competition():
    series = m4.Series("x", np.tile([1.0, 3.0], 24) + np.repeat([0.0, 1.0], 24), np.full(48, 4.0))
    assert series.scale == 1.0
    assert m4.mase(series, np.full(48, 6.0)) == 2.0
    assert m4.smape(series.future, np.full(48, 6.0)) == pytest.approx(40.0)
    assert m4.smape(np.zeros(2), np.zeros(2)) == 0.0
    inside = m4.interval_score(series, np.full(48, 3.0), np.full(48, 5.0), 0.9)
    outside = m4.interval_score(series, np.full(48, 5.0), np.full(48, 7.0), 0.9)
    assert (inside, outside) == pytest.approx((2.0, 22.0))


def test_everything_is_measured_in_one_run(folder):
    done = CliRunner().invoke(app, ["forecast", "--data", str(folder), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["forecast"]
    assert found["series"] == 2
    said = {one["method"]: one for one in found["accuracy"]}
    assert said["Naive2"]["owa"] == 1.0
    assert said["mixture"]["owa"] < said["seasonal_naive"]["owa"] < said["naive"]["owa"]
    assert all(one["cpu"] > 0 for one in said.values())
    levels = {one["level"]: one["coverage"] for one in found["intervals"]}
    assert levels[0.8] <= levels[0.9] <= levels[0.95]


def test_the_table_marks_targets():
    text = io.StringIO()
    found = forecast.Forecasts(
        414,
        [forecast.Accuracy("mixture", 8.0, 0.7, 0.38, 3, 0.3)],
        [forecast.Intervals("mixture", 0.9, 0.95, 1, 4.0)],
    )
    forecast_report.show(found, Console(file=text, width=120))
    first, second = (
        next(line for line in part.splitlines() if "mixture" in line and "│" in line)
        for part in text.getvalue().split("Prediction intervals")
    )
    assert [mark for mark in first if mark in "✓✗"] == ["✓", "✗"]
    assert [mark for mark in second if mark in "✓✗"] == ["✗"]


def test_what_is_no_such_corpus_is_refused(folder, tmp_path):
    def refused(reason):
        done = CliRunner().invoke(app, ["forecast", "--data", str(tmp_path)])
        assert done.exit_code == 2
        assert reason in " ".join(done.output.replace("│", " ").split())

    refused("No such file")
    (tmp_path / m4.TRAIN).write_text((folder / m4.TRAIN).read_text())
    (tmp_path / m4.TEST).write_text('"V1","V2"\n"H1","high"\n')
    refused("line 2: could not convert")
    (tmp_path / m4.TEST).write_text('"V1","V2"\n"H1","1"\n')
    refused("do not hold the same series")
