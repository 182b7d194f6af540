"""From which of its records on a chunk must be read to find all samples since some time.

Records stand in order of arrival, so nobody knows who has not seen all of a chunk. But one that is
not sealed only grows. Who has seen all of it once remembers from which record on times ascend, each
later than all before it: a read that begins there or later, at a record that is early enough,
misses nothing, whatever has come since.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.storage.columns import POINT, Ids, Times

#: Records of which fewer ascend are read all. If more do, sealing makes a block of them, which is
#: seen; fewer it may leave as records, in another order.
_FEW = 64
#: Records that come until a chunk of which much is known is worth another look.
_MUCH = 16
#: Records that are read although they seem too early, as times are seldom all equally far apart,
#: and the share of the others that is.
_SPARE, _SPARE_SHARE = 4, 1 / 8
#: The share of a chunk that must be saved: the store reads the end of one slower than all of it.
_WORTH_IT = 3 / 4
#: The eighth byte of a sealed block (`storage.sealed`).
_BLOCK = b"\x80"


class Order(NamedTuple):
    """What is known of chunks (n,): nothing where `length` is 0.

    All records before record `since` are earlier than it; those from there on, up to `length`
    records in all, ascend from `since_t` to `last_t` (milliseconds).
    """

    since: Ids
    since_t: Times
    length: Ids
    last_t: Times

    @classmethod
    def unknown(cls, chunks: int) -> "Order":
        """Nothing of so many."""
        return cls(*np.zeros((4, chunks), np.int64))

    def rows(self, which: Ids) -> "Order":
        """Of some of the chunks."""
        return Order(*(known[which] for known in self))

    def needless(self, start_ms: int) -> Ids:
        """How many records of each chunk (n,) are likely all earlier than `start_ms`."""
        newest = self.length - 1
        share = (start_ms - self.since_t) / np.maximum(self.last_t - self.since_t, 1)
        place = self.since + (np.clip(share, 0, 1) * (newest - self.since)).astype(np.int64)
        spare = _SPARE + ((newest - place) * _SPARE_SHARE).astype(np.int64)
        place = np.where(start_ms > self.last_t, newest, np.maximum(place - spare, self.since))
        known = (self.length - self.since > _FEW) & (self.since_t < start_ms)
        return np.where(known & (place >= self.length * _WORTH_IT), place, 0)

    def reached(self, tails: Sequence[bytes], first: Ids, start_ms: int) -> NDArray[np.bool_]:
        """Whether tails (n,), read from record `first` on, hold all samples since `start_ms`.

        `first` is that of `needless`, and not 0. Not if a chunk is no longer what it was.
        """
        size = POINT.itemsize
        lengths = np.fromiter(map(len, tails), np.int64, len(tails))
        there: NDArray[np.bool_] = (lengths // size >= self.length - first) & (lengths % size == 0)
        t = _times([tail for tail, whole in zip(tails, there.tolist(), strict=True) if whole])
        begins = (np.cumsum(lengths[there]) - lengths[there]) // size
        newest = begins + (self.length - 1 - first)[there]
        there[there] = (t[begins] <= start_ms) & (t[newest] == self.last_t[there])
        return there

    def after(
        self, values: Sequence[bytes | None], first: Ids, start_ms: int, bucket_ms: int
    ) -> "Order":
        """What is known (n,) once `values` were read, from record `first` on: 0 for whole chunks.

        Tails are those that `reached` says yes to for `start_ms`, which lies in the chunks' bucket.
        """
        found = Order(*(known.copy() for known in self))
        lengths = np.fromiter((len(value or b"") for value in values), np.int64, len(values))
        grown = first + lengths // POINT.itemsize - self.length
        # One that was read as a whole again is known already, but where too little was.
        new = np.where(first > 0, grown > _MUCH, (self.length - self.since <= _FEW) & (lengths > 0))
        which = [i for i in np.flatnonzero(new).tolist() if is_plain(values[i] or b"")]
        t = _times([values[i] or b"" for i in which])
        early = start_ms // bucket_ms * bucket_ms
        if not len(t) or int(t.min()) < early or int(t.max()) >= early + bucket_ms:
            return found
        before, skipped = self.rows(np.array(which)), first[which]
        counts = lengths[which] // POINT.itemsize
        begins = np.cumsum(counts) - counts
        # One chunk's times after another's, so that the latest so far is always of its own chunk.
        shifted = t - early + np.repeat(np.arange(len(counts)) * bucket_ms, counts)
        late = np.flatnonzero(shifted[1:] <= np.maximum.accumulate(shifted)[:-1]) + 1
        ascending = begins.copy()
        np.maximum.at(ascending, np.searchsorted(begins, late, side="right") - 1, late + 1)
        still = (ascending == begins) & (skipped > 0)
        since_t = t[np.minimum(ascending, len(t) - 1)]
        learned = Order(
            np.where(still, before.since, skipped + ascending - begins),
            np.where(still, before.since_t, since_t),
            skipped + counts,
            t[begins + counts - 1],
        )
        # Behind a late record little is known. What was known before is as true as it was, and of
        # more use until what follows is as long as what is asked for.
        useful = (ascending < begins + counts) & (still | (skipped == 0) | (since_t < start_ms))
        places = np.array(which)[useful]
        for known, each in zip(found, learned, strict=True):
            known[places] = each[useful]
        return found


def is_plain(value: bytes) -> bool:
    """Whether a chunk's value holds records only, all of them whole."""
    return value[7:8] != _BLOCK and len(value) % POINT.itemsize == 0


def _times(values: Sequence[bytes]) -> Times:
    return np.frombuffer(b"".join(values), POINT)["t"]
