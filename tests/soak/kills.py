"""Stamped samples through the API of `offbeat serve` while its processes are killed at random."""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from service.domain.errors import OffbeatError
from service.storage import keys
from service.storage.redis import ask
from service.wiring import Wiring, wired
from tests.soak.load import (
    ENVIRONMENT,
    Book,
    longest_gap,
    send_all,
    senders_of,
    settings_of,
    until,
)
from tests.soak.stored import Difference, difference, drained, last_entry, order
from tests.support.roles import end, start_role
from tests.support.served import Served, serving

ROLES = ("api", "worker", "store")
#: So many of the kills strike a process that has only just been started in place of a killed one.
AGAIN = 0.25


@dataclass
class Plan:
    """How large a run is."""

    samples: int
    kills: int
    pause: tuple[float, float]
    seed: int
    senders_each: int = 2


@dataclass
class Report:
    """What a run has shown."""

    difference: Difference
    book: Book
    kills: Counter[str]
    starting: Counter[str]
    seconds: float
    applied_after: dict[str, float]
    log: str
    stamped: int = 0

    def lines(self) -> list[str]:
        """For people."""
        book, found = self.book, self.difference
        requests = [r for of in book.requests.values() for r in of]
        kills = ", ".join(f"{self.kills[role]} {role}" for role in ROLES)
        again = ", ".join(f"{self.starting[role]} {role}" for role in ROLES)
        after = ", ".join(f"{role} {self.applied_after.get(role, 0):.1f} s" for role in ROLES)
        return [
            f"samples        {self.stamped} sent, {book.samples} acknowledged in "
            f"{self.seconds:.0f} s ({book.samples / self.seconds:,.0f} a second)",
            f"requests       {len(requests)}, {sum(r.attempts > 1 for r in requests)} sent more "
            f"than once, {sum(not r.acknowledged for r in requests)} given up",
            f"refusals       {dict(book.refused)}",
            f"kills          {kills}; of these while it started: {again}",
            f"recovery       longest time without an acknowledgement "
            f"{longest_gap(book.acknowledged_at()):.1f} s; from a kill until all that was "
            f"acknowledged before is applied, at most: {after}",
            f"raw records    {found.records} stored, {found.repeated} of repeated requests twice",
            f"difference     {len(found.wrong)}",
            *found.wrong[:20],
        ]


