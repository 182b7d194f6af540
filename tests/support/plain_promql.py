"""What aggregations and binary operators mean, said as plainly as possible: one step at a time.

A step's vector is a list of labels and floats, in order. Nothing here is quick.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from service.domain.series import NAME, LabelPairs
from service.query.promql.expressions import Binary, Cardinality

Instant = list[tuple[LabelPairs, float]]


class Refused(Exception):
    """What Prometheus answers with an error."""


def kept(labels: LabelPairs, names: Sequence[str]) -> LabelPairs:
    """The labels with these names."""
    return tuple(pair for pair in labels if pair[0] in names)


def dropped(labels: LabelPairs, names: Sequence[str]) -> LabelPairs:
    """The labels with other names."""
    return tuple(pair for pair in labels if pair[0] not in names)


def groups(instant: Instant, labels: Sequence[str], *, without: bool) -> dict[LabelPairs, Instant]:
    """The series of each group."""
    found: dict[LabelPairs, Instant] = {}
    for pairs, value in instant:
        group = dropped(pairs, (*labels, NAME)) if without else kept(pairs, labels)
        found.setdefault(group, []).append((pairs, value))
    return found


def plus(total: float, lost: float, x: float) -> tuple[float, float]:
    """One step of a compensated sum (Neumaier): the total and what it has lost."""
    after = total + x
    if math.isinf(after):
        return after, 0.0
    if abs(total) >= abs(x):
        return after, lost + ((total - after) + x)
    return after, lost + ((x - after) + total)


def total(values: list[float]) -> float:
    """Their sum, compensated (Neumaier)."""
    so_far, lost = values[0], 0.0
    for value in values[1:]:
        so_far, lost = plus(so_far, lost, value)
    return so_far + lost


def mean(values: list[float]) -> float:
    """Their mean: the sum over the count; from where that overflows, of the mean so far."""
    so_far, lost, average, turned = values[0], 0.0, values[0], False
    for count, value in enumerate(values[1:], 2):
        if not turned:
            after, rest = plus(so_far, lost, value)
            if not math.isinf(after):
                so_far, lost = after, rest
                continue
            turned = True
            average, lost = so_far / (count - 1), lost / (count - 1)
        share = (count - 1) / count
        average, lost = plus(share * average, share * lost, value / count)
    if turned:
        return average + lost
    return so_far / len(values) + lost / len(values)


def variance(values: list[float]) -> float:
    """Of the population, by Welford's recurrence."""
    average = squares = 0.0
    for count, value in enumerate(values, 1):
        distance = value - average
        average += distance / count
        squares += distance * (value - average)
    return squares / len(values)


def quantile(q: float, values: list[float]) -> float:
    """By linear interpolation; NaN is less than any number."""
    if math.isnan(q):
        return math.nan
    if not 0 <= q <= 1:
        return math.copysign(math.inf, q)
    ordered = sorted(values, key=lambda v: (not math.isnan(v), v))
    rank = q * (len(values) - 1)
    lower = math.floor(rank)
    upper = min(len(values) - 1, lower + 1)
    weight = rank - lower
    return ordered[lower] * (1 - weight) + ordered[upper] * weight


def extreme(values: list[float], better: Callable[[float, float], bool]) -> float:
    """The first of the best that is a number."""
    best = values[0]
    for value in values[1:]:
        if better(value, best) or math.isnan(best):
            best = value
    return best


REDUCTIONS: dict[str, Callable[[list[float]], float]] = {
    "sum": total,
    "avg": mean,
    "min": lambda values: extreme(values, lambda a, b: a < b),
    "max": lambda values: extreme(values, lambda a, b: a > b),
    "count": lambda values: float(len(values)),
    "group": lambda _: 1.0,
    "stdvar": variance,
    "stddev": lambda values: math.sqrt(variance(values)),
}

