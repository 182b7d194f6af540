"""The pages in a real browser."""

import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright

from service.domain.silences import SilenceState
from service.domain.tenants import Role
from tests.support.music import evening

pytestmark = pytest.mark.browser

Site = Any

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
LAPTOP, PHONE = {"width": 1200, "height": 900}, {"width": 390, "height": 844}


def chromium() -> str:
    """The system's Chromium; skips without one, unless one is required."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        path = shutil.which(name)
        if path:
            return path
    reason = "no chromium, chromium-browser or google-chrome on PATH"
    if os.environ.get("OFFBEAT_REQUIRE_BROWSER") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
async def chrome() -> AsyncIterator[Browser]:
    """A running browser."""
    path = chromium()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        await browser.close()


@dataclass
class Visit:
    """A page, and what it complained about."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    async def log_in(self, url: str, key: str) -> None:
        await self.page.goto(f"{url}/login")
        await self.page.fill("#key", key)
        await self.page.click("button")
        await self.page.wait_for_selector("main h1.state")

    async def drawn(self) -> None:
        """Until the chart has something on it."""
        await self.page.wait_for_selector(".chart canvas")
        await self.page.wait_for_function(
            "() => { const c = document.querySelector('.chart canvas');"
            " return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(v => v) }"
        )


async def visit(chrome: Browser, **options: Any) -> Visit:
    context = await chrome.new_context(timezone_id="Europe/Berlin", **options)
    seen = Visit(await context.new_page())

    def hear(message: Any) -> None:
        if message.type in ("error", "warning"):
            seen.complaints.append(f"{message.type}: {message.text}")

    seen.page.on("console", hear)
    seen.page.on("pageerror", lambda error: seen.complaints.append(f"error: {error}"))
    return seen


async def overflow(page: Page) -> int:
    """By how many pixels the page is wider than its window."""
    width = await page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    return int(width)


async def test_an_alert_is_acknowledged_with_one_press(chrome: Browser, site: Site) -> None:
    alert = await evening(site.seed)
    seen = await visit(chrome, viewport=LAPTOP)
    page = seen.page
    await seen.log_in(site.url, await site.key(Role.RESPONDER))
    await seen.drawn()
    assert (await page.inner_text("h1.state")).startswith("1\u00a0alert needs you.")
    await page.click(f"#ack-{alert}")
    told = page.locator(f"#alert-{alert} .ack")
    await told.wait_for()
    assert "acknowledged by Mira at" in await told.inner_text()
    assert await page.locator(f"#ack-{alert}").count() == 0
    assert "being looked after" in await page.inner_text("h1.state")
    kept = await site.parts.alerts.get("acme", alert)
    assert kept.acknowledged_by == "responder:Mira"
    # The chart has lived through the refresh and can still be read.
    assert await page.locator(f"#chart-{alert} canvas").count() == 1
    assert seen.complaints == []


async def test_an_alert_is_silenced_with_a_word_why(chrome: Browser, site: Site) -> None:
    alert = await evening(site.seed)
    for viewport in (LAPTOP, PHONE):
        seen = await visit(chrome, viewport=viewport)
        page = seen.page
        await seen.log_in(site.url, await site.key(Role.RESPONDER))
        await seen.drawn()
        await page.click(f"#silence-{alert} summary")
        await page.fill(f"#comment-{alert}", "moving the")
        await page.evaluate("document.activeElement.blur()")
        await page.evaluate("document.querySelector('h1.state').textContent = 'old'")
        await page.evaluate("htmx.trigger('#part', 'refresh')")
        await page.wait_for_function(
            "() => document.querySelector('h1.state').textContent !== 'old'"
        )
        assert await page.input_value(f"#comment-{alert}") == "moving the"
        assert await overflow(page) <= 0
        await page.locator(f"#comment-{alert}").press("End")
        await page.locator(f"#comment-{alert}").press_sequentially(" database")
        await page.keyboard.press("Enter")
        told = page.locator(f"#hush-{alert}")
        await told.wait_for()
        assert "by Mira: moving the database" in await told.inner_text()
        assert await page.locator(f"#silence-{alert}").count() == 0
        assert "alert is silenced. By Mira, for another" in await page.inner_text("h1.state")
        assert await overflow(page) <= 0
        (made,), _ = await site.parts.silences.list("acme", SilenceState.ACTIVE)
        assert {m.name: m.value for m in made.matchers} == {
            "alertname": "Play starts",
            "region": "eu-west",
        }
        assert made.ends_at - made.starts_at == pytest.approx(7200, abs=1)
        assert made.created_by == "responder:Mira"
        await page.click(f"#end-{alert}")
        await page.locator(f"#silence-{alert}").wait_for()
        assert "needs you" in await page.inner_text("h1.state")
        assert seen.complaints == []
        await page.context.close()


