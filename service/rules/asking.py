"""What an expression gives at one time, for rules and for templates."""

from collections.abc import Callable
from typing import cast

from service.domain.errors import Unprocessable
from service.domain.series import LabelPairs
from service.query.promql.evaluate import Settings, evaluate
from service.query.promql.expressions import Expr, ValueType
from service.query.promql.parse import parse
from service.query.promql.source import Source
from service.query.promql.vectors import Array, Steps, Vector
from service.rules.go_format import Sample

Sampled = list[tuple[LabelPairs, float]]


def instant(expr: Expr, source: Source, t_ms: int, settings: Settings) -> Sampled:
    """What an expression gives at a time, a scalar as one sample; `InvalidInput`."""
    result = evaluate(expr, source, Steps(t_ms, t_ms), settings)
    if result.type is ValueType.SCALAR:
        return [((), float(cast(Array, result.value)[0]))]
    if result.type is not ValueType.VECTOR:
        raise Unprocessable("rule result is not a vector or scalar")
    vector = cast(Vector, result.value)
    return [
        (labels, value)
        for labels, value, there in zip(
            vector.labels, vector.values[:, 0].tolist(), vector.present[:, 0].tolist(), strict=True
        )
        if there
    ]


def asked(source: Source, t_ms: int, settings: Settings) -> Callable[[str], list[Sample]]:
    """What `query` of a template asks: a text at that time; raises what `instant` does."""

    def query(text: str) -> list[Sample]:
        found = instant(parse(text), source, t_ms, settings)
        return [Sample(dict(labels), value) for labels, value in found]

    return query
