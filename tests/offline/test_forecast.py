"""`offbeat forecast` as people run it: the command, files in, files out."""

import json
import os
import pty
import subprocess
import sys
from datetime import UTC, datetime

import numpy as np
import pytest

from models.forecast.series import SeriesForecaster
from models.synthetic import daily, times
from service.offline.stamps import StampForm
from service.offline.table import Table
from service.offline.table import times as read_times
from tests.support.commands import offbeat, table

HEADER = ["unique_id", "ds", "forecast", "lower", "upper"]
ROWS, HOUR = 240, 3600
START = 1_700_000_000 // HOUR * HOUR


def series(seed=0, rows=ROWS):
    return START + HOUR * np.arange(rows), daily(rows, seed, 24)


def iso(t):
    return datetime.fromtimestamp(int(t), UTC).strftime("%Y-%m-%d %H:%M:%S")


def lines(name, t, v, stamp=iso):
    return [f"{name},{stamp(a)},{b!r}\n" for a, b in zip(t.tolist(), v.tolist(), strict=True)]


def long(*names, stamp=iso):
    return [line for seed, name in enumerate(names) for line in lines(name, *series(seed), stamp)]


def run(*args, status=0):
    return offbeat("forecast", *args, status=status)


def rows(path_or_text):
    return table(path_or_text, HEADER)


def numbers(table, name):
    return np.array([[float(x) for x in row[2:]] for row in table if row[0] == name])


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """A file of two series and what the command says about it, 12 steps ahead."""
    source = tmp_path_factory.mktemp("two") / "two.csv"
    source.write_text("unique_id,ds,y\n" + "".join(long("a", "b")))
    return source, rows(run(source, "--horizon", 12).stdout)


