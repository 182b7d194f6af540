"""Functions that models add to PromQL.

Filters give the series for which something holds, under their own names and with their newest
values, as comparisons do:

    anomalous(m [, score])                             the anomaly score is so high; else 0.999
    over_budget(m, alerts_a_week)                      an anomaly rare enough to spend the budget on
    will_cross(m, ">", threshold [, seconds [, p]])    the forecast crosses it within that time
    level_changed(m, seconds)                          the level changed within that time
    unlike_peers(m, seconds, score [, "label" …])      unlike the others of its group over that time
    silent(m, seconds)                                 no sample for so long, though there were some

Measures give numbers: see `service.rules.measures`. All of them take a metric, with matchers or
without. `Judging` is what they ask; rules bring one that knows the tenant's head.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from service.domain.durations import format_duration
from service.domain.errors import InvalidInput
from service.domain.rules import Condition
from service.domain.series import (
    ALERT,
    DERIVED,
    EXPECTED,
    EXPECTED_LOWER,
    EXPECTED_UPPER,
    SCORE,
    LabelPairs,
    Series,
)
from service.query.promql.expressions import Call, Number, Select, String, ValueType
from service.query.promql.functions import FUNCTIONS
from service.query.promql.functions.registry import Asked, Function, Implementation, Reach, Value
from service.query.promql.parse import register
from service.query.promql.vectors import Array, Vector
from service.rules import measures
from service.rules.anomalies import Anomalies, Confidence
from service.rules.changes import Changes, ChangesSeen
from service.rules.forecasts import Forecasts
from service.rules.inflow import Inflows
from service.rules.looks import Look, SourceLook
from service.rules.measures import selector_of
from service.rules.peers import PAST_WINDOWS, PeerGroups
from service.rules.sight import UNKNOWN, Sight, Verdict, finite

#: The score that is anomalous where nobody says one.
ANOMALOUS = 0.999
#: A series that is silent for longer has ended; nothing is said about it any more.
ENDED_SECONDS = 86_400.0

_WEEK_MS = 7 * 86_400_000
#: Filters that look at a window of time, which is written down; seconds that it may have.
_WINDOWED, _LONGEST = ("level_changed", "unlike_peers", "silent"), 400 * 86_400.0
_LOOKBACK_MS = 300_000
_OPERATORS = {
    ">": Condition.GT,
    ">=": Condition.GTE,
    "<": Condition.LT,
    "<=": Condition.LTE,
}

#: What a filter says of one series.
Judge = Callable[[Series], Verdict]
#: Makes it for the series that are seen at a step, from the scalars of the call at that step.
Prepare = Callable[["Judging", Sight, Sequence[Series], Call, Sequence[float]], Judge]


@dataclass(slots=True)
class Judging:
    """What the functions ask besides samples. Without a rule behind it, all that it says is sure.

    `confidence` is that of models by series id, `factors` are what feedback has moved thresholds
    by and `firing` whose alert fires, both by fingerprint. `verdicts` keeps what was said last of
    each series, for rules that say why.
    """

    look: Look
    inflows: Inflows = field(default_factory=Inflows)
    changes: ChangesSeen = field(default_factory=ChangesSeen)
    anomalous: float = ANOMALOUS
    confidence: Confidence | None = None
    factors: Mapping[str, float] = field(default_factory=dict)
    firing: Collection[str] = ()
    verdicts: dict[int, Verdict] = field(default_factory=dict)

    def functions(self) -> Mapping[str, Function]:
        """Every function, the filters asking this."""
        bound = {
            name: Function(name, lambda asked, _: self.filtered(asked), lazy=True, also=reach)
            for name, (_, reach) in FILTERS.items()
        }
        return {**FUNCTIONS, **bound}

    def filtered(self, asked: Asked) -> Vector:
        """The series for which a filter says that it holds, at each step."""
        node, steps = asked.node, asked.steps.count
        prepare, reach = FILTERS[node.name]
        selector, reaches = selector_of(node), reach(node)
        scalars = [asked.scalar(arg) for arg in node.args[1:] if not isinstance(arg, String)]
        rows: dict[LabelPairs, tuple[Array, np.ndarray]] = {}
        for step in range(steps):
            sight, found = self.look.at(asked, selector, reaches, step)
            judge = prepare(self, sight, found, node, [float(one[step]) for one in scalars])
            for series in found:
                verdict = self.verdicts[series.id] = judge(series)
                if not verdict.active:
                    continue
                row = rows.get(series.labels)
                if row is None:
                    row = rows[series.labels] = np.zeros(steps), np.zeros(steps, np.bool_)
                row[0][step] = np.nan if verdict.value is None else verdict.value
                row[1][step] = True
        if not rows:
            return Vector.empty(steps)
        return Vector(
            list(rows),
            np.stack([value for value, _ in rows.values()]),
            np.stack([present for _, present in rows.values()]),
        )


def _anomalous(
    judging: Judging, sight: Sight, found: Sequence[Series], call: Call, scalars: Sequence[float]
) -> Judge:
    threshold = scalars[0] if scalars else judging.anomalous
    return _anomalies(judging, sight, found, call, threshold, None)


def _over_budget(
    judging: Judging, sight: Sight, found: Sequence[Series], call: Call, scalars: Sequence[float]
) -> Judge:
    return _anomalies(judging, sight, found, call, judging.anomalous, scalars[0])


def _anomalies(
    judging: Judging,
    sight: Sight,
    found: Sequence[Series],
    call: Call,
    threshold: float,
    alerts_a_week: float | None,
) -> Judge:
    anomalies = Anomalies(
        selector_of(call),
        threshold,
        alerts_a_week,
        sight,
        judging.inflows,
        judging.confidence,
        judging.factors,
    )
    anomalies.prepare(found)
    return anomalies.judge


def _will_cross(
    judging: Judging, sight: Sight, found: Sequence[Series], call: Call, scalars: Sequence[float]
) -> Judge:
    threshold, horizon, probability = (*scalars, None, None)[:3]
    forecasts = Forecasts(
        _operator_of(call),
        0.0 if threshold is None else threshold,
        horizon if horizon is not None and np.isfinite(horizon) else None,
        probability,
        sight,
        judging.firing,
    )
    forecasts.prepare(found)
    return forecasts.judge


def _level_changed(
    judging: Judging, sight: Sight, found: Sequence[Series], call: Call, scalars: Sequence[float]
) -> Judge:
    changes = Changes(scalars[0], sight, judging.changes)
    changes.prepare(found)
    return changes.judge


def _unlike_peers(
    judging: Judging, sight: Sight, found: Sequence[Series], call: Call, scalars: Sequence[float]
) -> Judge:
    by = [arg.value for arg in call.args if isinstance(arg, String)]
    return PeerGroups(scalars[0], scalars[1], by, sight, found).judge


def _silent(
    judging: Judging, sight: Sight, found: Sequence[Series], call: Call, scalars: Sequence[float]
) -> Judge:
    window = scalars[0]

    def judge(series: Series) -> Verdict:
        last = sight.last(series.id, sight.now_ms)
        if last is None:
            return UNKNOWN
        silent = (sight.now_ms - last[0]) / 1000
        if silent <= window:
            return Verdict(False, finite(last[1]), "")
        if silent > max(ENDED_SECONDS, 2 * window):
            return UNKNOWN
        return Verdict(True, None, f"no data for {format_duration(silent)}")

    return judge


def _reach(*suffixes: str, past_ms: int) -> Callable[[Call], Sequence[Reach]]:
    def reach(call: Call) -> Sequence[Reach]:
        selector = selector_of(call)
        derived = [Reach(selector.derived(suffix), past_ms) for suffix in suffixes]
        return [Reach(selector, past_ms), *derived]

    return reach


def _reach_of_peers(call: Call) -> Sequence[Reach]:
    return [Reach(selector_of(call), round((PAST_WINDOWS + 1) * 1000 * _number(call, 1)))]


def _reach_of_silent(call: Call) -> Sequence[Reach]:
    seconds = max(ENDED_SECONDS, 2 * _number(call, 1))
    return [Reach(selector_of(call), round(1000 * seconds))]


def _number(call: Call, place: int) -> float:
    argument = call.args[place]
    return argument.value if isinstance(argument, Number) else 0.0


def _operator_of(call: Call) -> Condition:
    operator = call.args[1]
    return _OPERATORS[operator.value] if isinstance(operator, String) else Condition.GT


_EXPECTED = (EXPECTED, EXPECTED_LOWER, EXPECTED_UPPER)
FILTERS: dict[str, tuple[Prepare, Callable[[Call], Sequence[Reach]]]] = {
    "anomalous": (_anomalous, _reach(SCORE, *_EXPECTED, past_ms=_LOOKBACK_MS)),
    "over_budget": (_over_budget, _reach(SCORE, ALERT, *_EXPECTED, past_ms=_WEEK_MS)),
    "will_cross": (_will_cross, measures.reach_of_forecast),
    "level_changed": (_level_changed, _reach(past_ms=_WEEK_MS)),
    "unlike_peers": (_unlike_peers, _reach_of_peers),
    "silent": (_silent, _reach_of_silent),
}


def _checked(call: Call) -> None:
    """`InvalidInput` if a call of ours cannot be."""
    metric = call.args[0]
    if not isinstance(metric, Select) or metric.offset_ms or metric.at is not None:
        raise InvalidInput(
            f"{call.name} takes a metric, with matchers or without, such as "
            f'{call.name}(error_rate{{region="eu"}}{", …" if len(call.args) > 1 else ""}), '
            "not an expression, an offset or @"
        )
    name = metric.selector.name or ""
    if call.name not in _WINDOWED and name.endswith(DERIVED):
        raise InvalidInput(f"{call.name} takes the metric itself, not {name}, which models wrote")
    if call.name in _WINDOWED and not isinstance(call.args[1], Number):
        raise InvalidInput(f"{call.name} takes a plain time as its second argument, such as 1h")
    if call.name in _WINDOWED and not 0 < _number(call, 1) <= _LONGEST:
        raise InvalidInput(
            f"{call.name} takes a time longer than 0 and up to 400d as its second argument"
        )
    if call.name == "will_cross":
        operator = call.args[1]
        if not isinstance(operator, String) or operator.value not in _OPERATORS:
            known = ", ".join(map(repr, _OPERATORS))
            raise InvalidInput(f"will_cross takes one of {known} as its second argument")


def _enter() -> None:
    """Make the functions known to the parser and to evaluations without a rule."""
    vector, scalar, text = ValueType.VECTOR, ValueType.SCALAR, ValueType.STRING
    for name in measures.WRITTEN:
        register(name, (vector,), check=_checked)
        FUNCTIONS[name] = Function(
            name, lambda asked, _: measures.written(asked), True, measures.reach_of_written
        )
    for name, call, takes, variadic in (
        ("forecast", measures.forecast, (vector, scalar), 0),
        ("crosses_in", measures.crosses_in, (vector, scalar, scalar), 1),
    ):
        register(name, takes, variadic=variadic, check=_checked)
        FUNCTIONS[name] = Function(name, _measure(call), True, measures.reach_of_forecast)
    register("anomalous", (vector, scalar), variadic=1, check=_checked)
    register("over_budget", (vector, scalar), check=_checked)
    register("will_cross", (vector, text, scalar, scalar), variadic=2, check=_checked)
    register("level_changed", (vector, scalar), check=_checked)
    register("unlike_peers", (vector, scalar, scalar, text), variadic=-1, check=_checked)
    register("silent", (vector, scalar), check=_checked)
    for name, (_, reach) in FILTERS.items():
        FUNCTIONS[name] = Function(name, _alone, True, reach)


def _measure(call: Callable[[Asked], Vector]) -> Implementation:
    return lambda asked, _: call(asked)


def _alone(asked: Asked, args: Sequence[Value]) -> Vector:
    """A filter without a rule behind it: nothing has its turn later."""
    changes = ChangesSeen(asked.budget.limits.series, asked.budget.check)
    return Judging(SourceLook(_LOOKBACK_MS), changes=changes).filtered(asked)


_enter()
