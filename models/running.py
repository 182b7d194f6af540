"""What is learned as rows pass: sizes of errors, and a memory of the newest rows."""

from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.base import Array, ArrayMap, Arrays, Integers, floats
from models.robust import mean, median

#: One value counts at most so many times the mean: a freak must not decide what is usual.
MOST = 5.0
#: Rows from which on a mean is so settled that it needs help to follow: a change of units, say.
SETTLED = 300
#: After so many rows most of which are larger than the limit, they are no freaks. One freak value
#: is in means over 60 rows and makes as many errors.
FOLLOWED = 150
#: Bins of a day, and how many rows' weight the overall size has in each.
BINS, PRIOR_ROWS = 24, 10.0
#: What a day keeps of the weight of the days before it.
DAILY_MEMORY = 0.8


class Size:
    """Running mean of sizes ≥ 0 that forgets with a half-life in rows."""

    def __init__(self, half_life: float) -> None:
        self.half_life, self.mean, self.rows = half_life, 0.0, 0
        self._over = 0

    def learn(self, sizes: Array) -> Array:
        """Take sizes (n,) in; as what they count, freaks cut down."""
        n = len(sizes)
        if not n:
            return sizes
        if self.rows >= 10 and self.mean > 0:
            sizes = self._cut(sizes, MOST * self.mean)
        self.rows += n
        rate = max(1.0 - 0.5 ** (n / self.half_life), n / self.rows)
        self.mean += (mean(sizes) - self.mean) * rate
        return sizes

    def _cut(self, sizes: Array, limit: float) -> Array:
        """Sizes (n,) of at most `limit`; of more if most have been larger for a while."""
        larger = np.count_nonzero(sizes > limit)
        if not larger:
            self._over = 0
            return sizes
        # the median is looked for only where it may lie beyond the limit
        if self.rows < SETTLED or 2 * larger < len(sizes) or (middle := median(sizes)) <= limit:
            self._over = 0
        else:
            self._over += len(sizes)
            limit = MOST * middle if self._over >= FOLLOWED else limit
        return np.minimum(sizes, limit)


class SizeOfDay:
    """How large errors usually are at each time of the day: half the hour's own, half overall."""

    def __init__(self, day: int) -> None:
        self.day = day
        self.overall = Size(max(5000.0, 3.0 * day))
        self.bins = min(BINS, day)
        self._around = np.arange(self.bins) - 1, (np.arange(self.bins) + 1) % self.bins
        self._sum, self._rows = np.zeros(self.bins), np.zeros(self.bins)
        self.sizes_ = np.zeros(self.bins)

    def at(self, index: Integers) -> Array:
        """Usual size at grid indices (n,)."""
        return self.of(self.times(index))

    def of(self, time: Integers) -> Array:
        """Usual size at times of the day (n,), as `times` numbers them."""
        return np.asarray(self.sizes_.take(time))

    def learn(self, sizes: Array, index: Integers) -> None:
        """Take sizes (n,) at grid indices (n,) in."""
        self.learn_of(sizes, self.times(index))

    def learn_of(self, sizes: Array, time: Integers) -> None:
        """Take sizes (n,) at times of the day (n,) in."""
        if not len(sizes):
            return
        cut = self.overall.learn(sizes)
        kept = DAILY_MEMORY ** (len(sizes) / self.day)
        self._sum = kept * self._sum + np.bincount(time, cut, self.bins)
        self._rows = kept * self._rows + np.bincount(time, minlength=self.bins)
        usual = self.overall.mean
        own = (self._sum + PRIOR_ROWS * usual) / (self._rows + PRIOR_ROWS)
        if self.bins > 2:
            before, after = self._around
            own = 0.5 * own + 0.25 * (own[before] + own[after])
        self.sizes_ = np.maximum(0.5 * (own + usual), 0.3 * usual)

    def times(self, index: Integers) -> Integers:
        """The time of the day of each grid index (n,), as the number of a bin."""
        return np.asarray(index % self.day * self.bins // self.day, np.int64)

    def to_arrays(self) -> Arrays:
        """The size of each bin."""
        return {"sizes": self.sizes_, "day": np.array(self.day)}

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """Back from `to_arrays`, to be asked, not to go on learning."""
        scale = cls(int(np.asarray(arrays["day"], np.int64)))
        scale.sizes_ = floats(arrays, "sizes")
        return scale


class Newest:
    """The newest `size` rows of `width` columns."""

    def __init__(self, size: int, width: int = 1) -> None:
        self._size = size
        self._rows = np.empty((2 * size, width))
        self._stop = 0

    @property
    def rows(self) -> Array:
        """(n, width), the oldest first; a view, valid until the next `add`."""
        return self._rows[max(0, self._stop - self._size) : self._stop]

    @property
    def values(self) -> Array:
        """(n,) of the first column."""
        return self.rows[:, 0]

    def add(self, rows: NDArray[np.float64]) -> None:
        """Take rows (n, width), or values (n,), in."""
        new = rows.reshape(len(rows), self._rows.shape[1])[-self._size :]
        if self._stop + len(new) > len(self._rows):
            kept = self.rows.copy()
            self._rows[: len(kept)] = kept
            self._stop = len(kept)
        self._rows[self._stop : self._stop + len(new)] = new
        self._stop += len(new)
