"""The samples of range selectors: a window of each series at each step."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.domain.series import LabelPairs
from service.query.promql.budget import Budget
from service.query.promql.vectors import Array, Flags, Places, Samples, Vector, is_stale
from service.storage.columns import Times

#: Numbers that are laid out at once: so few that they stay in the processor's cache.
ROW_CELLS = 200_000


@dataclass(frozen=True, slots=True)
class Rows:
    """Windows as rows, similarly long ones together.

    `which` (k,) are their places in the flattened order of all windows, `first` (k,) where their
    samples begin and `counts` (k,) how many they are, `longest` at most.
    """

    windows: "Windows"
    which: Places
    first: Places
    counts: Places
    longest: int

    @property
    def steps(self) -> Places:
        """The number of the step of each row (k,)."""
        steps: Places = self.which % self.windows.first.shape[1]
        return steps

    @property
    def there(self) -> Flags:
        """Which cells hold a sample (k, longest)."""
        flags: Flags = np.arange(self.longest) < self.counts[:, None]
        return flags

    def values(self, fill: float = 0.0) -> Array:
        """The values (k, longest), `fill` behind the last of each row; in an array of their own."""
        found: Array = self._laid(self.windows.padded_values())
        if self.counts.min() < self.longest:
            found[~self.there] = fill
        return found

    def times(self) -> Times:
        """The times (k, longest), of no meaning behind the last of each row."""
        found: Times = self._laid(self.windows.padded_times())
        return found

    def _laid(self, samples: NDArray[Any]) -> NDArray[Any]:
        return np.lib.stride_tricks.sliding_window_view(samples, self.longest)[self.first]


@dataclass(slots=True)
class Windows:
    """Range vectors at every step. A window holds `end - range < t <= end` of a series.

    `t` (all,) and `v` (all,) are the samples of all series one after the other, without stale
    markers; those of series i at step k are `first[i, k]` to `last[i, k]`, which is not among them.
    `ends_ms` (steps,) is where the windows end, offsets counted; `steps_ms` (steps,) are the times
    of evaluation.
    """

    labels: list[LabelPairs]
    t: Times
    v: Array
    first: Places
    last: Places
    range_ms: int
    ends_ms: Times
    steps_ms: Times
    _counts: Places | None = field(default=None, repr=False)
    _padded: dict[str, NDArray[Any]] = field(default_factory=dict, repr=False)

    @property
    def counts(self) -> Places:
        """Samples in each window (n, steps)."""
        if self._counts is None:
            self._counts = self.last - self.first
        return self._counts

    def vector(self, values: Array, present: Flags | None = None) -> Vector:
        """A value (n, steps) for each window; of those that hold no sample, none by default."""
        return Vector(self.labels, values, self.counts > 0 if present is None else present)

    @property
    def still(self) -> bool:
        """Whether the windows are the same at all steps, of which there are several."""
        return len(self.ends_ms) > 1 and bool(self.ends_ms[0] == self.ends_ms[-1])

    def at_step(self, step: int) -> "Windows":
        """The windows of one step."""
        one = slice(step, step + 1)
        return Windows(
            self.labels,
            self.t,
            self.v,
            self.first[:, one],
            self.last[:, one],
            self.range_ms,
            self.ends_ms[one],
            self.steps_ms[one],
        )

    def each(
        self,
        budget: Budget,
        compute: Callable[[Rows], Array],
        least: int = 1,
        cells: int = ROW_CELLS,
    ) -> Array:
        """What `compute` (k,) says of rows, for all windows (n, steps); 0 for those left out.

        Left out are windows with fewer samples. `compute` may not depend on the step.
        """
        if self.still:
            return np.broadcast_to(
                self.at_step(0).each(budget, compute, least, cells), self.first.shape
            )
        found = np.zeros(self.first.size)
        for rows in self.rows(budget, least, cells):
            found[rows.which] = compute(rows)
        return found.reshape(self.first.shape)

    def rows(self, budget: Budget, least: int = 1, cells: int = ROW_CELLS) -> Iterator[Rows]:
        """All windows with at least so many samples, about so many cells at once.

        `QueryTimeout` between two of them if the time is over.
        """
        counts = self.counts.ravel()
        which = np.flatnonzero(counts >= max(least, 1))
        if not len(which):
            return
        number = counts[which]
        if number.max() > 2 * number.mean():
            order = np.argsort(number, kind="stable")
            which, number = which[order], number[order]
        first = self.first.ravel()[which]
        ahead = int(2 * cells / number.mean()) + 1
        begin = 0
        while begin < len(which):
            longest = np.maximum.accumulate(number[begin : begin + ahead])
            fits = longest * np.arange(1, len(longest) + 1) <= cells
            many = max(1, int(np.count_nonzero(fits)))
            part = slice(begin, begin + many)
            budget.check()
            yield Rows(self, which[part], first[part], number[part], int(longest[many - 1]))
            begin += many

    def padded_values(self) -> Array:
        """The values with as many behind them as the longest window has."""
        found: Array = self._with_pad("v", self.v)
        return found

    def padded_times(self) -> Times:
        """The times with as many behind them as the longest window has."""
        found: Times = self._with_pad("t", self.t)
        return found

    def _with_pad(self, name: str, samples: NDArray[Any]) -> NDArray[Any]:
        if name not in self._padded:
            longest = int(self.counts.max(initial=0))
            self._padded[name] = np.concatenate([samples, np.zeros(longest, samples.dtype)])
        return self._padded[name]


def windows(samples: Samples, ends_ms: Times, range_ms: int, steps_ms: Times) -> Windows:
    """The windows of samples that end at `ends_ms` (steps,), which are equally far apart.

    Of a single step all samples are taken to be those of its window.
    """
    labels, bounds, t, v = samples
    if (stale := is_stale(v)).any():
        keep = ~stale
        bounds = np.concatenate([[0], np.cumsum(keep)])[bounds]
        t, v = t[keep], v[keep]
    if len(ends_ms) == 1:  # as rules ask, by the thousand
        first, last = bounds[:-1, None], bounds[1:, None]
        return Windows(labels, t, v, first, last, range_ms, ends_ms, steps_ms)
    last = upto(bounds, t, ends_ms)
    first = upto(bounds, t, ends_ms - range_ms)
    return Windows(labels, t, v, first, last, range_ms, ends_ms, steps_ms)


def upto(bounds: Places, t: Times, ends_ms: Times) -> Places:
    """Where the samples of each series end that are not later than each step (n, steps).

    `bounds` (n + 1,) and `t` (all,) as in `Samples`; `ends_ms` (steps,) are equally far apart, or
    all the same.
    """
    n, steps = len(bounds) - 1, len(ends_ms)
    begin = int(ends_ms[0])
    step = int(ends_ms[1]) - begin if steps > 1 else 0
    lengths = np.diff(bounds)
    if step <= 0:  # one time for all steps
        early = np.concatenate([[0], np.cumsum(t <= begin)])
        place = bounds[:-1] + early[bounds[1:]] - early[bounds[:-1]]
        return np.repeat(place[:, None], steps, axis=1)
    # The step from which on a sample counts; then so many are counted up to each step.
    of = np.clip(-((begin - t) // step), 0, steps)
    row = np.repeat(np.arange(n), lengths)
    number = np.bincount(row * (steps + 1) + of, minlength=n * (steps + 1))
    counted = np.cumsum(number.reshape(n, steps + 1)[:, :steps], axis=1)
    return np.asarray(bounds[:-1, None] + counted, np.int64)
