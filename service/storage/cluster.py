"""A Redis Cluster behind the client of one Redis: each command goes to the node of its key.

redis-py's own cluster client tries commands again that may have been done, sends ASKING and the
command it is for on two connections, and drops the connections to every node when one fails. This
one does the little that we need: it follows redirections, which say that nothing was done, learns
the layout anew after a failure, and leaves the decision about a second try to who calls.
"""

import asyncio
import hashlib
import itertools
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, NoReturn, Protocol

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ClusterError,
    MovedError,
    NoScriptError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

Address = tuple[str, int]

#: How long a command follows redirections, and waits for keys that are on their way to a node.
_PATIENCE_SECONDS = 1.0
_PAUSE_SECONDS = 0.02
#: A node is looked at if a command is given up after so long; longer than any blocks.
_SILENT_SECONDS = 0.5
#: What a node has for saying that it is well.
_PING_SECONDS = 0.5

#: Commands without a key: any node does, or every node, with what becomes of their answers.
_ANYWHERE = frozenset({"PUBLISH", "TIME"})
_EVERYWHERE: dict[str, Callable[[list[Any]], Any]] = {
    "DBSIZE": sum,
    "FLUSHALL": all,
    "KEYS": lambda answers: list(itertools.chain.from_iterable(answers)),
}


class _Node(Protocol):
    """What is used of a node's client, with types."""

    def execute_command(self, *args: Any, **options: Any) -> Awaitable[Any]: ...


