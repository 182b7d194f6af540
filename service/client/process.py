"""What happens to clients when their process forks or ends."""

import atexit
import os
import weakref
from typing import Protocol


class Lively(Protocol):
    """A client that is told of both."""

    def _forked(self) -> None: ...

    def _at_exit(self) -> None: ...


_clients: "weakref.WeakSet[Lively]" = weakref.WeakSet()
_registered = False


def watch(client: Lively) -> None:
    """Tell `client` of forks and of the interpreter's end, for as long as it lives."""
    global _registered
    if not _registered:
        _registered = True
        atexit.register(_at_exit)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_forked)
    _clients.add(client)


def _forked() -> None:
    for client in list(_clients):
        client._forked()


def _at_exit() -> None:
    for client in list(_clients):
        client._at_exit()
