"""`offbeat query` over CSV files and of a running service."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console
from typer.testing import CliRunner

from service.cli import app
from service.domain.errors import Unavailable
from service.offline.query_table import tabled
from service.offline.series_files import metric_name, read_series
from tests.support.commands import offbeat
from tests.support.roles import wait_until
from tests.support.served import serving

HOSTS = "timestamp,value,host\n" + "".join(
    f"{1_700_000_000 + 60 * i},{i + (host == 'b') / 2},{host}\n" for i in range(10) for host in "ab"
)


@pytest.fixture
def cpu(tmp_path: Path) -> Path:
    path = tmp_path / "cpu.csv"
    path.write_text(HOSTS)
    return path


def asked(*words: object) -> Any:
    """The data of an answer; no terminal is there, so it is JSON."""
    return json.loads(offbeat("query", *words).stdout)["data"]


def test_a_file_is_a_metric_with_labels(cpu: Path) -> None:
    assert asked("cpu", "--data", cpu) == {
        "resultType": "vector",
        "result": [
            {"metric": {"__name__": "cpu", "host": "a"}, "value": [1_700_000_540, "9"]},
            {"metric": {"__name__": "cpu", "host": "b"}, "value": [1_700_000_540, "9.5"]},
        ],
    }


@pytest.mark.parametrize(
    ("time", "value"),
    [("1700000120", "4.5"), ("2023-11-14T22:15:20Z", "4.5"), ("2023-11-14T23:15:20+01:00", "4.5")],
)
def test_it_is_asked_at_a_time(cpu: Path, time: str, value: str) -> None:
    (one,) = asked("sum(cpu)", "--data", cpu, "--time", time)["result"]
    assert one["value"] == [1_700_000_120, value]


def test_a_range_is_asked_at_its_steps(cpu: Path) -> None:
    words = ("--start", "1700000000", "--end", "1700000120", "--step", "1m")
    data = asked("sum(cpu)", "--data", cpu, *words)
    assert data["resultType"] == "matrix"
    values = data["result"][0]["values"]
    assert values == [[1_700_000_000, "0.5"], [1_700_000_060, "2.5"], [1_700_000_120, "4.5"]]


def test_what_is_left_out_of_a_range_is_what_the_files_have(cpu: Path) -> None:
    (one,) = asked("count(cpu)", "--data", cpu, "--step", "3m")["result"]
    assert [at for at, _ in one["values"]] == [1_700_000_000 + 180 * i for i in range(4)]
    (one,) = asked("count(cpu)", "--data", cpu, "--start", "1700000000")["result"]
    assert one["values"][1][0] - one["values"][0][0] == 5  # a step that is easy to read


def test_what_detect_wrote_is_named_as_in_the_service(tmp_path: Path) -> None:
    (tmp_path / "plays.csv").write_text(
        "timestamp,value,anomaly_score,alert_score,alert,expected,expected_lower,expected_upper\n"
        "60,5,0.5,0,0,4,3,6\n120,9,0.9999,0.9999,1,4,3,\n"
    )
    (one,) = asked("plays and plays:anomaly_score > 0.999", "--data", tmp_path)["result"]
    assert one["metric"] == {"__name__": "plays"}
    assert asked("plays:alert", "--data", tmp_path)["result"][0]["value"][1] == "1"
    (one,) = asked("plays:expected_upper", "--data", tmp_path)["result"]
    assert one["value"][1] == "6"  # an empty field is no sample


def test_a_program_of_its_own_knows_the_functions_of_models() -> None:
    known = "import service.offline.query as q; print(q.parse('anomalous(cpu)').name)"
    ran = subprocess.run([sys.executable, "-c", known], capture_output=True, text=True, check=True)
    assert ran.stdout == "anomalous\n"


def test_without_a_value_column_every_column_of_numbers_is_a_metric(tmp_path: Path) -> None:
    (tmp_path / "box.csv").write_text("time,cpu,mem %,host\n60,1,2,a\n60,3,,b\n")
    source = read_series([tmp_path])
    assert len(source) == 4
    names = {
        one["metric"]["__name__"] for one in asked("{host=~'.+'}", "--data", tmp_path)["result"]
    }
    assert names == {"cpu", "mem__"}


def test_names_are_made_to_fit() -> None:
    assert [metric_name(name) for name in ("a-b.c", "5xx", "", "a:b")] == [
        "a_b_c",
        "_5xx",
        "_",
        "a:b",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("cpu +",), "invalid promql query"),
        (("cpu", "--time", "0", "--step", "1m"), "--time asks at one time"),
        (("cpu", "--start", "20", "--end", "10"), "--end is before --start"),
        (("cpu", "--time", "yesterday"), "--time is Unix seconds"),
        (("cpu", "--start", "0", "--end", "1e300"), "--end is Unix seconds"),
        (("cpu[1e300]",), "duration out of range"),
        (("cpu", "--step", "0"), "--step takes time"),
        (("cpu", "--step", "1ms", "--start", "0"), "more than 11,000 steps"),
        (("cpu[5m]", "--step", "1m"), "invalid expression type"),
        (("cpu", "--plot", "x.png"), "--plot draws a range"),
    ],
)
def test_what_cannot_be_asked_is_said(cpu: Path, words: tuple[str, ...], said: str) -> None:
    assert said in offbeat("query", *words, "--data", cpu, status=1)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "value\n1\n", "a.csv: line 1: has no column of times; call it timestamp"),
        ("a.csv", "timestamp,host\n1,a\n", "a.csv: line 1: has no column of numbers"),
        ("a.csv", "timestamp,value\n1,x\n", "a.csv: line 2: value 'x' is no number"),
        ("a.csv", "timestamp,value,\n1,2,3\n", "a.csv: line 1: column 3 has no name"),
        ("a.txt", "", "there is no CSV file in this folder"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, name: str, text: str, said: str
) -> None:
    (tmp_path / name).write_text(text)
    assert said in offbeat("query", "a", "--data", tmp_path, status=1)


def test_a_series_comes_from_one_file(tmp_path: Path, cpu: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "cpu.csv").write_text(HOSTS)
    said = offbeat("query", "cpu", "--data", tmp_path, status=1)
    assert 'has cpu{host="a"}, and so has' in said
    assert "no such file" in offbeat("query", "cpu", "--data", tmp_path / "nothing", status=1)


def test_a_picture_is_drawn(cpu: Path, tmp_path: Path) -> None:
    picture = tmp_path / "cpu.png"
    offbeat("query", "cpu > 2", "--data", cpu, "--step", "1m", "--plot", picture)
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    wrong = tmp_path / "no" / "x.png"
    said = offbeat("query", "cpu", "--data", cpu, "--step", "1m", "--plot", wrong, status=1)
    assert str(wrong) in said


def shown(data: dict[str, Any]) -> list[str]:
    out = Console(width=120, record=True, highlight=False, soft_wrap=True, quiet=False)
    with out.capture() as captured:
        tabled(data, out)
    return captured.get().splitlines()


def test_a_table_has_a_column_for_each_label(cpu: Path) -> None:
    assert shown(asked("cpu", "--data", cpu)) == [
        "metric  host  value",
        "cpu     a         9",
        "cpu     b       9.5",
        "2 series, at 2023-11-14 22:22:20 UTC",
    ]
    assert shown(asked("1 + 1", "--data", cpu)) == ["2  (at 2023-11-14 22:22:20 UTC)"]
    assert shown(asked("nope", "--data", cpu)) == ["nothing: no series has a value then"]


def test_a_table_of_a_range_draws_each_series(cpu: Path) -> None:
    header, row, caption = shown(asked('cpu{host="a"}', "--data", cpu, "--step", "1m"))
    assert header.split() == ["metric", "host", "min", "max", "last"]
    assert row.split()[:2] == ["cpu", "a"]
    assert row.split()[-3:] == ["0", "9", "9"]
    drawn = [mark for mark in row if mark in "▁▂▃▄▅▆▇█"]
    assert drawn[0] == "▁"
    assert drawn[-1] == "█"
    assert caption == "1 series, 2023-11-14 22:13:20 UTC to 2023-11-14 22:22:20 UTC"


@pytest.mark.slow
def test_a_running_service_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tmp_path) as served:
        admin = {"Authorization": f"Bearer {served.admin_key}"}
        own = {**admin, "X-Tenant-ID": "acme"}
        with httpx.Client(base_url=served.url) as client:
            client.post("/tenants", json={"id": "acme", "name": "Acme"}, headers=admin)
            metric = {"name": "plays", "value": 7, "labels": {"region": "eu"}}
            client.post("/analytics/metrics", json=metric, headers=own).raise_for_status()
        for name, value in (("URL", served.url), ("KEY", served.admin_key), ("TENANT", "acme")):
            monkeypatch.setenv(f"OFFBEAT_{name}", value)

        wait_until(lambda: asked("plays")["result"], 20, "no sample")
        (one,) = asked("plays * 2")["result"]
        assert (one["metric"], one["value"][1]) == ({"region": "eu"}, "14")
        (one,) = asked("plays", "--start", "-2m", "--step", "1s")["result"]
        assert one["metric"] == {"__name__": "plays", "region": "eu"}
        assert {value for _, value in one["values"]} == {"7"}
        assert asked("plays", "--time", "-1d")["result"] == []

        assert "plays +" in offbeat("query", "plays +", status=1)
        assert "key" in offbeat("query", "plays", "--key", "nonsense", status=1)


def test_where_and_who_asks_must_be_known() -> None:
    assert "name an API key" in offbeat("query", "up", status=1)
    refused = CliRunner().invoke(app, ["query", "up", "--key", "k", "--url", "http://127.0.0.1:9"])
    assert isinstance(refused.exception, Unavailable)
    assert "http://127.0.0.1:9 does not answer" in str(refused.exception)
