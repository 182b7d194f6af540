"""`info(v, {…})`: series with the labels of info metrics, such as `target_info`, that tell of them.

An info series belongs to the series of the same instance and job.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np

from service.domain.errors import Unprocessable
from service.domain.series import NAME, LabelPairs, Matcher, MatchType, Selector
from service.query.matchers import accepts
from service.query.promql.expressions import Call, Labels, Select
from service.query.promql.functions.registry import Asked, Reach, Value, function
from service.query.promql.vectors import Places, Vector, merged, written
from service.storage.columns import Times

_IDENTIFYING = ("instance", "job")
_DEFAULT = Matcher(NAME, MatchType.EQUAL, "target_info")
#: Where names are only excluded, all others that end so are meant.
_ANY_INFO = Matcher(NAME, MatchType.REGEX, ".+_info")

#: An info metric and what identifies its series.
Key = tuple[str, LabelPairs]


@dataclass(frozen=True)
class Wanted:
    """Which info metrics are looked at, by `metrics`, and which of their labels."""

    metrics: tuple[Matcher, ...]
    labels: Mapping[str, Sequence[Matcher]]

    @classmethod
    def of(cls, call: Call) -> "Wanted":
        """What a call names; all labels of `target_info` if it names nothing."""
        if len(call.args) == 1:
            return cls((_DEFAULT,), {})
        chosen = cast(Labels, call.args[1]).matchers
        labels: dict[str, list[Matcher]] = {}
        for matcher in chosen:
            if matcher.name != NAME:
                labels.setdefault(matcher.name, []).append(matcher)
        metrics = tuple(m for m in chosen if m.name == NAME)
        if not metrics:
            metrics = (_DEFAULT,)
        elif not any(m.type in (MatchType.EQUAL, MatchType.REGEX) for m in metrics):
            metrics = (_ANY_INFO, *metrics)
        return cls(metrics, labels)

    @cached_property
    def selector(self) -> Selector:
        """The info series to read."""
        others = [matcher for group in self.labels.values() for matcher in group]
        return Selector((*self.metrics, *others))

    @property
    def may_be_absent(self) -> bool:
        """Whether a series without info is let through: no label is asked for that must be."""
        return all(accepts(group, {}) for group in self.labels.values())

    def is_info(self, labels: LabelPairs) -> bool:
        """Whether a series is itself of an info metric that is looked at."""
        return accepts(self.metrics, {NAME: dict(labels).get(NAME, "")})

    def given(self, base: LabelPairs, infos: Sequence[LabelPairs]) -> LabelPairs:
        """A series' labels with those of its info series; `Unprocessable` if these differ."""
        labels, added = dict(base), dict[str, str]()
        for name, value in (pair for pairs in infos for pair in pairs):
            if name == NAME or (self.labels and name not in self.labels):
                continue
            if added.get(name, value) != value:
                raise Unprocessable(f"conflicting label: {name}")
            if name not in labels:
                added[name] = value
        return tuple(sorted((labels | added).items()))


def _also(call: Call) -> Sequence[Reach]:
    return (Reach(Wanted.of(call).selector, 0, newest=True),)


@function("info", lazy=True, also=_also, labels_only=frozenset({1}))
def _info(asked: Asked, args: Sequence[Value]) -> Value:
    wanted = Wanted.of(asked.node)
    base = asked.vector(asked.node.args[0])
    info, times = asked.newest(Select(wanted.selector))
    chosen = _chosen(base, info, times, wanted)
    names = sorted({name for name, _ in chosen})
    labels: list[LabelPairs] = []
    rows: list[int] = []
    present = []
    for i, pairs in enumerate(base.labels):
        keys = [] if wanted.is_info(pairs) else [(name, _identity(pairs)) for name in names]
        places = [chosen[key] for key in keys if key in chosen]
        steps = base.values.shape[1]
        together = np.stack(places) if places else np.full((1, steps), -1)
        # The info series may change on the way; each combination is a series of its own.
        for combination in np.unique(together[:, base.present[i]], axis=1).T:
            infos = [info.labels[place] for place in combination.tolist() if place >= 0]
            if not infos and not wanted.may_be_absent and not wanted.is_info(pairs):
                continue
            labels.append(wanted.given(pairs, infos))
            rows.append(i)
            present.append(base.present[i] & (together == combination[:, None]).all(axis=0))
    if not rows:
        return Vector.empty(base.values.shape[1])
    return merged(Vector(labels, base.values[rows], np.stack(present)))


def _identity(labels: LabelPairs) -> LabelPairs:
    return tuple(pair for pair in labels if pair[0] in _IDENTIFYING)


def _chosen(base: Vector, info: Vector, times: Times, wanted: Wanted) -> dict[Key, Places]:
    """The place of the newest info series at each step (steps,) by what it tells of, -1 for none.

    `Unprocessable` where two are as new as each other.
    """
    known: dict[str, set[str]] = {}
    for pairs in base.labels:
        if not wanted.is_info(pairs):
            for name, value in _identity(pairs):
                known.setdefault(name, set()).add(value)
    chosen: dict[Key, Places] = {}
    newest: dict[Key, Times] = {}
    for row, pairs in enumerate(info.labels):
        labels = dict(pairs)
        if not known or any(labels.get(name, "") not in values for name, values in known.items()):
            continue
        key = (labels.get(NAME, ""), _identity(pairs))
        if key not in chosen:
            chosen[key] = np.full(times.shape[1], -1)
            newest[key] = np.full(times.shape[1], np.iinfo(np.int64).min)
        there, at = info.present[row], times[row]
        if (twice := there & (at == newest[key])).any():
            step = int(np.argmax(twice))
            other = info.labels[int(chosen[key][step])]
            raise Unprocessable(
                f"found duplicate series for info metric: existing {written(other)} @ "
                f"{at[step]}, new {written(pairs)} @ {at[step]}"
            )
        later = there & (at > newest[key])
        chosen[key] = np.where(later, row, chosen[key])
        newest[key] = np.where(later, at, newest[key])
    return chosen
