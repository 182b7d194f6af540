"""The pages over HTTP: sessions, tenants, what is shown to whom, headers."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.dashboard import pages
from service.dashboard.sessions import safe_path
from service.domain.feedback import Verdict
from service.domain.series import Matcher, MatchType, Series
from service.domain.silences import Draft
from service.domain.tenants import Role
from tests.support.music import evening
from tests.support.seed import times

Site = Any
PLAYS = Series.of("play_starts", {"region": "eu-west"})


@pytest.fixture
async def browser(site: Site) -> AsyncIterator[httpx.AsyncClient]:
    """Keeps cookies, follows nothing by itself."""
    async with httpx.AsyncClient(base_url=site.url, timeout=30) as client:
        yield client


async def log_in(browser: httpx.AsyncClient, site: Site, role: Role = Role.READER) -> None:
    answer = await browser.post("/login", data={"key": await site.key(role)})
    assert answer.status_code == 303, answer.text


async def test_without_a_session_every_page_leads_to_the_login(browser: httpx.AsyncClient) -> None:
    assert (await browser.get("/")).headers["location"] == "/login"
    for path in ("", "/series", "/alerts", "/series/0000000000000000"):
        answer = await browser.get(f"/dashboard/acme{path}")
        assert answer.status_code == 303
        assert answer.headers["location"] == f"/login?next=/dashboard/acme{path}"
    fragment = await browser.get("/dashboard/acme/fragment", headers={"HX-Request": "true"})
    assert fragment.status_code == 401
    assert fragment.headers["hx-redirect"].startswith("/login")


async def test_a_key_begins_a_session_that_scripts_cannot_read(
    browser: httpx.AsyncClient, site: Site
) -> None:
    key = await site.key(Role.READER)
    answer = await browser.post("/login", data={"key": f" {key}\n"})
    assert answer.headers["location"] == "/dashboard/acme"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "secure" not in cookie
    assert (await browser.get("/dashboard/acme")).status_code == 200
    await browser.post("/logout")
    assert (await browser.get("/dashboard/acme")).status_code == 303


async def test_over_https_the_cookie_is_secure(site: Site) -> None:
    from service.app import create_app

    transport = httpx.ASGITransport(create_app(site.parts))
    async with httpx.AsyncClient(transport=transport, base_url="https://offbeat.test") as client:
        answer = await client.post("/login", data={"key": await site.key(Role.READER)})
    assert "secure" in answer.headers["set-cookie"].lower()


@pytest.mark.parametrize(
    ("key", "status", "words"),
    [
        ("", 400, "Paste your API key."),
        ("hello", 401, "This is not an API key"),
        ("ob_aaaaaaaa_" + "a" * 32 + "_000000", 401, "checksum"),
    ],
)
async def test_a_wrong_key_is_answered_in_words(
    browser: httpx.AsyncClient, key: str, status: int, words: str
) -> None:
    answer = await browser.post("/login", data={"key": key})
    assert answer.status_code == status
    assert words in answer.text
    assert "set-cookie" not in answer.headers


async def test_a_key_that_only_sends_metrics_cannot_look(
    browser: httpx.AsyncClient, site: Site
) -> None:
    answer = await browser.post("/login", data={"key": await site.key(Role.WRITER)})
    assert answer.status_code == 403
    assert "may only send metrics" in answer.text


async def test_a_login_from_another_site_is_refused(browser: httpx.AsyncClient, site: Site) -> None:
    answer = await browser.post(
        "/login",
        data={"key": await site.key(Role.READER)},
        headers={"Sec-Fetch-Site": "cross-site"},
    )
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


async def test_a_link_logs_in_once_and_leads_on(browser: httpx.AsyncClient, site: Site) -> None:
    key = {"X-API-Key": await site.key(Role.READER)}
    url = (await browser.post("/dashboard/acme/link", headers=key)).json()["url"]
    assert url.startswith(site.url)
    answer = await browser.get(url)
    assert answer.status_code == 200
    assert 'href="/dashboard/acme"' in answer.text
    assert (await browser.get("/dashboard/acme")).status_code == 200
    browser.cookies.clear()
    again = await browser.get(url)
    assert again.status_code == 401
    assert "used already" in again.text


async def test_whoever_comes_from_a_chat_is_asked_again_before_the_login(
    browser: httpx.AsyncClient,
) -> None:
    answer = await browser.get("/dashboard/acme", headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 200
    assert 'id="onward" href="/dashboard/acme"' in answer.text


@pytest.mark.parametrize(
    ("path", "safe"),
    [
        ("/dashboard/acme?q=1#alert-1", "/dashboard/acme?q=1#alert-1"),
        ("//evil.test", "/"),
        ("/\\evil.test", "/"),
        ("https://evil.test", "/"),
        ("javascript:alert(1)", "/"),
        ("/dashboard\r\nSet-Cookie: a=b", "/"),
        ("", "/"),
        (None, "/"),
    ],
)
def test_the_login_leads_nowhere_else(path: str | None, safe: str) -> None:
    assert safe_path(path) == safe


async def test_another_tenants_pages_look_like_missing_ones(
    browser: httpx.AsyncClient, site: Site
) -> None:
    series = await site.seed.put(Series.of("plays"), [site.seed.now], [1.0])
    answer = await browser.post("/login", data={"key": await site.key(Role.OPERATOR, "other")})
    assert answer.headers["location"] == "/dashboard/other"
    for path in ("", "/fragment", "/series", "/alerts", f"/series/{series.hex}"):
        foreign = await browser.get(f"/dashboard/acme{path}")
        absent = await browser.get(f"/dashboard/nobody{path}")
        assert foreign.status_code == absent.status_code == 404
        assert foreign.text.replace("acme", "nobody") == absent.text
    own = await browser.get(f"/dashboard/other/series/{series.hex}")
    assert own.status_code == 404
    assert "There is no series" in own.text


async def test_a_revoked_key_ends_its_session(browser: httpx.AsyncClient, site: Site) -> None:
    await log_in(browser, site, Role.RESPONDER)
    (key,) = await site.parts.keys.list("acme")
    await site.parts.keys.revoke("acme", key.id, "test")
    assert (await browser.get("/dashboard/acme")).status_code == 303


async def test_an_admin_chooses_the_tenant(browser: httpx.AsyncClient, site: Site) -> None:
    await log_in(browser, site, Role.ADMIN)
    start = await browser.get("/")
    assert 'href="/dashboard/acme"' in start.text
    assert 'href="/dashboard/other"' in start.text
    assert (await browser.get("/dashboard/other")).status_code == 200
    assert (await browser.get("/dashboard/nobody")).status_code == 404


async def test_only_who_may_respond_sees_the_button(browser: httpx.AsyncClient, site: Site) -> None:
    alert = await evening(site.seed)
    for role, expected in ((Role.READER, False), (Role.RESPONDER, True), (Role.ADMIN, True)):
        await log_in(browser, site, role)
        for page in ("", "/alerts"):
            shown = (await browser.get(f"/dashboard/acme{page}")).text
            assert (f'hx-put="/alerts/{alert}/acknowledge"' in shown) is expected
        browser.cookies.clear()


async def test_a_silenced_alert_says_so_and_needs_nobody(
    browser: httpx.AsyncClient, site: Site
) -> None:
    alert = await evening(site.seed)
    evil = "<b>moving"
    wanted = Draft(
        (Matcher("region", MatchType.REGEX, "eu-.*"),), site.seed.now + 7200, f"{evil} the database"
    )
    made = await site.parts.silences.create("acme", wanted, "responder:Mira")
    for role, may in ((Role.READER, False), (Role.RESPONDER, True)):
        await log_in(browser, site, role)
        for page in ("", "/alerts", f"/series/{PLAYS.hex}"):
            shown = (await browser.get(f"/dashboard/acme{page}")).text
            assert "by <b>Mira</b>: &lt;b&gt;moving the database" in shown, page
            assert evil not in shown
            assert (f'hx-delete="/silences/{made.id}"' in shown) is may
            assert f'id="silence-{alert}"' not in shown
        assert (
            "alert is silenced.</strong> By Mira, for another"
            in (await browser.get("/dashboard/acme")).text
        )
        browser.cookies.clear()
    await site.parts.feedback.give("acme", alert, Verdict.NOISE, actor="responder:Jon")
    await log_in(browser, site, Role.READER)
    shown = (await browser.get("/dashboard/acme/alerts")).text
    assert "Noise, said <b>Jon</b>" in shown
    assert "aria-pressed" not in shown
    await log_in(browser, site, Role.RESPONDER)
    shown = (await browser.get("/dashboard/acme/alerts")).text
    assert f'id="noise-{alert}" aria-pressed="true"' in shown
    key = {"X-API-Key": await site.key(Role.READER)}
    cards = (await browser.get("/analytics/dashboard/acme", headers=key)).json()["alerts"]
    quiet = cards[0]["quiet"]
    assert (quiet["ids"], quiet["by"]) == ([made.id], "responder:Mira")


async def test_names_and_labels_are_text_and_never_markup(
    browser: httpx.AsyncClient, site: Site
) -> None:
    seed = site.seed
    t = times(seed.now)
    evil = "\"><script>alert(1)</script><b title='x"
    series = Series.of("plays", {"region": evil})
    late = t > seed.now - 900
    usual = np.full(len(t), 10.0)
    await seed.modelled(series, t, np.where(late, 90, usual), usual, unusual=late)
    await seed.alert(evil, series, annotations={"summary": evil}, expectation=evil)
    await log_in(browser, site, Role.RESPONDER)
    for page in ("", "/series", "/alerts", f"/series/{series.hex}", f"/series?q={evil}"):
        shown = (await browser.get(f"/dashboard/acme{page}")).text
        assert "<script>alert" not in shown
        assert "<b title='x" not in shown


async def test_a_series_page_says_since_when_its_level_holds(
    browser: httpx.AsyncClient, site: Site
) -> None:
    series = Series.of("cpu_percent", {"host": "web-3"})
    t = times(site.seed.now)
    await site.seed.put(series, t, np.full(len(t), 62.0))
    point = {"at": site.seed.now - 7200, "kind": "level", "from": 40.0, "to": 62.0, "strength": 9.0}
    await site.seed.model(series, "ready", quality={"change_points": [point]})
    await log_in(browser, site, Role.RESPONDER)
    shown = (await browser.get(f"/dashboard/acme/series/{series.hex}")).text
    assert "62\u00a0% instead of 40\u00a0% since" in shown
    assert "1\u00a0change of level" in shown


async def test_no_page_has_script_or_style_of_its_own(
    browser: httpx.AsyncClient, site: Site
) -> None:
    await evening(site.seed)
    series = Series.of("listeners").hex
    unlogged = [await browser.get("/login")]
    await log_in(browser, site, Role.RESPONDER)
    paths = ("", "/fragment", "/series", "/alerts", "/alerts/fragment", f"/series/{series}")
    answers = [await browser.get(f"/dashboard/acme{path}") for path in paths]
    for answer in unlogged + answers:
        assert answer.status_code == 200
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"
        assert not re.search(r"\sstyle=|\son[a-z]+=|<style", answer.text)
        assert not re.search(r"<script(?![^>]*\ssrc=)", answer.text)


async def test_every_link_of_the_navigation_leads_to_a_page(
    browser: httpx.AsyncClient, site: Site
) -> None:
    await log_in(browser, site)
    shown = (await browser.get("/dashboard/acme")).text
    navigation = re.search(r"<nav.*?</nav>", shown, re.S)
    assert navigation is not None
    links = re.findall(r'href="([^"]+)"', navigation[0])
    assert len(links) == 3
    for link in links:
        assert (await browser.get(link)).status_code == 200


async def test_an_empty_tenant_is_told_how_to_begin(browser: httpx.AsyncClient, site: Site) -> None:
    await log_in(browser, site)
    shown = (await browser.get("/dashboard/acme")).text
    assert "No data yet." in shown
    assert f"{site.url}/analytics/metrics" in shown


async def test_a_series_is_found_by_words_and_by_selector(
    browser: httpx.AsyncClient, site: Site
) -> None:
    await evening(site.seed)
    await log_in(browser, site)
    found = (await browser.get("/dashboard/acme/series?q=play+edge-7")).text
    assert found.count("Play starts</b>") == 2
    found = (await browser.get('/dashboard/acme/series?q=play_starts{platform="web"}')).text
    assert found.count("Play starts</b>") == 3
    nothing = await browser.get("/dashboard/acme/series?q=nothing")
    assert "No series has “nothing”" in nothing.text
    wrong = await browser.get("/dashboard/acme/series?q={{")
    assert wrong.status_code == 400
    assert "is not a metric selector" in wrong.text


async def test_the_history_tells_what_happened_to_an_alert(
    browser: httpx.AsyncClient, site: Site
) -> None:
    await evening(site.seed)
    await log_in(browser, site)
    shown = (await browser.get("/dashboard/acme/alerts")).text
    assert shown.count("High error rate") == 7
    assert "Noticed, waiting whether it lasts" in shown
    older = await browser.get(f"/dashboard/acme/alerts?before={site.seed.now - 20 * 3600}")
    assert older.text.count("High error rate") == 4
    assert (await browser.get("/dashboard/acme/alerts?before=x")).status_code == 400


async def test_files_with_their_version_are_kept_and_others_asked_about(
    browser: httpx.AsyncClient,
) -> None:
    shown = (await browser.get("/login")).text
    versioned = re.search(r'href="(/static/overview\.css\?v=[0-9a-f]+)"', shown)
    assert versioned is not None
    assert "immutable" in (await browser.get(versioned[1])).headers["cache-control"]
    assert (await browser.get("/static/overview.css")).headers["cache-control"] == "no-cache"


async def test_missing_scripts_are_explained(
    browser: httpx.AsyncClient, site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await evening(site.seed)
    await log_in(browser, site, Role.RESPONDER)
    monkeypatch.setattr(pages, "_STATIC", tmp_path)
    shown = await browser.get("/dashboard/acme")
    assert shown.status_code == 200
    assert "make setup" in shown.text
    assert "vendor/" not in shown.text
