"""Two schedulers as real processes, the leader killed: no slot of a job runs twice, none is missed.

What is read here is the log that the scripts which hand out slots keep, in the same step.
"""

import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest
from redis import Redis

from service.storage import keys
from service.storage.embedded import EmbeddedStore
from service.storage.sql.engine import Database
from tests.support.roles import end, environment_of, start_role, wait_until

SLOT = 0.25


class Slot(NamedTuple):
    """One line of the log."""

    slot: int
    what: str
    passed: int
    owner: str


def slots(store: Redis) -> list[Slot]:
    """What became of the job `train` so far."""
    found = []
    for _, fields in store.xrange(keys.JOB_LOG):
        line = {name.decode(): value.decode() for name, value in fields.items()}
        if line["job"] == "train":
            found.append(Slot(int(line["slot"]), line["what"], int(line["passed"]), line["owner"]))
    return found


def leader(store: Redis) -> str:
    """Who leads, empty if nobody does."""
    return (store.get(keys.LEADER) or b"").decode()


@pytest.mark.slow
async def test_each_slot_is_done_once_whoever_is_killed(
    tmp_path: Path, store: EmbeddedStore, redis: object, sqlite: Database
) -> None:
    environment = environment_of(
        tmp_path,
        store.url,
        f"sqlite:///{tmp_path / 'offbeat.db'}",
        WORKER_LEASE_SECONDS="1",
        TRAINING_INTERVAL=str(SLOT),
        TRAINING_NICE="0",
    )
    log = tmp_path / "log"
    with Redis.from_url(store.url) as raw:
        processes = [start_role("scheduler", environment, log) for _ in range(2)]
        by_pid = {process.pid: process for process in processes}

        def led_by() -> "subprocess.Popen[bytes] | None":
            pid = leader(raw).rpartition("-")[2].partition(".")[0]
            return by_pid.get(int(pid)) if pid else None

        def done() -> int:
            return sum(1 for line in slots(raw) if line.what == "done")

        try:
            wait_until(lambda: done() >= 4, 40, log.read_text)
            first = led_by()
            end(first, signal.SIGKILL)
            killed_at = done()
            wait_until(lambda: done() >= killed_at + 4, 40, "nobody took over")
            second = led_by()
            assert second is not None
            assert second is not first

            # One that was only stopped believes to lead when it goes on; it gets nothing.
            third = start_role("scheduler", environment, log)
            processes.append(third)
            by_pid[third.pid] = third
            second.send_signal(signal.SIGSTOP)
            wait_until(lambda: led_by() is third, 40, "nobody took over")
            second.send_signal(signal.SIGCONT)
            stopped_at = done()
            wait_until(lambda: done() >= stopped_at + 8, 40, "slots came to rest")
            assert led_by() is third
        finally:
            for process in processes:
                end(process, signal.SIGKILL)
        lines = slots(raw)

    finished = Counter(line.slot for line in lines if line.what == "done")
    assert set(finished.values()) == {1}
    begun = [line for line in lines if line.what == "begun"]
    # Those that are begun twice were left by the one that was killed or stopped, for the next.
    again = [slot for slot, times in Counter(line.slot for line in begun).items() if times > 1]
    for slot in again:
        owners = [line.owner for line in begun if line.slot == slot]
        assert len(set(owners)) == len(owners) == 2
    # From the first to the last, each slot was run, or passed without a leader and told of.
    covered = [
        number
        for line in begun
        if line.slot not in again or line is next(b for b in begun if b.slot == line.slot)
        for number in range(line.slot - line.passed, line.slot + 1)
    ]
    assert covered == list(range(begun[-1].slot + 1))
    assert len({line.owner for line in begun}) == 3
