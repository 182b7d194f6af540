"""What every decoder makes of a request: columns, and keys of series that are parsed once."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.domain.series import Series
from service.storage.columns import Times, Values

#: Stands in `Decoded.t_ms` for "now".
NO_TIME = int(np.iinfo(np.int64).min)


class MadeLate(Sequence[Hashable]):
    """`count` keys that are made when somebody looks at one of them."""

    __slots__ = ("_count", "_keys", "_make")

    def __init__(self, count: int, make: Callable[[], Sequence[Hashable]]) -> None:
        self._count, self._make = count, make
        self._keys: Sequence[Hashable] | None = None

    def _made(self) -> Sequence[Hashable]:
        if self._keys is None:
            self._keys = self._make()
        return self._keys

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, row: Any) -> Any:
        return self._made()[row]

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._made())


@dataclass(frozen=True, slots=True)
class Decoded:
    """The samples of a request that could be read, in their order; all sequences have length n.

    `index` is the item's place in the request, for answers. `keys` are what the sender wrote of a
    series, raw: the intake asks `series(row)` for its series, or what is wrong with it, only where
    it has not met the key. `protocol` keeps keys of different decoders apart. Where there is a
    `text`, requests of a protocol with the same text and the same n have the same keys.
    """

    protocol: str
    index: Sequence[int]
    keys: Sequence[Hashable]
    t_ms: Times
    values: Values
    series: Callable[[int], Series | str]
    name: Callable[[int], str]
    text: bytes | None = None
