"""`offbeat serve` as a person starts it: from nothing, and against Redis and PostgreSQL."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from service.storage.embedded import EmbeddedStore
from tests.support.roles import PYTHON, wait_ready, wait_until
from tests.support.served import Served, children_of, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def record_and_read_back(served: Served) -> None:
    wait_ready(served.url, served.process, served.log)
    http = httpx.Client(base_url=served.url, headers={"X-API-Key": served.admin_key}, timeout=10)
    with http:
        made = http.post("/tenants", json={"id": "served", "name": "Served"})
        assert made.status_code in (201, 409), made.text
        as_tenant = {"X-Tenant-ID": "served"}
        now = round(time.time(), 3)
        sent = http.post(
            "/analytics/metrics",
            json={"name": "plays", "value": 42, "timestamp": now},
            headers=as_tenant,
        )
        assert sent.json() == {"accepted": 1}, sent.text

        def values() -> list[float]:
            listed = http.get("/analytics/series", headers=as_tenant).json()["items"]
            if not listed:
                return []
            path = f"/analytics/series/{listed[0]['id']}/samples"
            read = http.get(path, params={"start": now - 1, "end": now + 1}, headers=as_tenant)
            found: list[float] = read.json()["v"]
            return found

        assert wait_until(values, 10, served.said) == [42.0]


def _alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rsplit(")", 1)[1].split()[0] != "Z"


def test_it_starts_from_nothing_says_where_everything_is_and_stops(short_tmp: Path) -> None:
    folder = short_tmp / "serve"
    folder.mkdir()
    with serving(folder) as served:
        key = re.search(r"admin key +(ob_\S+)", served.said)
        assert key is not None
        assert key[1] == served.admin_key
        assert (folder / "data" / "admin.key").stat().st_mode & 0o777 == 0o600
        for line in (f"dashboard  {served.url}/", "private store, SQLite", "rules"):
            assert line in served.said
        record_and_read_back(served)
        children = served.children()
        assert set(children) == {"store", "api", "worker", "scheduler"}
        assert served.stop() == 0
        assert not any(_alive(pid) for pid in children.values())
        assert "Traceback" not in served.said
    with serving(folder) as again:  # the key is shown once, the data is still there
        assert "ob_" not in again.said
        assert f"in {folder / 'data' / 'admin.key'}" in again.said
        record_and_read_back(again)


def test_children_die_with_a_killed_parent_and_are_restarted_when_they_die(
    short_tmp: Path,
) -> None:
    folder = short_tmp / "killed"
    folder.mkdir()
    with serving(folder) as served:
        first = served.children()
        for name in ("worker", "store", "api"):
            os.kill(first[name], signal.SIGKILL)
            wait_until(
                lambda n=name: served.children().get(n, first[n]) != first[n], 20, served.said
            )
            assert f"{name} ended (SIGKILL)" in served.said
        record_and_read_back(served)
        children = served.children()
        served.process.kill()
        served.process.wait()
        wait_until(lambda: not any(map(_alive, children.values())), 10, "children outlived it")


def test_while_one_process_of_the_api_is_away_another_answers(short_tmp: Path) -> None:
    folder = short_tmp / "two"
    folder.mkdir()

    def apis() -> set[int]:
        return {p for p, words in children_of(served.process.pid).items() if "api" in words}

    with serving(folder, API_PROCESSES="2") as served:
        killed = apis()
        assert len(killed) == 2
        for pid in killed:  # one after the other, the second when the first is back
            os.kill(pid, signal.SIGKILL)
            with httpx.Client(limits=httpx.Limits(max_keepalive_connections=0)) as http:
                for _ in range(20):  # connections of their own; none is refused or lost
                    assert http.get(f"{served.url}/healthz", timeout=20).status_code == 200
            wait_until(lambda: len(apis()) == 2 and pid not in apis(), 20, served.said)  # noqa: B023
        assert not killed & apis()
        record_and_read_back(served)
        assert served.stop() == 0


def test_against_redis_and_postgresql(
    store: EmbeddedStore, fresh_postgres: str, short_tmp: Path
) -> None:
    folder = short_tmp / "external"
    folder.mkdir()
    with serving(folder, REDIS_URL=store.url, DATABASE_URL=fresh_postgres) as served:
        assert "Redis as configured, database as configured" in served.said
        assert "store" not in served.children()
        assert not (folder / "data" / "offbeat.db").exists()
        record_and_read_back(served)
        assert served.stop() == 0


def test_a_taken_port_and_a_wrong_setting_are_named(short_tmp: Path) -> None:
    folder = short_tmp / "wrong"
    folder.mkdir()

    def run(**environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*PYTHON, "serve", "--data-dir", str(folder / "d")],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    wrong = run(OFFBEAT_PORT="eighty")
    assert wrong.returncode == 1
    assert "OFFBEAT_PORT" in wrong.stderr
    assert "'eighty'" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    wrong = run(DATABASE_URL="mysql://x")
    assert wrong.returncode == 1
    assert "'mysql' is not a database we know" in wrong.stderr
    assert "Traceback" not in wrong.stderr
