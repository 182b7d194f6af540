"""A real Redis Cluster of masters without replicas, from the binary that the program embeds."""

import contextlib
import signal
import socket
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from redis import Redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import ConnectionError as RedisConnectionError

from service.storage.embedded import die_with_parent, find_server
from tests.support.roles import wait_until

#: A node's bus listens on its port plus this; the program's default would leave the port range.
_BUS = 1


class Node:
    """One server of the cluster."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port, self._frozen = folder, port, False
        folder.mkdir(parents=True, exist_ok=True)
        self.process = self._start()
        self.client = Redis(port=port, socket_timeout=5, protocol=2)
        #: Its name in the cluster.
        self.id = str(self.ask("CLUSTER", "MYID").decode())

    def _start(self) -> "subprocess.Popen[bytes]":
        options = {
            "port": self.port,
            "cluster-port": self.port + _BUS,
            "bind": "127.0.0.1",
            "dir": self.folder,
            "cluster-enabled": "yes",
            "cluster-node-timeout": 1000,
            # The shards of the nodes that are left stay in service.
            "cluster-require-full-coverage": "no",
            "appendonly": "no",
            "save": "",
        }
        return subprocess.Popen(
            [find_server(), *(str(p) for k, v in options.items() for p in (f"--{k}", v))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )

    def ask(self, *command: Any) -> Any:
        """What the node answers to a command, once it is up."""
        answers = []

        def answered() -> bool:
            with contextlib.suppress(OSError, RedisConnectionError):
                answers.append(self.client.execute_command(*command))
            return bool(answers)

        wait_until(answered, 10, f"no answer from {self.folder}")
        return answers[0]

    @property
    def lives(self) -> bool:
        """Whether it would answer."""
        return self.process.poll() is None and not self._frozen

    def freeze(self) -> None:
        """Let it hold its connections and say nothing, like a machine behind a cut wire."""
        self.process.send_signal(signal.SIGSTOP)
        self._frozen = True

    def thaw(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)
        self._frozen = False

    def kill(self) -> None:
        """End it like a machine that burns."""
        self.process.kill()
        self.process.wait()

    def start_again(self) -> None:
        """The same server with its slots; without its data, which is kept in memory only."""
        self.process = self._start()

    def close(self) -> None:
        """End it and drop our connection."""
        self.client.close()
        self.kill()


class Cluster:
    """Three masters, or as many as asked for, that share the slots equally."""

    def __init__(self, folder: Path, size: int = 3) -> None:
        self._home: dict[int, Node] = {}
        self.nodes = [Node(folder / str(i), port) for i, port in enumerate(_ports(size))]
        step = REDIS_CLUSTER_HASH_SLOTS // size
        for i, node in enumerate(self.nodes):
            end = REDIS_CLUSTER_HASH_SLOTS if i == size - 1 else (i + 1) * step
            node.ask("CLUSTER", "ADDSLOTSRANGE", i * step, end - 1)
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
        first = self.nodes[0]
        for node in self.nodes[1:]:
            node.ask("CLUSTER", "MEET", "127.0.0.1", first.port, first.port + _BUS)
        self.wait()

    @property
    def url(self) -> str:
        """One node."""
        return f"redis://127.0.0.1:{self.nodes[0].port}"

    def wait(self) -> None:
        """Until every node sees every slot served, and where."""
        whole = {"cluster_state": "ok", "cluster_slots_ok": str(REDIS_CLUSTER_HASH_SLOTS)}

        def sees_all(node: Node) -> bool:
            state = node.ask("CLUSTER INFO")
            seen = {master[1] for _, _, master, *_ in node.ask("CLUSTER", "SLOTS")}
            return state.items() >= whole.items() and seen == {n.port for n in self.nodes}

        for node in self.nodes:
            wait_until(partial(sees_all, node), 20, f"{node.folder} does not see every slot")

    def owner(self, key: str) -> Node:
        """The node of a key's slot, as a living node has it."""
        return self._owner_of(key_slot(key.encode()))

    def _owner_of(self, slot: int) -> Node:
        asked = next(n for n in self.nodes if n.lives)
        for first, last, master, *_ in asked.ask("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(n for n in self.nodes if n.port == master[1])
        raise AssertionError(f"nobody owns {slot}")

    def move(self, key: str, between: Callable[[], object] = lambda: None) -> None:
        """Give a key's slot, with all that is in it, to another node; `between` each of its keys.

        As `redis-cli --cluster reshard` does it.
        """
        slot, source = key_slot(key.encode()), self.owner(key)
        others = [n for n in self.nodes if n is not source]
        self._home.setdefault(slot, source)
        self._migrate(slot, source, others[0], between)

    def take_over(self, key: str) -> None:
        """Let another node serve the slot of a key, empty, as after a failover from a dead one."""
        slot, dead = key_slot(key.encode()), self.owner(key)
        living = [n for n in self.nodes if n is not dead]
        self._home.setdefault(slot, dead)
        target = living[0]
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", dead.id)
        for node in living:
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", target.id)

    def restore(self) -> None:
        """Give back every slot that was moved."""
        while self._home:
            slot, home = self._home.popitem()
            source = self._owner_of(slot)
            if source is not home:
                self._migrate(slot, source, home, lambda: None)

    def _migrate(
        self, slot: int, source: Node, target: Node, between: Callable[[], object]
    ) -> None:
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
        between()
        while names := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 1):
            source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *names)
            between()
        rest = [n for n in self.nodes if n not in (source, target)]
        for node in (target, source, *rest):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", target.id)

    def close(self) -> None:
        """End every node."""
        for node in self.nodes:
            node.close()


def _ports(count: int) -> list[int]:
    """Ports that are free, each with the next one for the bus."""
    found: list[int] = []
    with contextlib.ExitStack() as held:
        while len(found) < count:
            one, bus = (held.enter_context(socket.socket()) for _ in range(2))
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            try:
                bus.bind(("127.0.0.1", port + _BUS))
            except (OSError, OverflowError):
                continue
            found.append(port)
    return found
