"""The time lapse is behind, catches up at its signal, and stays real."""

import asyncio
import time
from pathlib import Path

import pytest

from service.domain.clock import ManualClock, TimeLapse, iso
from service.domain.durations import format_duration, parse_duration
from service.domain.errors import InvalidInput


async def test_a_time_lapse_catches_up_and_joins(tmp_path: Path) -> None:
    ours = TimeLapse(lag=20.0, speed=100.0, signal=tmp_path / "signal")
    theirs = TimeLapse.parse(str(ours))
    assert theirs.now() == pytest.approx(time.time() - 20, abs=0.5)
    sleeping = asyncio.create_task(theirs.sleep(10))
    await asyncio.sleep(0)
    ours.start()
    await asyncio.wait_for(sleeping, 2)
    assert abs(ours.now() - theirs.now()) < 1
    deadline = time.monotonic() + 2
    while theirs.now() < time.time() - 0.05:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    assert theirs.now() == pytest.approx(time.time(), abs=0.1)


def test_a_time_lapse_runs_forward_and_faster(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="runs faster"):
        TimeLapse(1.0, 1.0, tmp_path / "s")


async def test_a_manual_clock_wakes_its_sleepers_in_time() -> None:
    clock = ManualClock(100.0)
    sleeping = asyncio.create_task(clock.sleep(10))
    await asyncio.sleep(0)
    await clock.advance(9)
    await asyncio.sleep(0)
    assert not sleeping.done()
    await clock.advance(1)
    await asyncio.wait_for(sleeping, 1)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5m", 300), ("1h30m", 5400), ("250ms", 0.25), (90, 90), ("90", 90), ("2w", 1209600), (0, 0)],
)
def test_durations_as_people_write_them(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5 minutes", "m5", True, None, -1, "11y", [], "1e9"])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(InvalidInput, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(300, "5m"), (5400, "1h30m"), (0.25, "250ms"), (0, "0s"), (90061, "1d1h")]
)
def test_durations_read_back(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_times_are_rfc_3339() -> None:
    assert iso(0) == "1970-01-01T00:00:00Z"
    assert iso(1.5) == "1970-01-01T00:00:01.500Z"
    assert iso(None) is None