class ClusterRedis(Redis):
    """The nodes of one cluster. Nothing is sent before the first command.

    It has no pipelines and no transactions: what must happen together is a script. `seeds` are
    addresses of some nodes, `make` gives the client of a node.
    """

    def __init__(self, seeds: Sequence[Address], make: Callable[[str, int], Redis]) -> None:
        self._make = make
        self._seeds = {address: make(*address) for address in seeds}
        self._clients = dict(self._seeds)
        self._masters: list[Redis] = []
        self._owners: list[Redis | None] = []
        self._failed: set[Redis] = set()
        self._scripts: dict[str, str | bytes] = {}
        self._learning: asyncio.Task[None] | None = None
        self._turn = random.randrange(1 << 16)  # noqa: S311 - spreads listeners over the nodes
        super().__init__(connection_pool=next(iter(self._seeds.values())).connection_pool)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close the connections to every node."""
        if self._learning is not None:
            self._learning.cancel()
        for client in {*self._clients.values(), *self._masters}:
            await client.aclose(close_connection_pool)

    def seeds(self) -> list[Redis]:
        """A client for each address that was configured."""
        return list(self._seeds.values())

    async def nodes(self) -> list[Redis]:
        """A client for each node that owns slots."""
        await self._layout()
        return list(self._masters)

    def pubsub(self, **options: Any) -> PubSub:
        """Listen at one node, each time at another; what is published reaches every node."""
        self._turn += 1
        nodes = self._masters or list(self._seeds.values())
        well = [node for node in nodes if node not in self._failed] or nodes
        return well[self._turn % len(well)].pubsub(**options)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> NoReturn:
        """Not in a cluster."""
        raise TypeError("a cluster client has no pipelines; write a script")

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command where it belongs.

        Raises what redis-py raises for one Redis, and `ClusterError` if redirections do not end.
        """
        command = args[0]
        await self._layout()
        if command == "PING":
            return await self._ping()
        if command == "SCRIPT LOAD":  # each node is sent the text when it asks for it
            digest = hashlib.sha1(_bytes(args[1]), usedforsecurity=False).hexdigest()
            self._scripts[digest] = args[1]
            return digest
        if command in _EVERYWHERE:
            sent = [_send(node, args, options) for node in self._masters]
            return _EVERYWHERE[command](await asyncio.gather(*sent))
        if command in _ANYWHERE:
            return await _send(self._by_health(self._masters)[0], args, options)
        return await self._follow(key_slot(_key(args)), args, options)

    async def _follow(self, slot: int, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        loop = asyncio.get_running_loop()
        until = loop.time() + _PATIENCE_SECONDS
        node, asking = self._owner(slot), False
        while True:
            sent = loop.time()
            try:
                answer = await (_send_asking if asking else _send)(node, args, options)
            except NoScriptError:
                text = self._scripts.get(args[1])
                if args[0] != "EVALSHA" or text is None:
                    raise
                args = ("EVAL", text, *args[2:])
                continue
            except MovedError as moved:
                node, asking = self._client(node, moved), False
                self._owners[slot] = node
                self._learn_again()
            except AskError as ask:
                node, asking = self._client(node, ask), True
                continue
            except TryAgainError:  # some of the keys are at the one node, some at the other
                node, asking = self._owner(slot), False
                await asyncio.sleep(_PAUSE_SECONDS)
            except ClusterDownError:
                self._learn_again()
                raise
            except (RedisConnectionError, RedisTimeoutError, OSError):
                self._failed.add(node)
                self._learn_again()
                raise
            except asyncio.CancelledError:
                if loop.time() - sent > _SILENT_SECONDS:  # who calls waits no longer than that
                    self._failed.add(node)
                    self._learn_again()
                raise
            else:
                self._failed.discard(node)
                return answer
            if loop.time() > until:
                raise ClusterError(f"slot {slot} is on its way from node to node")

    async def _ping(self) -> bool:
        """Whether a node says that the cluster works, as far as it can tell."""
        reason: Exception = ClusterDownError("no node owns a slot")
        for node in self._by_health(self._masters):
            try:
                async with asyncio.timeout(_PING_SECONDS):
                    state: dict[str, str] = await _send(node, ("CLUSTER INFO",), {})
            except (RedisError, OSError) as error:
                self._failed.add(node)
                reason = error
                continue
            self._failed.discard(node)
            if state["cluster_state"] == "ok":
                return True
            reason = ClusterDownError("the cluster is down")
        self._learn_again()
        raise reason

    # who owns which slot

    def _owner(self, slot: int) -> Redis:
        owner = self._owners[slot]
        if owner is None:
            self._learn_again()
            raise ClusterDownError(f"no node owns slot {slot}")
        return owner

    def _client(self, asked: Redis, redirection: AskError) -> Redis:
        # Without a host it is another port of the node that answered.
        host = redirection.host or asked.connection_pool.connection_kwargs["host"]
        return self._client_at(host, redirection.port)

    def _client_at(self, host: str, port: int) -> Redis:
        if (host, port) not in self._clients:
            self._clients[host, port] = self._make(host, port)
        return self._clients[host, port]

    async def _layout(self) -> None:
        if not self._owners:
            await asyncio.shield(self._learn_again())

    def _learn_again(self) -> "asyncio.Task[None]":
        """Ask for the layout; not twice at a time."""
        if self._learning is None or self._learning.done():
            self._learning = asyncio.create_task(self._learn())
            self._learning.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._learning

    async def _learn(self) -> None:
        reason: Exception = ClusterDownError("no node owns a slot")
        known = {*self._masters, *self._seeds.values()}
        for node in self._by_health(list(known)):
            try:
                slots = await _send(node, ("CLUSTER SLOTS",), {})
            except (RedisError, OSError) as error:
                self._failed.add(node)
                reason = error
                continue
            if slots:
                self._failed.discard(node)
                await self._take(node, slots)
                return
        raise reason

    async def _take(self, asked: Redis, slots: Sequence[Sequence[Any]]) -> None:
        owners: list[Redis | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        masters: dict[Address, Redis] = {}
        for first, last, master, *_ in slots:
            host = (master[0] or b"").decode()
            if host in ("", "?"):  # it does not know under which name it is reached
                host = asked.connection_pool.connection_kwargs["host"]
            client = masters[host, master[1]] = self._client_at(host, master[1])
            owners[first : last + 1] = [client] * (last + 1 - first)
        self._owners, self._masters = owners, list(masters.values())
        left = self._clients.keys() - masters.keys() - self._seeds.keys()
        for client in [self._clients.pop(address) for address in left]:
            self._failed.discard(client)
            await client.connection_pool.disconnect(inuse_connections=False)

    def _by_health(self, nodes: list[Redis]) -> list[Redis]:
        """In any order, those that failed last."""
        shuffled = random.sample(nodes, len(nodes))
        return sorted(shuffled, key=lambda node: node in self._failed)


def _send(node: _Node, args: tuple[Any, ...], options: dict[str, Any]) -> Coroutine[Any, Any, Any]:
    async def send() -> Any:
        return await node.execute_command(*args, **options)

    return send()


async def _send_asking(node: Redis, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """ASKING holds for the next command of the same connection."""
    pipe = node.pipeline(transaction=False)
    together: _Node = pipe
    for command in (("ASKING",), args):
        together.execute_command(*command, **(options if command is args else {}))
    _, answer = await pipe.execute(raise_on_error=False)
    if isinstance(answer, Exception):
        raise answer
    return answer


def _key(args: tuple[Any, ...]) -> bytes:
    """The first key of a command. That all of them are in one slot is the server's to check."""
    command = str(args[0])
    at = 1
    if command.startswith(("EVAL", "FCALL")):
        at = 3 if int(args[2]) else len(args)
    elif command in ("XREAD", "XREADGROUP"):
        at = 1 + _place(args, b"STREAMS")
    elif command == "SCAN":  # of one shard: its pattern begins with the shard's hash tag
        at = 1 + _place(args, b"MATCH")
        if at < len(args) and not _bytes(args[at]).startswith(b"{"):
            at = len(args)
    if at >= len(args):
        raise ResponseError(f"{command} names no key, so a cluster cannot tell whom to ask")
    return _bytes(args[at])


def _place(args: tuple[Any, ...], word: bytes) -> int:
    """Where a keyword stands; past the end if nowhere."""
    found = (i for i, part in enumerate(args) if _bytes(part).upper() == word)
    return next(found, len(args))


def _bytes(part: Any) -> bytes:
    return part if isinstance(part, bytes) else str(part).encode()