COMPARING: dict[str, Callable[[float, float], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
}


def arithmetic(op: str, a: float, b: float) -> float:
    """Of two floats; whatever it is, it is no error."""
    with np.errstate(all="ignore"):
        one, other = np.float64(a), np.float64(b)
        return float(
            {
                "+": lambda: one + other,
                "-": lambda: one - other,
                "*": lambda: one * other,
                "/": lambda: one / other,
                "%": lambda: np.fmod(one, other),
                "atan2": lambda: _angle(one, other),
            }[op]()
        )


def _angle(y: np.float64, x: np.float64) -> np.float64:
    """Of a point, by the quotient, as Go has it."""
    if not (np.isfinite(x) and np.isfinite(y) and x and y):
        return np.float64(np.arctan2(y, x))
    angle = np.float64(np.arctan(y / x))
    if x > 0:
        return angle
    return angle + np.pi if angle <= 0 else angle - np.pi


def combined(expr: Binary, left: Instant, right: Instant) -> Instant:
    """`and`, `or`, `unless`."""
    lefts = {_group(expr, labels) for labels, _ in left}
    rights = {_group(expr, labels) for labels, _ in right}
    if expr.op == "and":
        return [each for each in left if _group(expr, each[0]) in rights]
    if expr.op == "unless":
        return [each for each in left if _group(expr, each[0]) not in rights]
    return left + [each for each in right if _group(expr, each[0]) not in lefts]


def joined(expr: Binary, left: Instant, right: Instant) -> Instant:
    """Arithmetic and comparisons of two vectors."""
    matching, answer = expr.matching, []
    filled = matching.fill_left is not None or matching.fill_right is not None
    if (not left and not right) or (not filled and not (left and right)):
        return []
    swapped = matching.cardinality is Cardinality.ONE_TO_MANY
    many, one = (right, left) if swapped else (left, right)
    ones: dict[LabelPairs, tuple[LabelPairs, float]] = {}
    for labels, value in one:
        group = _group(expr, labels)
        if group in ones:
            raise Refused("found duplicate series for the match group")
        ones[group] = labels, value
    matched: dict[LabelPairs, set[LabelPairs]] = {}

    def put(labels: LabelPairs, value: float, other: LabelPairs, other_value: float) -> None:
        group = _group(expr, labels)
        a, b = (other_value, value) if swapped else (value, other_value)
        result = _labels(expr, labels, other)
        if matching.cardinality is Cardinality.ONE_TO_ONE:
            if group in matched:
                raise Refused("multiple matches for labels: many-to-one matching must be explicit")
        elif result in matched.get(group, ()):
            raise Refused("multiple matches for labels: grouping labels must ensure unique matches")
        matched.setdefault(group, set()).add(result)
        if expr.op not in COMPARING:
            answer.append((result, arithmetic(expr.op, a, b)))
        elif expr.returns_bool:
            answer.append((result, float(COMPARING[expr.op](a, b))))
        elif COMPARING[expr.op](a, b):
            answer.append((result, a))

    for labels, value in many:
        group = _group(expr, labels)
        if group in ones:
            put(labels, value, *ones[group])
        elif matching.fill_right is not None:
            put(labels, value, group, matching.fill_right)
    if matching.fill_left is not None:
        for group, (labels, value) in ones.items():
            if group not in matched:
                put(group, matching.fill_left, labels, value)
    if len({labels for labels, _ in answer}) < len(answer):
        raise Refused("vector cannot contain metrics with the same labelset")
    return answer


def _group(expr: Binary, labels: LabelPairs) -> LabelPairs:
    names = expr.matching.labels
    return kept(labels, names) if expr.matching.on else dropped(labels, (*names, NAME))


def _labels(expr: Binary, labels: LabelPairs, other: LabelPairs) -> LabelPairs:
    matching = expr.matching
    if expr.op not in COMPARING:
        labels = dropped(labels, [NAME])
    if matching.cardinality is Cardinality.ONE_TO_ONE:
        select = kept if matching.on else dropped
        labels = select(labels, matching.labels)
    found = dict(dropped(labels, matching.include)) | dict(kept(other, matching.include))
    if expr.returns_bool:
        found.pop(NAME, None)
    return tuple(sorted(found.items()))
