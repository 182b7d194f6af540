"""`offbeat detect` as people run it: the command, files in, files out."""

import csv
import io
import json
import os
import pty
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from models.ensemble import Detector
from models.synthetic import daily, times, with_spike
from service.cli import app
from tests.support.commands import offbeat, table

HEADER = [
    "timestamp",
    "value",
    "anomaly_score",
    "alert_score",
    "alert",
    "expected",
    "expected_lower",
    "expected_upper",
]
ROWS = 400
STEP = 900


def series(rows=ROWS, spike=350):
    t = times(rows, STEP * 1000) // 1000
    return t, with_spike(daily(rows, period=96), spike, 60.0)


def text(t=None, v=None, stamp=str):
    if t is None:
        t, v = series()
    return "timestamp,value\n" + "".join(
        f"{stamp(int(a))},{float(b)!r}\n" for a, b in zip(t, v, strict=True)
    )


def run(*args, status=0, budget="1/day"):
    return offbeat("detect", *args, "--budget", budget, status=status)


def rows(path_or_text):
    return table(path_or_text, HEADER)


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """One file with what the command says about it."""
    source = tmp_path_factory.mktemp("one") / "cpu.csv"
    source.write_text(text())
    return source, rows(run(source).stdout)


def test_a_file_goes_to_stdout_with_its_values_as_they_stood(scored):
    source, said = scored
    given = [line.split(",") for line in source.read_text().splitlines()[1:]]
    assert [row[:2] for row in said] == given
    assert [row[4] for row in said].count("1") <= 6
    assert said[350][4] == "1"
    assert float(said[350][2]) > 0.995


def test_numbers_come_back_bit_for_bit_and_as_the_library_has_them(scored):
    _, said = scored
    t, v = series()
    scores = Detector().fit(t * 1000, v).scores_
    told = np.array([[float(field) for field in row[2:]] for row in said])
    assert np.array_equal(told[:, 0], scores.score)
    assert np.array_equal(told[:, 1], scores.alert)
    assert np.array_equal(told[:, 3:], np.c_[scores.expected, scores.lower, scores.upper])


def test_no_row_depends_on_those_after_it(scored, tmp_path):
    _, said = scored
    for count in (1, 40, 300):
        part = tmp_path / f"{count}.csv"
        t, v = series()
        part.write_text(text(t[:count], v[:count]))
        told = np.array([[float(field) for field in row[2:]] for row in rows(run(part).stdout)])
        whole = np.array([[float(field) for field in row[2:]] for row in said[:count]])
        assert np.allclose(told, whole, atol=1e-6)


def test_an_alert_is_where_the_alert_score_reaches_the_budget(scored, tmp_path):
    source, said = scored
    alerts = {}
    for budget, a_week in (("1/week", 1), ("1/day", 7), ("1/hour", 168)):
        told = rows(run(source, budget=budget).stdout) if a_week != 7 else said
        alerts[budget] = {i for i, row in enumerate(told) if row[4] == "1"}
        reached = {i for i, row in enumerate(told) if float(row[3]) >= 1 - a_week / (7 * 96)}
        assert alerts[budget] == reached
    assert alerts["1/week"] <= alerts["1/day"] < alerts["1/hour"]
    default = CliRunner().invoke(app, ["detect", str(source)]).stdout
    assert default == run(source, budget="1/week").stdout
    assert "alert budget" in run(source, budget="often", status=1)


def test_a_folder_becomes_the_same_tree_and_bad_files_stop_no_other(scored, tmp_path):
    source, said = scored
    data = tmp_path / "in"
    (data / "deep" / "er").mkdir(parents=True)
    (data / "good.csv").write_text(source.read_text())
    (data / "deep" / "er" / "short.CSV").write_text("timestamp,value\n1700000000,1\n")
    (data / "bad.csv").write_text("timestamp,value\n1700000000,1\n1700000060,high\n")
    (data / "note.txt").write_text("no series")
    done = run(data, "-o", tmp_path / "out", status=1)
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f"offbeat: {data}/bad.csv: line 3: value 'high' is no number"
    ]
    found = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*"))
    assert found == ["deep/er/short.CSV", "good.csv"]
    assert rows(tmp_path / "out" / "good.csv") == said


def test_json_says_what_was_written(scored, tmp_path):
    source, said = scored
    done = run(source, "-o", tmp_path / "new" / "out.csv", "--json")
    report = json.loads(done.stdout)
    assert report["rows"] == ROWS
    alerts = sum(row[4] == "1" for row in said)
    assert report["files"] == [{"file": str(source), "rows": ROWS, "alerts": alerts, "error": ""}]
    assert rows(tmp_path / "new" / "out.csv") == said
    assert "--output" in run(source, "--json", status=1)


