"""Where trainings run: real processes, killed while they train."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from bench.dask_cluster import DaskCluster
from service.detection.budget import Budget
from service.detection.dask_pool import DaskPool, Outcome, guarded
from service.detection.pool import LocalPool
from service.domain.errors import Unavailable
from tests.support.roles import wait_until
from tests.support.whole import until_true


def about_itself() -> tuple[int, int, str | None]:
    """Priority, class of scheduling and number of threads of the process that runs this."""
    return (
        os.getpriority(os.PRIO_PROCESS, 0),
        os.sched_getscheduler(0),
        os.environ.get("OPENBLAS_NUM_THREADS"),
    )


def computes(seconds: float) -> float:
    """Use so much CPU; when it began."""
    begun, end = time.monotonic(), time.process_time() + seconds
    while time.process_time() < end:
        pass
    return begun


def once(folder: str, name: str, after: str = "*") -> str:
    """Leave a mark with the process' id, wait for a mark called `after`, answer."""
    marks = Path(folder)
    (marks / f"{name}.{os.getpid()}").touch()
    wait_until(lambda: [*marks.glob(f"{after}.*")], 60, f"nobody has left {after}")
    return name


def dies(folder: str) -> None:
    """As a training does that takes too much memory."""
    (Path(folder) / f"died.{time.monotonic_ns()}").touch()
    os.kill(os.getpid(), signal.SIGKILL)


def refuses() -> None:
    """Fail as trainings do."""
    raise ValueError("too few rows")


@pytest.fixture
async def pool() -> AsyncIterator[LocalPool]:
    found = LocalPool(2, nice=0)
    yield found
    await asyncio.to_thread(found.close)


def pids(folder: Path, name: str = "*") -> list[int]:
    """Processes that have begun it, in no order."""
    return [int(mark.suffix[1:]) for mark in folder.glob(f"{name}.*")]


@pytest.mark.slow
async def test_training_processes_yield_to_all_others() -> None:
    pool = LocalPool(1, share=0.5)
    try:
        assert await pool.run(about_itself) == (19, os.SCHED_BATCH, "1")
        begun = await asyncio.gather(*(pool.run(computes, 0.2) for _ in range(3)))
        assert np.ptp(begun) >= 0.7  # it rests as long as it works; 0.4 without
    finally:
        await asyncio.to_thread(pool.close)


@pytest.mark.slow
async def test_a_process_that_dies_costs_only_what_killed_it(
    pool: LocalPool, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="too few rows"):
        await pool.run(refuses)
    told = await asyncio.gather(
        pool.run(once, str(tmp_path), "a", "died"),
        pool.run(dies, str(tmp_path)),
        pool.run(once, str(tmp_path), "b", "died"),
        return_exceptions=True,
    )
    assert (told[0], told[2]) == ("a", "b")
    assert isinstance(told[1], RuntimeError)
    assert len(list(tmp_path.glob("died.*"))) == 2  # once beside the others, once alone
    assert await pool.run(once, str(tmp_path), "c") == "c"


async def test_training_pauses_while_points_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.detection.budget._LOOK_SECONDS", 0.02)
    lag: list[float | Exception] = [0.0]

    async def ask() -> float:
        if isinstance(lag[0], Exception):
            raise lag[0]
        return lag[0]

    budget = Budget(ask, lag_max=1.0)
    await asyncio.wait_for(budget.turn(), 1)
    for high in (1.5, Unavailable("the store does not answer")):
        lag[0] = high
        await asyncio.sleep(0.05)  # what was seen before counts no more
        waiting = [asyncio.create_task(budget.turn()) for _ in range(3)]
        await until_true(lambda: budget.why)
        assert not any(task.done() for task in waiting)
        lag[0] = 0.9  # better, and not yet well
        await asyncio.sleep(0.1)
        assert not any(task.done() for task in waiting)
        lag[0] = 0.4
        await asyncio.wait_for(asyncio.gather(*waiting), 3)
        assert budget.why == ""


async def test_where_points_always_wait_a_training_begins_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.detection.budget._TRICKLE_SECONDS", 0.2)
    monkeypatch.setattr("service.detection.budget._LOOK_SECONDS", 0.02)

    async def always() -> float:
        return 9.0

    budget = Budget(always, lag_max=1.0)
    begun = time.monotonic()
    await asyncio.wait_for(asyncio.gather(*(budget.turn() for _ in range(3))), 5)
    assert time.monotonic() - begun >= 0.6


# Dask


def test_a_worker_of_another_version_is_refused() -> None:
    with pytest.raises(RuntimeError, match="version"):
        guarded("0.0.0-other", refuses)
    from service import __version__

    told = guarded(__version__, refuses)
    assert isinstance(told, Outcome)
    assert isinstance(told.error, ValueError)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DaskCluster:
    """Two workers. They import the tests' functions."""
    root = str(Path(__file__).parents[2])
    known = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(part for part in (root, known) if part))
    with DaskCluster(tmp_path) as found:
        found.start_scheduler()
        for _ in range(2):
            found.start_worker()
        yield found


@pytest.mark.slow
async def test_what_a_lost_worker_had_begun_is_done_by_another(
    cluster: DaskCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a busy machine is no lost cluster
    monkeypatch.setattr("service.detection.dask_pool._PATIENCE", 20.0)
    local = LocalPool(1, nice=0)
    pool = DaskPool(cluster.address, local)
    try:
        await until_workers(pool, cluster, 2)
        with pytest.raises(ValueError, match="too few rows"):
            await pool.run(refuses)
        names = [f"n{number}" for number in range(12)]
        running = asyncio.gather(*(pool.run(once, str(tmp_path), name, "struck") for name in names))
        victim = cluster.workers[0]
        await until_true(lambda: victim.pid in pids(tmp_path, "n*"), 30)
        victim.kill()
        (tmp_path / "struck.now").touch()
        assert await asyncio.wait_for(running, 60) == names
        ours = {worker.pid for worker in cluster.workers}
        assert set(pids(tmp_path, "n*")) <= ours  # none fell back on this machine
        await until_workers(pool, cluster, 1)
        assert pool.place == "Dask, 1 thread"

        # Without the scheduler they run here, and on the cluster again when it is back.
        cluster.scheduler.kill()
        cluster.workers[1].kill()
        told = await asyncio.wait_for(pool.run(once, str(tmp_path), "here"), 30)
        assert told == "here"
        assert not set(pids(tmp_path, "here")) & ours
        assert pool.place == "1 process"
        cluster.start_scheduler()
        worker = cluster.start_worker()
        pool._not_before = 0.0
        await until_workers(pool, cluster, 1)
        assert await asyncio.wait_for(pool.run(once, str(tmp_path), "back"), 30) == "back"
        assert pids(tmp_path, "back") == [worker.pid]
    finally:
        await asyncio.to_thread(pool.close)


async def until_workers(pool: DaskPool, cluster: DaskCluster, count: int) -> None:
    """Wait until the cluster has so many workers."""
    async with asyncio.timeout(40):
        while True:
            pool._not_before = pool._looked = 0.0
            if await pool._ready() is not None and pool._threads == count:
                return
            await asyncio.sleep(0.1)
