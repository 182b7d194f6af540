"""Rules as they are evaluated: each an expression, compiled once."""

from dataclasses import dataclass

from service.domain.rules import Rule
from service.domain.series import Selector
from service.query.matchers import shorten
from service.query.promql.expressions import Binary, Call, Expr, Number, Select
from service.query.promql.functions import FUNCTIONS
from service.query.promql.parse import parse
from service.rules.functions import FILTERS
from service.rules.rewriting import expr_of, walk

_SAID = {
    ">": "above {}",
    ">=": "at or above {}",
    "<": "below {}",
    "<=": "at or below {}",
    "==": "equal to {}",
    "!=": "not {}",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """A rule's expression, and what its shape tells.

    Of a comparison of a metric with a number and of a filter of models it is known which series
    they judge: `judged`. A series among them that has no young sample is neither bad nor well. Of
    other expressions only what breaks the rule is known, and whatever does not is well. `filters`
    is whether models are asked; `watches` are the series whose samples may change the answer;
    `said` completes "it is 0.12, …"; `templated` is whether labels or annotations are templates.
    """

    rule: Rule
    expr: Expr
    judged: Selector | None
    filters: bool
    watches: tuple[Selector, ...]
    said: str
    templated: bool

    @property
    def absence(self) -> bool | None:
        """Whether a series of which nothing is said still breaks the rule; None: nobody knows."""
        return False if self.judged is None else None


class Plans:
    """The plans of rules, by tenant and id."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Plan] = {}

    def of(self, tenant: str, rule: Rule) -> Plan:
        """The rule's plan."""
        known = self._known.get((tenant, rule.id))
        if known is None or (known.rule is not rule and known.rule != rule):
            known = self._known[tenant, rule.id] = plan_of(rule)
        return known

    def forget(self, tenant: str) -> None:
        """A tenant is judged elsewhere now."""
        self._known = {key: plan for key, plan in self._known.items() if key[0] != tenant}


def plan_of(rule: Rule) -> Plan:
    """The plan of a rule."""
    text = expr_of(rule)
    expr = parse(text)
    judged, said = None, f"which meets {shorten(text)}"
    if isinstance(expr, Binary) and expr.op in _SAID and not expr.returns_bool:
        left, right = expr.left, expr.right
        if isinstance(right, Number):
            said = _SAID[expr.op].format(f"{right.value:.10g}")
            judged = _plain(left)
    elif isinstance(expr, Call) and expr.name in FILTERS:
        judged = _plain(expr.args[0])
    return Plan(
        rule,
        expr,
        judged,
        any(isinstance(node, Call) and node.name in FILTERS for node in walk(expr)),
        watched(expr),
        said,
        any("{{" in text for text in (*rule.labels.values(), *rule.annotations.values())),
    )


def _plain(expr: Expr) -> Selector | None:
    """The selector of a metric that is looked at as it is now; `m >= -Inf` is one without NaN."""
    if isinstance(expr, Select) and not expr.offset_ms and expr.at is None:
        return expr.selector
    if isinstance(expr, Binary) and expr.op == ">=" and expr.right == Number(float("-inf")):
        return _plain(expr.left)
    return None


def watched(expr: Expr) -> tuple[Selector, ...]:
    """The selectors of all series that an expression looks at, each once."""
    found: dict[Selector, None] = {}
    for node in walk(expr):
        if isinstance(node, Select):
            found[node.selector] = None
        elif isinstance(node, Call):
            also = FUNCTIONS[node.name].also
            found |= dict.fromkeys(reach.selector for reach in also(node)) if also else {}
    return tuple(found)
