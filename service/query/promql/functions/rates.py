"""How fast something grows: rates of counters, differences of gauges, resets and changes."""

from collections.abc import Sequence
from typing import cast

import numpy as np

from service.domain.series import NAME, label_value
from service.query.promql.functions.registry import Asked, Value, function
from service.query.promql.vectors import Array, Flags, Places, without_names
from service.query.promql.windows import Windows

_COUNTERS = ("_total", "_sum", "_count", "_bucket")
#: From so many resets in a window on, they are added window by window.
_MANY = 32


@function("rate")
def _rate(asked: Asked, args: Sequence[Value]) -> Value:
    return _extrapolated(asked, cast(Windows, args[0]), counter=True, per_second=True)


@function("increase")
def _increase(asked: Asked, args: Sequence[Value]) -> Value:
    return _extrapolated(asked, cast(Windows, args[0]), counter=True, per_second=False)


@function("delta")
def _delta(asked: Asked, args: Sequence[Value]) -> Value:
    return _extrapolated(asked, cast(Windows, args[0]), counter=False, per_second=False)


def _extrapolated(asked: Asked, windows: Windows, *, counter: bool, per_second: bool) -> Value:
    """The growth within each window, extrapolated to its ends where samples come near them.

    Each step is rounded as Prometheus rounds it, so the order of operations matters.
    """
    there = windows.counts > 1
    if counter:
        _inform(asked, windows, np.flatnonzero(there.any(axis=1)))
    of = np.nonzero(there)
    first, last = windows.first[of], windows.last[of] - 1
    begin, end = windows.t[first], windows.t[last]
    grown = windows.v[last] - windows.v[first]
    if counter:
        _add_resets(windows.v, first, last, grown)
    ends = windows.ends_ms[of[1]]
    to_start, to_end = (begin - (ends - windows.range_ms)) / 1000, (ends - end) / 1000
    sampled = (end - begin) / 1000
    spacing = sampled / (last - first)
    near = spacing * 1.1
    to_start = np.where(to_start >= near, spacing / 2, to_start)
    if counter:
        # A counter was not below zero before.
        to_zero = sampled * (windows.v[first] / grown)
        sooner = (grown > 0) & (windows.v[first] >= 0) & (to_zero < to_start)
        to_start = np.where(sooner, to_zero, to_start)
    to_end = np.where(to_end >= near, spacing / 2, to_end)
    factor = (sampled + to_start + to_end) / sampled
    if per_second:
        factor /= windows.range_ms // 1000 + windows.range_ms % 1000 * 1_000_000 / 1e9
    values = np.zeros(there.shape)
    values[of] = grown * factor
    return without_names(windows.vector(values, there))


def _inform(asked: Asked, windows: Windows, answered: Places) -> None:
    """Say which of the series with an answer, by place, are perhaps no counters."""
    for i in answered.tolist():
        name = label_value(windows.labels[i], NAME)
        if name and not name.endswith(_COUNTERS):
            asked.notes.inform(
                "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: "
                f'"{name}"'
            )


def _add_resets(v: Array, first: Places, last: Places, grown: Array) -> None:
    """Add to the growth (k,) of windows what was counted before each reset within them."""
    drops = np.flatnonzero(v[1:] < v[:-1]) + 1
    if not len(drops):
        return
    begin = np.searchsorted(drops, first, side="right")
    end = np.searchsorted(drops, last, side="right")
    number = end - begin
    before = v[drops - 1]
    often = np.flatnonzero(number > _MANY)
    for i in often.tolist():
        terms = np.concatenate([grown[i : i + 1], before[begin[i] : end[i]]])
        grown[i] = np.add.accumulate(terms)[-1]
    rest = np.flatnonzero((number > 0) & (number <= _MANY))
    for j in range(int(number[rest].max(initial=0))):
        rest = rest[number[rest] > j]
        grown[rest] += before[begin[rest] + j]


@function("irate")
def _irate(asked: Asked, args: Sequence[Value]) -> Value:
    return _newest_two(cast(Windows, args[0]), counter=True)


@function("idelta")
def _idelta(asked: Asked, args: Sequence[Value]) -> Value:
    return _newest_two(cast(Windows, args[0]), counter=False)


def _newest_two(windows: Windows, *, counter: bool) -> Value:
    """By the newest two samples of each window; a counter's growth is per second."""
    there = windows.counts > 1
    last = windows.last[there] - 1
    now, before = windows.v[last], windows.v[last - 1]
    grown = now - before
    if counter:
        # After a reset the counter began at zero.
        grown = np.where(now < before, now, grown)
        grown = grown / ((windows.t[last] - windows.t[last - 1]) / 1000)
    values = np.zeros(there.shape)
    values[there] = grown
    return without_names(windows.vector(values, there))


@function("resets")
def _resets(asked: Asked, args: Sequence[Value]) -> Value:
    windows = cast(Windows, args[0])
    v = windows.v
    return _counted(windows, v[1:] < v[:-1])


@function("changes")
def _changes(asked: Asked, args: Sequence[Value]) -> Value:
    windows = cast(Windows, args[0])
    v = windows.v
    return _counted(windows, (v[1:] != v[:-1]) & ~(np.isnan(v[1:]) & np.isnan(v[:-1])))


def _counted(windows: Windows, events: Flags) -> Value:
    """How many events there are in each window, each between a sample and the next (all - 1,)."""
    counts = np.zeros(windows.first.shape)
    there = windows.counts > 0
    if there.any():
        until = np.concatenate([[0], np.cumsum(events)])
        counts[there] = until[windows.last[there] - 1] - until[windows.first[there]]
    return without_names(windows.vector(counts))