BROKEN = {
    "": "line 1: there is no header",
    "time,value\n1,2\n": "line 1: has no column 'timestamp'; it has time, value",
    "timestamp;value\n1;2\n": "line 1: has no column 'timestamp'; it has timestamp;value",
    "timestamp,value,value\n": "line 1: has 2 columns 'value'",
    "timestamp,value\n1,2\n\n3\n": "line 4: has 1 field, the header has 2",
    "timestamp,value\n1,2\n3,4,5\n": "line 3: has 3 fields",
    'timestamp,value\n1,"2\n': "line 2: unexpected end of data",
    "timestamp,value\n1700000000,0x1f\n": "line 2: value '0x1f' is no number",
    "timestamp,value\nyesterday,1\n": "line 2: timestamp 'yesterday' is neither",
    "timestamp,value\n2024-01-01,1\nnow,1\n": "line 3: timestamp 'now' is neither",
    "timestamp,value\n2024-01-01,1\n,1\n": "line 3: timestamp '' is neither",
    "timestamp,value\n2024-02-30,1\n": "line 2: timestamp '2024-02-30'",
    "timestamp,value\n1,1\n1700000000000,1\n": "line 3: timestamp '1700000000000' is no Unix time",
    "timestamp,value\n1.7e12,1\n": "line 2: timestamp '1.7e12' is no Unix time in seconds; are",
    "timestamp,value\nnan,1\n": "line 2: timestamp 'nan' is no Unix time",
    "timestamp,value\n1,1\n2,1\n3x,1\n": "line 4: timestamp '3x' is no Unix time in seconds, as",
    "timestamp,value\n2024-01-01,1\n1700000000,1\n": "line 3: timestamp '1700000000' is not ISO",
}


@pytest.mark.parametrize("body", BROKEN, ids=BROKEN.values())
def test_what_is_wrong_is_named_with_its_line(body, tmp_path):
    source, target = tmp_path / "x.csv", tmp_path / "y.csv"
    source.write_text(body)
    assert f"{source}: {BROKEN[body]}" in run(source, status=1)
    assert BROKEN[body] in run(source, "-o", target, status=1).stderr
    assert list(tmp_path.iterdir()) == [source]  # nothing half written


def test_bytes_that_are_no_text_are_named_too(tmp_path):
    source = tmp_path / "x.csv"
    source.write_bytes(b"timestamp,value\n1,2\n2,\xb5\n")
    assert f"{source}: line 3: byte 0xb5 is no UTF-8" in run(source, status=1)
    source.write_bytes("timestamp,value\n".encode("utf-16"))
    assert "line 1: byte 0xff is no UTF-8" in run(source, status=1)


def test_a_header_alone_gives_a_header_alone(tmp_path):
    source = tmp_path / "x.csv"
    source.write_text("timestamp,value\n")
    assert run(source).stdout == ",".join(HEADER) + "\n"


def test_other_columns_spaces_quotes_marks_and_line_ends_do_not_matter(scored, tmp_path):
    source, said = scored
    given = [line.split(",") for line in source.read_text().splitlines()[1:]]
    lines = ["host, value ,timestamp"] + [f'"a,b","{v}",{t}' for t, v in given]
    other = tmp_path / "other.csv"
    other.write_bytes("\r\n".join([*lines, "", ""]).encode("utf-8-sig"))
    assert rows(run(other).stdout) == said


def test_times_may_be_of_any_form_and_zone(scored, tmp_path):
    _, said = scored
    t, v = series()
    moments = t.astype("datetime64[s]")
    forms = [
        [f"{m + np.timedelta64(2, 'h')}+02:00" for m in moments],
        [(f"{m}.000Z", str(m).replace("T", " "))[i % 2] for i, m in enumerate(moments)],
    ]
    for form in forms:
        other = tmp_path / "other.csv"
        other.write_text("timestamp,value\n" + "".join(map("{},{!r}\n".format, form, v.tolist())))
        told = rows(run(other).stdout)
        assert [row[0] for row in told] == form
        assert [row[1:] for row in told] == [row[1:] for row in said]


def test_rows_in_no_order_are_judged_in_order_of_time(scored, tmp_path):
    _, said = scored
    t, v = series()
    for order in (np.arange(ROWS)[::-1], np.random.default_rng(0).permutation(ROWS)):
        other = tmp_path / "other.csv"
        other.write_text(text(t[order], v[order]))
        assert rows(run(other).stdout) == [said[i] for i in order]