@dataclass
class _Killer:
    served: Served
    parts: Wiring
    book: Book
    plan: Plan
    http: httpx.AsyncClient
    done: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    starting: Counter[str] = field(default_factory=Counter)
    applied_after: dict[str, float] = field(default_factory=dict)
    watching: set["asyncio.Task[None]"] = field(default_factory=set)

    async def run(self) -> None:
        """Every role as often, in random order, in step with the senders."""
        dice = random.Random(self.plan.seed)
        order_of = [ROLES[n % len(ROLES)] for n in range(self.plan.kills)]
        dice.shuffle(order_of)
        while order_of:
            due = self.done / (self.plan.kills + 1) * self.plan.samples
            await until(lambda due=due: self.book.settled >= due, 600)
            await asyncio.sleep(dice.uniform(*self.plan.pause))
            role = await self._at_work(order_of)
            # When something is under way: a request, and a moment later its way to the chunks.
            await until(lambda: self.book.in_flight > 0, 1)
            await asyncio.sleep(dice.uniform(0, 0.03))
            order_of.remove(role)
            killed = await self._kill(role)
            if role in order_of and dice.random() < AGAIN:
                order_of.remove(role)
                await self._kill(role, after=killed, wait=dice.uniform(0, 0.4))
        if self.watching:
            await asyncio.wait(self.watching, timeout=60)

    async def _at_work(self, roles: Sequence[str]) -> str:
        """The first of the roles whose process works; those that start are struck on purpose.

        That it runs or that the API is connected to says nothing: the supervisor keeps the socket
        open. Struck at birth again and again, it would be started ever more rarely.
        """
        deadline = time.monotonic() + 60
        while True:
            working = await self._working()
            if found := [role for role in roles if role in working]:
                return found[0]
            assert time.monotonic() < deadline, self.served.said
            await asyncio.sleep(0.05)

    async def _working(self) -> set[str]:
        """Api and store if the API says that it is ready; the worker if it also holds a shard."""
        children = self.served.children()
        mark = f"-{children.get('worker')}."
        try:
            if (await self.http.get("/readyz")).status_code != 200:
                return set()
            leases = map(keys.lease, range(self.parts.settings.log_shards))
            owners = await ask(self.parts.redis, "MGET", *leases)
        except (httpx.HTTPError, OffbeatError):
            return set()
        holds = any(mark in owner.decode() for owner in owners if owner)
        return {role for role in children if role != "worker" or holds}

    async def _kill(self, role: str, after: int = 0, wait: float = 0.0) -> int:
        """Kill the process of a role that is not `after`; its id."""
        deadline = time.monotonic() + 60
        while (pid := self.served.children().get(role, after)) == after:
            assert time.monotonic() < deadline, f"{role} was not started again\n{self.served.said}"
            await asyncio.sleep(0.005)
        await asyncio.sleep(wait)
        os.kill(pid, signal.SIGKILL)
        self.done += 1
        self.kills[role] += 1
        self.starting[role] += after != 0
        task = asyncio.create_task(self._watch(role, time.monotonic()))
        self.watching.add(task)
        task.add_done_callback(self.watching.discard)
        return pid

    async def _watch(self, role: str, killed: float) -> None:
        """Note how long it took until all that was acknowledged by then was applied."""
        waiting: dict[int, tuple[int, int]] = {}
        shards = range(self.parts.settings.log_shards)
        while True:
            try:
                if not waiting:
                    waiting = {s: order(await last_entry(self.parts, s)) for s in shards}
                positions = [order(await self.parts.log.position(s)) for s in shards]
                if all(positions[s] >= waiting[s] for s in shards):
                    break
            except OffbeatError:
                pass  # the store is being started
            await asyncio.sleep(0.05)
        seconds = time.monotonic() - killed
        self.applied_after[role] = max(seconds, self.applied_after.get(role, 0))

    def may_go_on(self, part: float) -> bool:
        """Whether a sender that has sent this part of its samples is not ahead of the kills."""
        return self.done == self.plan.kills or part < (self.done + 2) / (self.plan.kills + 1)


@contextmanager
def _another_worker(served: Served) -> Iterator[None]:
    """A worker that nobody kills: it takes the shards of the others, and gives them back."""
    environment = {**ENVIRONMENT, "OFFBEAT_DATA_DIR": str(served.data_dir)}
    process = start_role("worker", environment, served.log)
    try:
        yield
    finally:
        assert end(process, signal.SIGKILL) == -signal.SIGKILL, served.said


async def run(folder: Path, plan: Plan) -> Report:
    """Send, kill, wait for the log to be applied, and compare."""
    book = Book()
    with serving(folder, **ENVIRONMENT) as served, _another_worker(served):
        settings = settings_of(served)
        senders = senders_of(served, plan.senders_each, settings.log_shards)
        share = plan.samples // len(senders)
        async with (
            wired(settings) as parts,
            httpx.AsyncClient(base_url=served.url, timeout=5, trust_env=False) as http,
        ):
            killer = _Killer(served, parts, book, plan, http)
            begun = time.monotonic()
            async with asyncio.TaskGroup() as group:
                group.create_task(killer.run())
                for n, sender in enumerate(senders):
                    seed = plan.seed * 1000 + n
                    group.create_task(send_all(served, sender, share, book, seed, killer.may_go_on))
            seconds = time.monotonic() - begun
            await drained(parts, 60)
            found = await difference(parts, senders, book)
        return Report(
            found,
            book,
            killer.kills,
            killer.starting,
            seconds,
            killer.applied_after,
            served.said,
            share * len(senders),
        )
