"""`count_values`: how many series of a group have each value."""

import numpy as np

from service.domain.errors import Unprocessable
from service.domain.series import NAME
from service.query.promql.budget import QueryTooDear
from service.query.promql.expressions import Aggregate
from service.query.promql.grouping import numbered, with_labels, without_labels
from service.query.promql.numerals import fixed
from service.query.promql.vectors import Vector, with_label

#: Values that the answer may hold: each value that occurs is a series of its own.
_POINTS_MAX = 20_000_000


def count_values(expr: Aggregate, vector: Vector, label: str) -> Vector:
    """A series for each group and value, the value in `label`.

    Raises `Unprocessable` for what cannot be a label's name, `QueryTooDear` for too many values.
    """
    if not label or any("\ud800" <= char <= "\udfff" for char in label):
        raise Unprocessable(f'invalid label name "{label}"')
    # The label is replaced by the value, so what it was groups nothing.
    if expr.without:
        bare = without_labels(vector.labels, (*expr.labels, label))
    else:
        bare = with_labels(vector.labels, [name for name in expr.labels if name != label])
    groups, row = numbered(bare)
    series, step = np.nonzero(vector.present)
    # By bits, for 0 and -0 are written differently; all NaN are written alike.
    values = vector.values[series, step]
    bits = np.where(np.isnan(values), np.nan, values).view(np.int64)
    distinct, value = np.unique(bits, return_inverse=True)
    hidden = expr.without and label in (*expr.labels, NAME)
    if hidden:  # the values go with the label
        distinct, value = distinct[:1], np.zeros_like(value)
    pairs, first, place = np.unique(
        row[series] * len(distinct) + value, return_index=True, return_inverse=True
    )
    steps = vector.values.shape[1]
    if len(pairs) * steps > _POINTS_MAX:
        raise QueryTooDear(
            f"count_values found {len(pairs):,} values at {steps:,} steps; round them, take larger "
            "steps or less time"
        )
    counts = np.bincount(place * steps + step, minlength=len(pairs) * steps)
    counts = counts.reshape(len(pairs), steps)
    labels = [groups[group] for group in (pairs // max(1, len(distinct))).tolist()]
    if not hidden:
        texts = [fixed(number) for number in distinct.view(np.float64).tolist()]
        which = (pairs % max(1, len(distinct))).tolist()
        labels = [with_label(one, label, texts[i]) for one, i in zip(labels, which, strict=True)]
    order = np.argsort(first, kind="stable")
    return Vector(labels, counts.astype(np.float64), counts > 0).rows(order)
