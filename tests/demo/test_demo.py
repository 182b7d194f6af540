"""The demo's summary is true: what it claims is read back from the API of the running demo."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.demo.series import load_story
from tests.support.roles import PYTHON

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240), pytest.mark.xdist_group("demo")]


def _start(*options: str, log: Path) -> "subprocess.Popen[str]":
    clean = {k: v for k, v in os.environ.items() if k not in ("REDIS_URL", "DATABASE_URL")}
    with log.open("wb") as err:
        return subprocess.Popen(
            [*PYTHON, "demo", *options], env=clean, stdout=subprocess.PIPE, stderr=err, text=True
        )


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The summary of a demo that stays open, with a client of its API under `http`."""
    log = tmp_path_factory.mktemp("demo") / "log.txt"
    process = _start("--json", log=log)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, log.read_text()
        summary: dict[str, Any] = json.loads(line)
        key = Path(summary["admin_key_file"]).read_text().strip()
        with httpx.Client(base_url=summary["url"], headers={"X-API-Key": key}, timeout=30) as http:
            yield summary | {"http": http}
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _items(http: httpx.Client, tenant: str, path: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    cursor = ""
    while True:
        glue = "&" if "?" in path else "?"
        answer = http.get(
            f"{path}{glue}cursor={cursor}" if cursor else path, headers={"X-Tenant-ID": tenant}
        )
        assert answer.status_code == 200, answer.text
        page = answer.json()
        items += page["items"]
        cursor = page.get("next") or ""
        if not cursor:
            return items


def test_what_the_demo_claims_is_what_the_api_says(told: dict[str, Any]) -> None:
    http: httpx.Client = told["http"]
    assert told["missing"] == []
    assert told["seconds"] < 120
    story = load_story()
    tenants = [tenant for tenant, _ in story.tenants]
    now = time.time()

    stored = models = alerts = 0
    acknowledged: list[str] = []
    escalated: set[str] = set()
    sent = 0
    for tenant in tenants:
        series = _items(http, tenant, "/analytics/series")
        for one in series:
            samples = http.get(
                f"/analytics/series/{one['id']}/samples",
                params={"start": 0, "end": now},
                headers={"X-Tenant-ID": tenant},
            ).json()
            stored += len(samples["t"]) if ":" not in one["name"] else 0
            models += one["model_state"] == "ready" and ":" not in one["name"]
        active = _items(http, tenant, f"/alerts/active/{tenant}?state=firing")
        past = _items(http, tenant, f"/alerts/history/{tenant}")
        every = {a["id"]: a for a in [*past, *active] if a["fired_at"]}
        alerts += len(every)
        acknowledged += [a["id"] for a in every.values() if a["acknowledged_at"]]
        for row in _items(http, tenant, "/alerts/notifications?state=sent"):
            sent += 1
            if row["kind"] == "escalated":
                escalated.add(row["alert_id"])

    assert told["samples"] == stored == sum(len(s.t) for s in story.series)
    assert told["models"] == models >= 8
    assert told["alerts"] == alerts >= 2
    assert told["acknowledged"] == len(acknowledged) == 1
    assert told["escalated"] == len(escalated) >= 1
    assert not escalated & set(acknowledged)
    assert told["notifications"] == sent
    assert sum(told["delivered"].values()) >= sent


def test_each_dashboard_link_opens_a_page(told: dict[str, Any]) -> None:
    for tenant, link in told["links"].items():
        with httpx.Client(follow_redirects=True, timeout=30) as browser:
            assert browser.get(link).status_code == 200
            assert browser.get(link).status_code == 401  # it opens once
            page = browser.get(f"{told['url']}/dashboard/{tenant}")
            assert page.status_code == 200
            assert page.url.path == f"/dashboard/{tenant}"
            assert "<svg" in page.text or "data-chart" in page.text
