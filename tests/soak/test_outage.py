"""The store is away under load: 503 at once, nothing lost, and all goes on when it is back."""

from pathlib import Path

import pytest

from tests.soak.outage import Plan, run


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_while_the_store_is_away_senders_are_told_so_at_once(short_tmp: Path) -> None:
    folder = short_tmp / "outage"
    folder.mkdir()
    outages = [("stopped", 4.0), ("killed", 2.0)]
    # The machine is busy with other tests: an answer may wait for its turn.
    plan = Plan(outages, between=2, interval=0.1, senders_each=1, within=2.5)
    report = await run(folder, plan)
    said = "\n".join([*report.lines(), report.log])
    assert not report.wrong, said
    assert "Traceback" not in report.log, said
