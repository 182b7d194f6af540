"""Processes are killed while stamped samples stream in: nothing acknowledged is lost or doubled."""

from pathlib import Path

import pytest

from tests.soak.kills import ROLES, Plan, run


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_what_was_acknowledged_is_there_whatever_is_killed(short_tmp: Path) -> None:
    folder = short_tmp / "kills"
    folder.mkdir()
    plan = Plan(samples=30_000, kills=6, pause=(0, 0.2), seed=3, senders_each=1)
    report = await run(folder, plan)
    said = "\n".join([*report.lines(), report.log])
    assert not report.difference.wrong, said
    assert report.kills == dict.fromkeys(ROLES, 2)
    assert report.book.samples > 20_000, said  # the others were given up when they failed
    assert "Traceback" not in report.log, said