async def test_people_say_what_an_alert_was_worth(chrome: Browser, site: Site) -> None:
    alert = await evening(site.seed)
    seen = await visit(chrome, viewport=PHONE)
    page = seen.page
    await seen.log_in(site.url, await site.key(Role.RESPONDER))
    assert await page.locator(".worth").count() == 0
    await page.click(f"#ack-{alert}")
    await page.click(f"#noise-{alert}")
    await page.locator(f"#noise-{alert}[aria-pressed=true]").wait_for()
    assert "Noise, said Mira" in await page.inner_text(f"#alert-{alert} .worth")
    (given,) = await site.parts.feedback.of_alert("acme", alert)
    assert (given.verdict, given.actor) == ("noise", "responder:Mira")
    await page.goto(f"{site.url}/dashboard/acme/alerts")
    await page.click(f"#events-{alert} summary")
    await page.click(f"#useful-{alert}")
    await page.locator(f"#useful-{alert}[aria-pressed=true]").wait_for()
    assert await page.locator(f"#events-{alert}[open]").count() == 1
    assert await overflow(page) <= 0
    assert seen.complaints == []


async def test_a_refresh_keeps_the_chart_the_focus_and_the_place(
    chrome: Browser, site: Site
) -> None:
    alert = await evening(site.seed)
    seen = await visit(chrome, viewport={"width": 1200, "height": 500})
    page = seen.page
    await seen.log_in(site.url, await site.key(Role.RESPONDER))
    await seen.drawn()
    await page.evaluate("document.querySelector('.chart canvas').dataset.mine = 'kept'")
    await page.focus(f"#ack-{alert}")
    await page.evaluate("window.scrollTo(0, 120)")
    await page.evaluate("document.querySelector('h1.state').textContent = 'old'")
    await page.evaluate("htmx.trigger('#part', 'refresh')")
    await page.wait_for_function("() => document.querySelector('h1.state').textContent !== 'old'")
    assert await page.evaluate("document.activeElement.id") == f"ack-{alert}"
    assert await page.evaluate("window.scrollY") == 120
    assert await page.evaluate("document.querySelector('.chart canvas').dataset.mine") == "kept"
    assert seen.complaints == []


async def test_the_page_refreshes_by_itself_and_says_when_it_cannot(
    chrome: Browser, site: Site
) -> None:
    await evening(site.seed)
    seen = await visit(chrome, viewport=LAPTOP)
    page = seen.page
    await seen.log_in(site.url, await site.key(Role.READER))
    async with page.expect_response("**/dashboard/acme/fragment", timeout=15_000) as answer:
        pass
    assert (await answer.value).status == 200
    await page.route("**/fragment", lambda route: route.abort())
    await page.locator(".live.lost").wait_for(timeout=15_000)
    assert await page.inner_text("#live") == "no connection"


async def test_every_page_fits_a_phone_in_light_and_dark(
    chrome: Browser, site: Site, tmp_path: Path
) -> None:
    await evening(site.seed)
    key = await site.key(Role.RESPONDER)
    for name, viewport in (("laptop", LAPTOP), ("phone", PHONE)):
        for scheme in ("light", "dark"):
            seen = await visit(chrome, viewport=viewport, color_scheme=scheme)
            page = seen.page
            await seen.log_in(site.url, key)
            await seen.drawn()
            link = await page.get_attribute(".tile >> nth=0", "href")
            for place, path in (
                ("overview", "/dashboard/acme"),
                ("series", link),
                ("list", "/dashboard/acme/series"),
                ("alerts", "/dashboard/acme/alerts"),
            ):
                await page.goto(f"{site.url}{path}")
                if place in ("overview", "series"):
                    await seen.drawn()
                assert await overflow(page) <= 0, (place, name)
                shot = tmp_path / f"{place}-{name}-{scheme}.png"
                await page.screenshot(path=shot, full_page=True)
                assert shot.stat().st_size > 5000
            assert seen.complaints == []
            await page.context.close()