def test_a_file_goes_to_stdout_as_the_library_has_it(said):
    _, told = said
    assert [row[0] for row in told] == ["a"] * 12 + ["b"] * 12
    for seed, name in enumerate("ab"):
        t, v = series(seed)
        forecast = SeriesForecaster(12).fit(t * 1000, v).predict()
        assert [row[1] for row in told if row[0] == name] == [iso(s // 1000) for s in forecast.t_ms]
        want = np.c_[forecast.value, forecast.lower, forecast.upper]
        assert np.array_equal(numbers(told, name), want)  # bit for bit


def test_rows_in_any_order_double_rows_and_missing_values(said, tmp_path):
    _, told = said
    body = long("a", "b")
    order = np.random.default_rng(0).permutation(len(body))
    body = [body[i] for i in order] + [f"a,{iso(START)},5\n", f"b,{iso(START + HOUR * ROWS)},\n"]
    source = tmp_path / "x.csv"
    source.write_text("unique_id,ds,y\n" + "".join(body))
    again = rows(run(source, "--horizon", 12).stdout)
    for name in "ab":
        assert np.array_equal(numbers(again, name), numbers(told, name))


def test_a_level_makes_wider_or_narrower_bounds(said):
    source, told = said
    wide = rows(run(source, "--horizon", 12, "--level", 99).stdout)
    half = rows(run(source, "--horizon", 12, "--level", 50).stdout)
    widths = [np.ptp(numbers(table, "a")[:, 1:], axis=1).mean() for table in (half, told, wide)]
    assert widths[0] < widths[1] < widths[2]
    assert run(source, "--level", 100, status=2)
    assert run(source, "--horizon", 0, status=2)


def test_one_series_by_the_name_of_its_file(said, tmp_path):
    _, told = said
    t, v = series()
    for header, stamp in (("timestamp,value", str), ("ds,y", iso)):
        source = tmp_path / "cpu.csv"
        body = (f"{stamp(a)},{b!r}\n" for a, b in zip(t.tolist(), v.tolist(), strict=True))
        source.write_text(f"{header}\n" + "".join(body))
        again = rows(run(source, "--horizon", 12).stdout)
        assert {row[0] for row in again} == {"cpu"}
        assert np.array_equal(numbers(again, "cpu"), numbers(told, "a"))
        assert again[0][1] == stamp(START + HOUR * ROWS)


def test_steps_may_be_counted(said, tmp_path):
    _, told = said
    source = tmp_path / "m4.csv"
    source.write_text(
        "unique_id,ds,y\n" + "".join(long("a", stamp=lambda t: (t - START) // HOUR + 1))
    )
    reason = run(source, status=1).stderr
    assert f"{source}: line {ROWS + 1}: ds '{ROWS}' as Unix seconds is in 1970" in reason
    assert "--step 1h" in reason
    again = rows(run(source, "--horizon", 12, "--step", "1h").stdout)
    assert [row[1] for row in again] == [str(ROWS + k) for k in range(1, 13)]
    # counted hours begin at midnight: the season is the same, at another time of day
    assert np.abs(numbers(again, "a") - numbers(told, "a")).max() < 3
    refused = run(source, "--step", "soon", status=2).stderr
    assert "Invalid value for --step: a duration is" in refused
    source.write_text("unique_id,ds,y\n" + "".join(long("a")))
    assert "is no whole number of steps" in run(source, "--step", "1h", status=1).stderr


FORMS = {
    "2024-03-01": ("2024-03-02", "2024-03-01T06:00:00"),
    "2024-03-01 00:00": ("2024-03-02 00:00", "2024-03-01 06:00"),
    "2024-03-01T00:00:00": ("2024-03-02T00:00:00", "2024-03-01T06:00:00"),
    "2024-03-01 00:00:00.000": ("2024-03-02 00:00:00", "2024-03-01 06:00:00"),
    "2024-03-01T00:00:00Z": ("2024-03-02T00:00:00Z", "2024-03-01T06:00:00Z"),
    "2024-03-01T02:00:00+02:00": ("2024-03-02T02:00:00+02:00", "2024-03-01T08:00:00+02:00"),
    "2024-02-29T18:30-0530": ("2024-03-01T18:30-0530", "2024-03-01T00:30-0530"),
    "1709251200": ("1709337600", "1709272800"),
    " 1709251200.0 ": ("1709337600", "1709272800"),
    "1709251200.25": ("1709337600.25", "1709272800.25"),
}


@pytest.mark.parametrize("text", FORMS)
def test_times_are_written_as_they_were_read(text, tmp_path):
    def read(stamp):
        return int(read_times(Table(tmp_path, {"ds": [stamp]}, [2]), "ds")[0])

    form, t = StampForm.of(text), read(text)
    written = form.write(t + 86_400_000), form.write(t + 6 * 3_600_000)
    assert written == FORMS[text]
    assert [read(one) - t for one in written] == [86_400_000, 6 * 3_600_000]
    assert read(form.write(t + 1)) == t + 1  # never rounded


BROKEN = {
    "": "line 1: there is no header",
    "time,value\n1,2\n": "line 1: has neither unique_id, ds and y nor timestamp and value; it has",
    "unique_id,ds,y\n": "there are no rows below the header",
    "ds,y\n2024-01-01,1\n": "line 2: 1 value is too few",
    "ds,y\n2024-01-01,1\n\n3\n": "line 4: has 1 field, the header has 2",
    "ds,y\n2024-01-01,high\n": "line 2: value 'high' is no number",
    "ds,y\nyesterday,1\n": "line 2: timestamp 'yesterday' is neither",
}


@pytest.mark.parametrize("body", BROKEN, ids=BROKEN.values())
def test_what_is_wrong_is_named_with_its_line(body, tmp_path):
    source, target = tmp_path / "x.csv", tmp_path / "y.csv"
    source.write_text(body)
    done = run(source, status=1)
    assert f"offbeat: {source}: {BROKEN[body]}" in done.stderr
    assert done.stdout == ""
    run(source, "-o", target, status=1)
    assert list(tmp_path.iterdir()) == [source]  # nothing half written


def test_a_bad_series_stops_no_other(said, tmp_path):
    _, told = said
    good = long("a", "b")
    body = [*good[:100], "c,2024-01-01,x1\n", *good[100:], "d,now,1\n", *long("e")[:31]]
    (tmp_path / "in" / "deep").mkdir(parents=True)
    source = tmp_path / "in" / "deep" / "some.csv"
    source.write_text("unique_id,ds,y\n" + "".join(body))
    (tmp_path / "in" / "none.csv").write_text("unique_id,ds,y\n")
    (tmp_path / "in" / "a.csv").write_text("unique_id,ds,y\n" + "".join(good[:ROWS]))
    done = run(tmp_path / "in", "-o", tmp_path / "out", "--horizon", 12, "--json", status=1)
    last = len(body) + 1
    assert done.stderr.splitlines() == [
        f"offbeat: {source}: line 102: value 'x1' is no number (series 'c')",
        f"offbeat: {source}: line {last - 31}: timestamp 'now' is neither Unix seconds nor "
        "ISO 8601 (series 'd')",
        f"offbeat: {source}: line {last}: 31 values are too few, a forecast needs 32 (series 'e')",
        f"offbeat: {tmp_path}/in/none.csv: there are no rows below the header",
    ]
    assert rows(tmp_path / "out" / "deep" / "some.csv") == told
    assert rows(tmp_path / "out" / "a.csv") == told[:12]
    assert not (tmp_path / "out" / "none.csv").exists()
    report = json.loads(done.stdout)
    files = {os.path.basename(file["file"]): file for file in report["files"]}
    assert report["rows"] == ROWS + len(body)
    assert [one["unique_id"] for one in files["some.csv"]["series"]] == ["a", "b"]
    assert len(files["some.csv"]["problems"]) == 3
    assert files["a.csv"]["problems"] == []
    first = files["a.csv"]["series"][0]
    assert first["error"] > 0
    assert 0.8 < first["coverage"] <= 1
    assert first["fell_back"] is False


def test_a_trend_is_forecast_by_day_and_tells_where_it_changed(tmp_path):
    days = np.arange(150)
    rng = np.random.default_rng(0)
    y = 500 + 0.5 * days + 4.0 * np.maximum(days - 90, 0) + 30 * (days % 7 == 5)
    source = tmp_path / "plays.csv"
    lines = (
        f"{np.datetime64('2024-01-01') + d},{v!r}\n"
        for d, v in zip(days, (y + rng.normal(0, 8, 150)).tolist(), strict=True)
    )
    source.write_text("ds,y\n" + "".join(lines))
    target = tmp_path / "out.csv"
    done = run(source, "--trend", "--horizon", 14, "-o", target, "--json")
    told = rows(target)
    assert [row[1] for row in told] == [
        str(np.datetime64("2024-01-01") + 150 + d) for d in range(14)
    ]
    weekday = np.tile(30 * (np.arange(150, 164) % 7 == 5), 1)
    want = y[-1] + 4.5 * np.arange(1, 15) + weekday
    assert np.abs(numbers(told, "plays")[:, 0] - want).max() < 40
    series = json.loads(done.stdout)["files"][0]["series"][0]
    assert series["slope_per_week"] == pytest.approx(7 * 4.5, rel=0.15)
    assert [change["kind"] for change in series["changes"]] == ["slope"]
    assert "2024-03-2" in series["since"] or "2024-04-0" in series["since"]
    source.write_text("ds,y\n2024-01-01,1\n2024-01-02,1\n")
    assert "2 whole days (or weeks), a trend needs 21" in run(source, "--trend", status=1).stderr


def test_many_series_on_all_cores(tmp_path):
    body = long(*(f"s{i}" for i in range(12)), stamp=lambda t: iso(t) + " " * 400)  # much to read
    source = tmp_path / "many.csv"
    source.write_text("unique_id,ds,y\n" + "".join(body))
    assert source.stat().st_size > 1_000_000
    told = rows(run(source, "--horizon", 3).stdout)
    assert [row[0] for row in told] == [f"s{i}" for i in range(12) for _ in range(3)]
    t, v = series(7)
    assert numbers(told, "s7")[:, 0] == pytest.approx(
        SeriesForecaster(3).fit(t * 1000, v).predict().value
    )


def test_what_is_read_is_never_written_over(said, tmp_path):
    source, _ = said
    before = source.read_text()
    assert "is what is read" in run(source, "-o", source, status=1)
    assert "read as input" in run(source.parent, "-o", source.parent / "out", status=1)
    assert "folder; name one" in run(source.parent, status=1)
    assert "no such file" in run(source.parent / "none.csv", status=1)
    assert "--output" in run(source, "--json", status=1)
    (tmp_path / "blocked").write_text("")
    assert "blocked" in run(source, "-o", tmp_path / "blocked" / "out.csv", status=1).stderr
    assert source.read_text() == before
    assert list(source.parent.iterdir()) == [source]


def test_silent_in_a_pipe_and_lively_on_a_terminal(said):
    source, told = said
    command = [sys.executable, "-m", "service.cli", "forecast", str(source), "--horizon", "12"]
    near, far = pty.openpty()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=far, text=True) as shown:
        assert shown.stdout is not None
        out = shown.stdout.read()
    os.close(far)
    screen = b""
    with open(near, "rb", buffering=0) as terminal:
        try:
            while piece := terminal.read(4096):
                screen += piece
        except OSError:  # the other side is closed and all is read
            pass
    assert rows(out) == told
    assert b"forecasting" in screen
    assert b"2 series of 1 file in" in screen
    head = subprocess.run(
        f"{' '.join(command)} | head -1", shell=True, capture_output=True, text=True, check=True
    )
    assert (head.stdout, head.stderr) == (",".join(HEADER) + "\n", "")


def test_rows_after_the_newest_value_are_what_is_forecast():
    t, v = times(ROWS, 3_600_000), daily(ROWS, 0, 24)
    t_more = np.concatenate((t, t[-1] + 3_600_000 * np.arange(1, 6)))
    v_more = np.concatenate((v, np.full(5, np.nan)))
    one = SeriesForecaster(12).fit(t, v).predict()
    two = SeriesForecaster(12).fit(t_more, v_more).predict(t_more, v_more)
    assert np.array_equal(one.t_ms, two.t_ms)
    assert np.array_equal(one.value, two.value)
