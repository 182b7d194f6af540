"""What every decoder makes of a request: columns, and keys of series that are parsed once."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from service.domain.series import Series
from service.storage.columns import Times, Values

#: Stands in `Decoded.t_ms` for "now".
NO_TIME = int(np.iinfo(np.int64).min)


@dataclass(frozen=True, slots=True)
class Decoded:
    """The samples of a request that could be read, in their order; all sequences have length n.

    `index` is the item's place in the request, for answers. `keys` are what the sender wrote of a
    series, raw: the intake asks `series(row)` for its series, or what is wrong with it, only where
    it has not met the key. `protocol` keeps keys of different decoders apart.
    """

    protocol: str
    index: Sequence[int]
    keys: Sequence[Hashable]
    t_ms: Times
    values: Values
    series: Callable[[int], Series | str]
    name: Callable[[int], str]
