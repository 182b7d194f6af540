"""What was made of texts that come again, within bounds of memory."""

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class Memo(Generic[T]):
    """Remembers what texts gave, the newest ones, of `characters` together; for many threads."""

    def __init__(self, characters: int) -> None:
        self._most = characters
        self._lock = Lock()
        self._known: OrderedDict[str, T] = OrderedDict()
        self._length = 0

    @property
    def length(self) -> int:
        """Characters of all the texts that are remembered."""
        return self._length

    def of(self, text: str, make: Callable[[str], T]) -> T:
        """What `make` gave for the text, or gives now; what it raises is not remembered."""
        with self._lock:
            if text in self._known:
                self._known.move_to_end(text)
                return self._known[text]
        made = make(text)
        with self._lock:
            if text not in self._known:
                self._length += len(text)
            self._known[text] = made
            while self._length > self._most:
                oldest, _ = self._known.popitem(last=False)
                self._length -= len(oldest)
        return made
