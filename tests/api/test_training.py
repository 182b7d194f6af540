"""Where training stands, as a tenant sees it: through the API and on its page."""

import httpx
import pytest

from service.detection.due import Due, Reason
from service.detection.progress import Learning, Progress, learning
from service.detection.records import ModelRecord, ModelState
from service.domain.series import Series
from service.domain.tenants import Role
from service.insights.words import SPACE
from service.insights.words import learning as in_words
from service.storage import keys
from service.wiring import Wiring
from tests.support.seed import Seed, times
from tests.support.whole import key_of


def due(tenant: str, number: int, *, again: bool = False) -> Due:
    series = Series.of("m", {"n": str(number)})
    record = ModelRecord(tenant, series.hex, ModelState.READY, version=1) if again else None
    return Due(tenant, series, record, Reason.OLD if again else Reason.NEW)


@pytest.fixture
def progress(parts: Wiring) -> Progress:
    """Twelve new series of acme, of which seven are done; two known ones of another tenant."""
    found = Progress(parts.clock, lambda: "", lambda: "2 processes", lambda: 1)
    acme = [due("acme", number) for number in range(12)]
    found.begin([*acme, due("other", 1, again=True), due("other", 2, again=True)])
    for one, outcome in zip(acme, ["trained"] * 6 + ["failed", "cold"], strict=False):
        found.left(one, outcome)
    return found


async def test_a_tenant_sees_its_own_part(
    client: httpx.AsyncClient, parts: Wiring, progress: Progress
) -> None:
    acme = {"X-API-Key": await key_of(parts, "acme", Role.READER)}
    other = {"X-API-Key": await key_of(parts, "other", Role.READER)}
    idle = (await client.get("/analytics/training", headers=acme)).json()
    assert (idle["state"], idle["waiting"], idle["seconds_left"]) == ("idle", 0, None)

    await parts.training.tell(progress.snapshot())
    shown = (await client.get("/analytics/training", headers=acme)).json()
    assert (shown["state"], shown["why"], shown["place"]) == ("running", "", "2 processes")
    assert (shown["waiting"], shown["done"], shown["failed"]) == (4, 7, 1)
    assert (shown["first_waiting"], shown["first_done"]) == (4, 6)
    assert shown["since"].endswith("Z")
    # four of acme's, and as many as there are of the other tenant's, which takes turns
    assert shown["seconds_left"] == pytest.approx(60 * 6 / shown["per_minute"])
    shown = (await client.get("/analytics/training", headers=other)).json()
    assert (shown["waiting"], shown["first_waiting"], shown["done"]) == (2, 0, 0)
    assert shown["seconds_left"] == pytest.approx(60 * 4 / shown["per_minute"])

    await parts.training.clear()
    assert (await client.get("/analytics/training", headers=acme)).json() == idle
    await parts.redis.set(keys.TRAINING, b'{"from": "another version"}')
    assert (await client.get("/analytics/training", headers=acme)).json() == idle


async def test_the_page_has_a_line_while_series_learn_for_the_first_time(
    client: httpx.AsyncClient, parts: Wiring, progress: Progress
) -> None:
    seed = Seed(parts.redis, parts.database, parts.clock.now(), shards=parts.settings.log_shards)
    t = times(seed.now, 1)
    for tenant in ("acme", "other"):
        seed.tenant = tenant
        await seed.put(Series.of("m"), t, t * 0 + 1)
    await parts.training.tell(progress.snapshot())
    said = {}
    for tenant in ("acme", "other"):
        key = {"X-API-Key": await key_of(parts, tenant, Role.READER)}
        shown = (await client.get(f"/analytics/dashboard/{tenant}", headers=key)).json()
        said[tenant] = shown["learning_words"]
    assert said["acme"].replace(SPACE, " ").startswith("Learning: 6 of 10 new series")
    assert said["other"] == ""


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (Learning(), ""),
        (Learning(state="running", waiting=4), ""),  # known series are nobody's concern
        (
            Learning("running", first_waiting=1188, first_done=812, seconds_left=355.0),
            "Learning: 812 of 2,000 new series, about 6 min left",
        ),
        (
            Learning("running", first_waiting=3, first_done=9, seconds_left=9.0),
            "Learning: 9 of 12 new series, under a minute left",
        ),
        (Learning("running", first_waiting=2), "Learning: 0 of 2 new series"),
        (
            Learning("paused", first_waiting=2, seconds_left=60.0),
            "Learning: 0 of 2 new series; it waits while judging has much to do",
        ),
    ],
)
def test_the_line(now: Learning, said: str) -> None:
    assert in_words(now).replace(SPACE, " ") == said


def test_a_pause_is_told_with_its_reason(progress: Progress, parts: Wiring) -> None:
    held = Progress(
        parts.clock, lambda: "points wait 1.2 s to be judged", lambda: "1 process", lambda: 0
    )
    held.begin([due("acme", 1)])
    assert learning(held.snapshot(), "acme").state == "paused"
    assert learning(held.snapshot(), "acme").why == "points wait 1.2 s to be judged"
    assert learning(held.snapshot(), "stranger") == Learning()
