"""Requests that name the series of one before, in its order, as senders do each interval.

Then the ids are those of before: one comparison of bytes stands for a look-up of each sample.
"""

from collections.abc import Hashable

from service.storage.columns import Ids

#: Bytes of requests that are remembered, of all tenants together.
_BYTES_MAX = 64 << 20
#: What tells requests apart before all of it is compared: their length, and so many bytes.
_HEAD, _TAIL = 64, 128

_Place = tuple[Hashable, int, int, bytes, bytes]


class Repeats:
    """Ids by what senders wrote of all series of a request; the least used are forgotten."""

    def __init__(self, bytes_max: int = _BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._kept: dict[_Place, tuple[bytes, Ids]] = {}

    def find(self, owner: Hashable, text: bytes, count: int) -> Ids | None:
        """The ids of `count` series, if `owner` had a request with this text."""
        place = _place(owner, text, count)
        found = self._kept.get(place)
        if found is None or found[0] != text:
            return None
        self._kept[place] = self._kept.pop(place)
        return found[1]

    def keep(self, owner: Hashable, text: bytes, ids: Ids) -> None:
        """Remember the ids of a request's series."""
        if len(text) > self._bytes_max:
            return
        place = _place(owner, text, len(ids))
        self._drop(place)
        self._bytes += len(text) + ids.nbytes
        self._kept[place] = text, ids
        while self._bytes > self._bytes_max:
            self._drop(next(iter(self._kept)))

    def _drop(self, place: _Place) -> None:
        gone = self._kept.pop(place, None)
        if gone is not None:
            self._bytes -= len(gone[0]) + gone[1].nbytes


def _place(owner: Hashable, text: bytes, count: int) -> _Place:
    return owner, count, len(text), text[:_HEAD], text[-_TAIL:]
