"""The simple form of a rule as PromQL: the expression that gives the series which break it.

    cpu gt 90                      cpu > 90
    anomaly                        anomalous(cpu)
    anomaly, alert_budget 2/week   over_budget(cpu, 2)
    forecast gte 95, horizon 1d    will_cross(disk, ">=", 95, 86400)
    change, window 1h              level_changed(cpu, 3600)
    peers, peers_by [job]          unlike_peers(cpu, 1800, 0, "job")
    no_data, window 15m            silent(cpu, 900)

The functions are those of `service.rules.functions`.
"""

from collections.abc import Iterable

from service.domain.rules import Condition, Rule
from service.domain.series import DERIVED, NAME, Matcher, MatchType, Selector
from service.query.promql.expressions import Call, Select, walk
from service.query.promql.parse import parse

_OPERATORS = {
    Condition.GT: ">",
    Condition.GTE: ">=",
    Condition.LT: "<",
    Condition.LTE: "<=",
    Condition.EQ: "==",
}
#: What models write is judged only where a rule names it.
_NOT_DERIVED = Matcher(NAME, MatchType.NOT_REGEX, f".*({'|'.join(DERIVED)})")
_LOOKS_AHEAD = ("will_cross", "crosses_in", "forecast")


def expr_of(rule: Rule) -> str:
    """The rule's expression, as PromQL writes it."""
    if rule.condition is Condition.EXPR:
        return rule.expr
    judged = judged_by(rule)
    threshold = 0.0 if rule.threshold is None else rule.threshold
    if rule.condition is Condition.ANOMALY:
        if rule.alert_budget is not None:
            return f"over_budget({judged}, {_number(rule.alert_budget)})"
        own = "" if rule.threshold is None else f", {_number(threshold)}"
        return f"anomalous({judged}{own})"
    if rule.condition is Condition.FORECAST:
        # Without a horizon it looks as far as is forecast; without a probability at the middle.
        further = [rule.horizon_seconds, rule.probability]
        while further and further[-1] is None:
            further.pop()
        more = "".join(f", {'+Inf' if one is None else _number(one)}" for one in further)
        operator = _OPERATORS[rule.operator]
        return f'will_cross({judged}, "{operator}", {_number(threshold)}{more})'
    window = _number(rule.window_seconds)
    if rule.condition is Condition.CHANGE:
        return f"level_changed({judged}, {window})"
    if rule.condition is Condition.PEERS:
        by = "".join(f', "{label}"' for label in rule.peers_by)
        return f"unlike_peers({judged}, {window}, {_number(threshold)}{by})"
    if rule.condition is Condition.NO_DATA:
        return f"silent({judged}, {window})"
    if rule.condition is Condition.NE:
        # NaN is unlike everything, yet it must not match.
        return f"({judged} >= -Inf) != {_number(threshold)}"
    return f"{judged} {_OPERATORS[rule.condition]} {_number(threshold)}"


def judged_by(rule: Rule) -> str:
    """The selector of the series that a rule of the simple form judges."""
    if rule.query.name is None:
        return selector_text(Selector((*rule.query.matchers, _NOT_DERIVED)))
    return selector_text(rule.query)


def selector_text(selector: Selector) -> str:
    """A selector as PromQL writes it, the name in front where it is one that may stand there."""
    name = selector.name
    rest = [m for m in selector.matchers if not (m.name == NAME and m.type is MatchType.EQUAL)]
    if name is None or not name.replace(":", "_").isidentifier() or not name.isascii():
        return "{" + ",".join(map(str, selector.matchers)) + "}"
    return name + ("{" + ",".join(map(str, rest)) + "}" if rest else "")


def _number(value: float) -> str:
    return f"{value:.0f}" if value == int(value) and abs(value) < 1e15 else repr(value)


def looked_ahead_at(rules: Iterable[Rule]) -> list[Selector]:
    """The selectors whose series rules judge by their forecast."""
    found: list[Selector] = []
    for rule in rules:
        if not rule.enabled:
            continue
        for node in walk(parse(expr_of(rule))):
            if isinstance(node, Call) and node.name in _LOOKS_AHEAD:
                first = node.args[0]
                if isinstance(first, Select):
                    found.append(first.selector)
    return found