async def test_a_chart_follows_the_window_and_the_colour_scheme(
    chrome: Browser, site: Site
) -> None:
    await evening(site.seed)
    seen = await visit(chrome, viewport=LAPTOP, color_scheme="light")
    page = seen.page
    await seen.log_in(site.url, await site.key(Role.READER))
    await seen.drawn()
    picture = "document.querySelector('.chart canvas').toDataURL()"
    light = await page.evaluate(picture)
    await page.emulate_media(color_scheme="dark")
    await page.wait_for_function(f"() => {picture} !== {light!r}")
    before = await page.evaluate("document.querySelector('.chart canvas').width")
    await page.set_viewport_size({"width": 800, "height": 900})
    await page.wait_for_function(f"() => document.querySelector('.chart canvas').width < {before}")
    assert await overflow(page) <= 0
    assert seen.complaints == []


async def test_pointing_at_a_chart_tells_the_value_and_what_was_expected(
    chrome: Browser, site: Site
) -> None:
    alert = await evening(site.seed)
    seen = await visit(chrome, viewport=LAPTOP)
    page = seen.page
    await seen.log_in(site.url, await site.key(Role.READER))
    await seen.drawn()
    await page.hover(f"#chart-{alert} .u-over")
    readout = page.locator(f"#readout-chart-{alert}")
    await page.wait_for_function(
        f"() => document.getElementById('readout-chart-{alert}').textContent.includes('expected')"
    )
    assert " to " in await readout.inner_text()
    label = await page.get_attribute(f"#chart-{alert}", "aria-label")
    assert label is not None
    assert label.startswith("Play starts (eu-west), between")


async def test_a_link_from_a_chat_ends_at_its_alert(chrome: Browser, site: Site) -> None:
    alert = await evening(site.seed)
    seen = await visit(chrome, viewport=PHONE)
    page = seen.page
    await page.goto(f"{site.url}/dashboard/acme#alert-{alert}")
    await page.fill("#key", await site.key(Role.RESPONDER))
    await page.click("button")
    await page.wait_for_selector("main h1.state")
    assert page.url == f"{site.url}/dashboard/acme#alert-{alert}"
    # Another site's page, to which strict cookies are not sent, links to the same alert.
    elsewhere = "http://localhost" + site.url.removeprefix("http://127.0.0.1")
    await page.goto(f"{elsewhere}/login")
    await page.evaluate(
        "to => { const a = document.createElement('a'); a.href = to; a.id = 'to';"
        " a.textContent = 'to'; document.body.append(a) }",
        f"{site.url}/dashboard/acme#alert-{alert}",
    )
    await page.click("#to")
    await page.wait_for_selector("main h1.state")
    assert page.url == f"{site.url}/dashboard/acme#alert-{alert}"


async def test_a_session_that_ends_leads_to_the_login(chrome: Browser, site: Site) -> None:
    await evening(site.seed)
    seen = await visit(chrome, viewport=LAPTOP)
    await seen.log_in(site.url, await site.key(Role.READER))
    (key,) = await site.parts.keys.list("acme")
    await site.parts.keys.revoke("acme", key.id, "test")
    await seen.page.wait_for_url("**/login?next=/dashboard/acme**", timeout=15_000)


async def test_everything_can_be_reached_by_keyboard(chrome: Browser, site: Site) -> None:
    alert = await evening(site.seed)
    seen = await visit(chrome, viewport=LAPTOP)
    page = seen.page
    await seen.log_in(site.url, await site.key(Role.RESPONDER))
    reached = []
    for _ in range(12):
        await page.keyboard.press("Tab")
        reached.append(
            await page.evaluate(
                "(() => { const e = document.activeElement, s = getComputedStyle(e);"
                " return [e.id || e.textContent.trim(), s.outlineStyle] })()"
            )
        )
    names = [name for name, _ in reached]
    assert names[0] == "Skip to the content"
    assert f"ack-{alert}" in names
    assert all(outline == "solid" for _, outline in reached)
    await page.focus(f"#ack-{alert}")
    await page.keyboard.press("Enter")
    await page.locator(f"#alert-{alert} .ack").wait_for()