def test_a_few_late_and_double_rows_spoil_nothing(tmp_path):
    t, v = series()
    order = np.sort(np.concatenate([np.arange(ROWS), np.arange(0, ROWS, 29)]))
    order[[100, 101, 200, 202]] = order[[101, 100, 202, 200]]
    other = tmp_path / "other.csv"
    other.write_text(text(t[order], v[order]))
    told = rows(run(other).stdout)
    assert [int(row[0]) for row in told] == t[order].tolist()
    loud = [int(row[0]) for row in told if row[4] == "1"]
    assert int(t[350]) in loud
    assert len(loud) <= 6


def test_missing_values_are_said_nothing_about(tmp_path):
    t, v = series()
    words = [repr(x) for x in v.tolist()]
    words[5::10] = ["", "NaN", "null", " NA "] * 10
    source = tmp_path / "x.csv"
    source.write_text("timestamp,value\n" + "".join(map("{},{}\n".format, t, words)))
    told = rows(run(source).stdout)
    assert [row[1] for row in told] == words
    assert all(row[2:5] == ["0.0", "0.0", "0"] for row in told[5::10])
    assert all(np.isfinite([float(x) for x in row[2:]]).all() for row in told)
    source.write_text("timestamp,value\n1,\n2,nan\n")
    assert rows(run(source).stdout)[1] == ["2", "nan", "0.0", "0.0", "0", "", "", ""]


def test_counters_are_judged_by_how_fast_they_grow(tmp_path):
    t, rate = series()
    total = np.cumsum(rate * STEP)
    total[150:] -= total[149]  # a restart
    source = tmp_path / "x.csv"
    source.write_text(text(t, total))
    told = rows(run(source, "--counter").stdout)
    loud = [i for i, row in enumerate(told) if row[4] == "1"]
    assert 350 in loud
    assert not set(loud) & set(range(145, 160))
    source.write_text("timestamp,value\n1,7\n2,\n")  # no rate yet
    assert [row[2:5] for row in rows(run(source, "--counter").stdout)] == [["0.0", "0.0", "0"]] * 2
    expected = np.array([float(row[5]) for row in told])
    assert np.abs(expected - total)[200:300].max() < 12 * STEP


def test_what_is_read_is_never_written_over(scored, tmp_path):
    source, _ = scored
    before = source.read_text()
    assert "is what is read" in run(source, "-o", source, status=1)
    assert "is what is read" in run(source, "-o", source.parent, status=1)
    assert "read as input" in run(source.parent, "-o", source.parent, status=1)
    assert "read as input" in run(source.parent, "-o", source.parent / "out", status=1)
    assert "is a file" in run(source.parent, "-o", source, status=1)
    assert "folder; name one" in run(source.parent, status=1)
    assert "no such file" in run(source.parent / "none.csv", status=1)
    assert "no such file" in run(source.parent / "none.csv", "-o", tmp_path / "out", status=1)
    (tmp_path / "empty").mkdir()
    assert "no CSV file" in run(tmp_path / "empty", "-o", tmp_path / "out", status=1)
    assert source.read_text() == before
    assert list(source.parent.iterdir()) == [source]


def test_an_output_that_cannot_be_written_is_named(scored, tmp_path):
    source, _ = scored
    (tmp_path / "blocked").write_text("")
    done = run(source, "-o", tmp_path / "blocked" / "out.csv", status=1)
    assert "blocked" in done.stderr


def test_silent_in_a_pipe_and_lively_on_a_terminal(tmp_path):
    source = tmp_path / "x.csv"
    source.write_text(text())
    command = [sys.executable, "-m", "service.cli", "detect", str(source)]
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
    assert len(rows(out)) == ROWS
    assert b"detecting" in screen
    assert b"400 rows of 1 file in" in screen
    head = subprocess.run(
        f"{' '.join(command)} | head -1", shell=True, capture_output=True, text=True, check=True
    )
    assert head.stderr == ""
    assert head.stdout.startswith("timestamp,value,")


def test_what_has_to_stand_in_quotes_does_so_again(tmp_path):
    given = tmp_path / "given.csv"
    t, v = series(100, 90)
    stood = [[f"{a}\n", str(b)] for a, b in zip(t, v, strict=True)]
    given.write_text("timestamp,value\n" + "".join(f'"{a}",{b}\n' for a, b in stood))
    scored = csv.reader(io.StringIO(run(given).stdout, newline=""))
    assert [row[:2] for row in scored][1:] == stood
